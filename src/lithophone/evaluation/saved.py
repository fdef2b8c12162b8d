"""Hypotheses on disk, clip by clip, from which a stopped run resumes.

JSON lines that `read_hypotheses` reads, with seconds of processing and audio, what made them, and the state of their
recordings. Failed clips are not written, and so tried again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lithophone.data.manifest import NO_FILE, Entry, State
from lithophone.errors import ManifestError, OptionError
from lithophone.evaluation.hypotheses import Hypothesis
from lithophone.files import write_whole
from lithophone.transcript import Segment, Word


@dataclass(frozen=True)
class Answer:
    """Hypothesis of one clip, seconds of processing, seconds of audio, `Entry.state` of the clip if known."""

    hypothesis: Hypothesis
    processing_s: float
    audio_s: float
    state: State | None = None


class SavedAnswers:
    """A file with a line per clip. `made_by` names model and options; a file of others is refused."""

    def __init__(self, path: Path, made_by: str) -> None:
        self.path, self.made_by = path, made_by

    def read(self) -> dict[str, Answer]:
        """Answers of earlier runs by clip name; an unfinished last line is cut off.

        Raises ManifestError with the number of a broken line, OptionError for a file of another model or other options.
        """
        if not self.path.exists():
            return {}
        self._drop_torn_line()
        return {answer.hypothesis.name: answer for answer in self._answers()}

    def of(self, entries: Sequence[Entry]) -> dict[str, Answer]:
        """`read` without the clips whose recording or part has changed since; their lines are removed."""
        answers, states = self.read(), {entry.id: entry.state for entry in entries}
        fresh = {name: one for name, one in answers.items() if not _has_changed(one.state, states.get(name))}
        if len(fresh) < len(answers):
            write_whole(self.path, "".join(map(self._json_line, fresh.values())))
        return fresh

    def append(self, answer: Answer) -> None:
        """Write one answer; it is on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self._json_line(answer))

    def _drop_torn_line(self) -> None:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            self.path.write_bytes(whole)

    def _answers(self) -> Iterator[Answer]:
        for number, line in enumerate(self.path.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                try:
                    values = json.loads(line)
                    made_by, answer = values["made_by"], _answer(values)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise ManifestError(
                        f"{self.path}, line {number}: not a line that was saved by this command ({error!r}); "
                        "name another file, or score it with --hypotheses"
                    ) from error
                if made_by != self.made_by:
                    raise OptionError(
                        f"{self.path} was made by {made_by!r}, this run is {self.made_by!r}: name another file"
                    )
                yield answer

    def _json_line(self, answer: Answer) -> str:
        return json.dumps(self._line(answer), ensure_ascii=False) + "\n"

    def _line(self, answer: Answer) -> dict[str, Any]:
        h = answer.hypothesis
        words = [word.to_dict() for word in h.words]
        turns = [turn.to_dict() for turn in h.turns]
        return {
            "audio": h.name, "hyp": h.text, **({"words": words} if words else {}),
            **({"segments": turns} if turns else {}), "seconds": answer.processing_s, "duration": answer.audio_s,
            "made_by": self.made_by, **({"state": answer.state} if answer.state else {}),
        }  # fmt: skip


def _has_changed(before: State | None, now: State | None) -> bool:
    """False where either is unknown."""
    return before is not None and now is not None and now[0] != NO_FILE and before != now


def _answer(values: dict[str, Any]) -> Answer:
    words = tuple(map(Word.from_dict, values.get("words", ())))
    turns = tuple(map(Segment.from_dict, values.get("segments", ())))
    hypothesis = Hypothesis(values["audio"], values["hyp"], words, turns)
    return Answer(hypothesis, values["seconds"], values["duration"], values.get("state"))
