"""Hypotheses of any system, read from its files.

Kinds, by suffix:

    jsonl  an object a line: the clip by `id`, `audio` or `audio_filepath`; the text by the first of `hyp`, `pred_text`,
           `text`, else the texts of `segments`, else of `words`. Optional: `words`, as in manifests, and `segments`,
           objects with text, start, end and, where known, speaker and words
    json   such an object of one clip, named by the file (whisper, WhisperX, `lithophone transcribe`), or lines (NeMo)
    ctm    timed words of any number of recordings
    stm    turns with speakers, times and text of any number of recordings
    rttm   turns with speakers and times, without text: `with_speakers` assigns them to the words of another file
    srt    subtitles of one clip, named by the file
    vtt    the same
    txt    plain text of one clip, named by the file

A folder stands for all files of one kind below it, clips named by their path in it; an empty file of one clip there is
an empty hypothesis.

A word without times (numbers in WhisperX) gets estimated ones from its neighbours: it counts in the text, not in
measures of times. Impossible times make the output malformed.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lithophone.data.manifest import as_number, json_list, json_object, parsed_lines
from lithophone.data.nist import NOT_SCORED, ctm_words, rttm_turns, stm_turns
from lithophone.data.subtitles import read_subtitles
from lithophone.errors import ManifestError, OptionError
from lithophone.transcript import Segment, Word

NAME_KEYS = ("id", "audio", "audio_filepath")
TEXT_KEYS = ("hyp", "pred_text", "text")


@dataclass(frozen=True)
class Hypothesis:
    """The output of a system for one clip; times in seconds from the start of the clip."""

    name: str
    """Name of the clip in the system's file."""
    text: str
    words: tuple[Word, ...] = ()
    turns: tuple[Segment, ...] = ()

    @property
    def timed_words(self) -> tuple[Word, ...]:
        """Words with times from the system."""
        return tuple(word for word in self.words if not isinstance(word, EstimatedWord))

    @property
    def has_speakers(self) -> bool:
        return any(word.speaker for word in self.words) or any(turn.speaker for turn in self.turns)


@dataclass(frozen=True)
class EstimatedWord(Word):
    """A word without times of its own, placed between its neighbours."""


def read_hypotheses(path: str | Path, kind: str | None = None) -> dict[str, Hypothesis]:
    """Hypotheses of a file, or of all files of one kind below a folder, by name.

    kind: one of KINDS; default by suffix.

    Raises ManifestError, with the line number if any, for what cannot be read, for duplicate names and for no
    hypothesis; OptionError for an unknown kind, or several kinds in a folder.
    """
    path = Path(path)
    if kind is not None and kind not in KINDS:
        raise OptionError(f"there are no hypotheses of kind {kind!r}: choose one of {', '.join(KINDS)}")
    if not path.exists():
        raise ManifestError(f"there is no file or folder {path}")
    files = _files(path, kind)
    found: dict[str, Hypothesis] = {}
    origins: dict[str, str] = {}
    for file, file_kind in files:
        name = file.relative_to(path).with_suffix("").as_posix() if path.is_dir() else file.stem
        for origin, hypothesis in KINDS[file_kind](file, name):
            if hypothesis.name in found:
                raise ManifestError(f"{hypothesis.name!r} is there twice: in {origins[hypothesis.name]} and {origin}")
            found[hypothesis.name], origins[hypothesis.name] = hypothesis, origin
    if not found or (path.is_file() and not path.stat().st_size):
        raise ManifestError(f"{path} has no hypotheses")
    return found


# --- reading


Found = Iterator[tuple[str, Hypothesis]]
"""Hypotheses with their origin."""


def _jsonl(path: Path, _: str) -> Found:
    for number, hypothesis in parsed_lines(path, _json_line):
        yield f"{path}, line {number}", hypothesis


def _json(path: Path, name: str) -> Found:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        values = None
    if isinstance(values, dict) and not any(key in values for key in NAME_KEYS):
        yield str(path), _json_hypothesis(values, name)
    else:
        yield from _jsonl(path, name)


def _ctm(path: Path, _: str) -> Found:
    for name, words in ctm_words(path).items():
        yield str(path), Hypothesis(name, joined(words), words)


def _stm(path: Path, _: str) -> Found:
    for name, turns in stm_turns(path).items():
        text = joined(turn for turn in turns if turn.text != NOT_SCORED)
        yield str(path), Hypothesis(name, text, turns=turns)


def _rttm(path: Path, _: str) -> Found:
    for name, turns in rttm_turns(path).items():
        yield str(path), Hypothesis(name, "", turns=turns)


def _subtitles(path: Path, name: str) -> Found:
    turns = read_subtitles(path)
    timed = all(turn.words for turn in turns)
    words = tuple(word for turn in turns for word in turn.words) if timed else ()
    yield str(path), Hypothesis(name, joined(turns), words, turns)


def _txt(path: Path, name: str) -> Found:
    lines = [line for _, line in parsed_lines(path, str.strip)]
    yield str(path), Hypothesis(name, " ".join(lines))


KINDS: Mapping[str, Callable[[Path, str], Found]] = {
    "jsonl": _jsonl,
    "json": _json,
    "ctm": _ctm,
    "stm": _stm,
    "rttm": _rttm,
    "srt": _subtitles,
    "vtt": _subtitles,
    "txt": _txt,
}
"""Readers by kind: (path, name of the clip if the file holds one)."""

SUFFIXES = {f".{kind}": kind for kind in KINDS}


def _files(path: Path, kind: str | None) -> list[tuple[Path, str]]:
    if path.is_file():
        chosen = kind or SUFFIXES.get(path.suffix.lower())
        if chosen is None:
            raise OptionError(f"the suffix of {path} is that of no kind of hypotheses: name one of {', '.join(KINDS)}")
        return [(path, chosen)]
    found = [
        (file, SUFFIXES[suffix]) for file in sorted(path.rglob("*")) if (suffix := file.suffix.lower()) in SUFFIXES
    ]
    found = [(file, one) for file, one in found if kind in (None, one)]
    kinds = Counter(one for _, one in found)
    if len(kinds) > 1:
        seen = ", ".join(f"{count} {one}" for one, count in kinds.items())
        raise OptionError(f"{path} has files of several kinds ({seen}): name the one to read")
    return found


def _json_line(line: str) -> Hypothesis:
    values = json_object(line, f"{' or '.join(NAME_KEYS)}, and {' or '.join(TEXT_KEYS)}")
    return _json_hypothesis(values, _text_of(values, NAME_KEYS))


def _json_hypothesis(values: Mapping[str, Any], name: str) -> Hypothesis:
    segments = json_list(values.get("segments"), "segments", "objects with text, start and end")
    turns = tuple(_segment(item) for item in segments)
    words = _words(values) or [word for item in segments for word in _words(item)]
    text = _known(values, TEXT_KEYS)
    if text is None and ("segments" in values or "words" in values):
        text = joined(turns or words)
    return Hypothesis(name, _text_of(values, TEXT_KEYS) if text is None else text, _with_times(words), turns)


def _words(values: Mapping[str, Any]) -> list[Word]:
    return [_word(item) for item in json_list(values.get("words"), "words", "objects with text, start and end")]


def _word(item: object) -> Word:
    """A word by `text`, or by whisper's `word` with spaces around it."""
    text = (item.get("text") or item.get("word")) if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(text, str):
        raise ManifestError(f"words has {item!r:.200}: every word must be an object with text, start and end")
    speaker = item.get("speaker")
    kind = EstimatedWord if item.get("start") is None and item.get("end") is None else Word
    return kind(text.strip(), *_span(item), speaker=None if speaker is None else str(speaker))


def _with_times(words: Sequence[Word]) -> tuple[Word, ...]:
    """Words without times get the end of the word before, or the first start; () if no word has times."""
    at_s = next((word.start_s for word in words if not isinstance(word, EstimatedWord)), None)
    if at_s is None:
        return ()
    found: list[Word] = []
    for word in words:
        estimated = isinstance(word, EstimatedWord)
        found.append(EstimatedWord(word.text, at_s, at_s, speaker=word.speaker) if estimated else word)
        at_s = found[-1].end_s
    return tuple(found)


def _segment(item: object) -> Segment:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise ManifestError(f"segments has {item!r:.200}: every one must be an object with text, start and end")
    speaker = item.get("speaker")
    name = None if speaker is None else str(speaker)
    return Segment(item["text"].strip(), *_span(item), _with_times(_words(item)), name)


def _span(item: Mapping[str, Any]) -> tuple[float, float]:
    """`start` and `end`; nan where missing, so that the text is scored anyway."""
    start_s, end_s = (as_number(item.get(key)) for key in ("start", "end"))
    return (math.nan if start_s is None else start_s), (math.nan if end_s is None else end_s)


def _known(values: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((values[key] for key in keys if values.get(key) is not None), None)


def _text_of(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    value = _known(values, keys)
    if not isinstance(value, str):
        raise ManifestError(f"{' or '.join(keys)} must be there, as text; the keys are {', '.join(values) or 'none'}")
    return value


def joined(parts: Iterable[Word | Segment]) -> str:
    return " ".join(part.text for part in parts if part.text)
