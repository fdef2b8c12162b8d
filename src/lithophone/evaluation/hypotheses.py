"""What any system heard: read from its files, and matched with the clips of a manifest.

Kinds, told by the suffix of a file:

    jsonl  one object a line. Which clip: `id`, `audio` or `audio_filepath`. What was heard: `hyp`, `pred_text` or
           `text`, the first of them that is there. Optional: `words`, as in manifests, and `segments`, objects with
           start, end, text and, where known, speaker and words. Times that cannot be used are to be left out: a clip
           without words then counts as malformed where words are timed
    json   such an object of one clip, called as the file is, as whisper and `lithophone transcribe` write it; or lines
           of them, as NeMo calls its files
    ctm    words with times, of any number of recordings
    stm    turns with speakers, times and text, of any number of recordings
    rttm   turns with speakers and times, without a text: `with_speakers` gives them to the words of another file
    srt    subtitles of one clip, called as the file is
    vtt    the same
    txt    plain text of one clip, called as the file is

A folder stands for all files of one kind below it; files of one clip each are called by their path in it. An empty file
of one clip in a folder is a clip in which nothing was heard.
"""

from __future__ import annotations

import json
import logging
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lithophone.data.manifest import Entry, json_list, json_object, parsed_lines, stretch, timed_words
from lithophone.data.nist import NOT_SCORED, ctm_words, rttm_turns, stm_turns
from lithophone.data.subtitles import read_subtitles
from lithophone.errors import ManifestError, OptionError
from lithophone.transcript import Segment, Word

NAME_KEYS = ("id", "audio", "audio_filepath")
TEXT_KEYS = ("hyp", "pred_text", "text")

MAX_PARTS = 4
"""Folders and file of a path that are compared where two paths begin differently."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hypothesis:
    """What a system heard in one clip. Times are seconds from the start of the clip."""

    name: str
    """The clip, as the system's file writes it."""
    text: str
    words: tuple[Word, ...] = ()
    turns: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Matched:
    """Every entry with its hypothesis, in the manifest's order, and what is left over."""

    pairs: tuple[tuple[Entry, Hypothesis | None], ...]
    without_hypothesis: tuple[str, ...]
    """Names of entries."""
    without_reference: tuple[str, ...]
    """Names of hypotheses."""
    outside: int = 0
    """Words (or turns, where words are not timed) of whole recordings that lie in no entry's stretch: not scored."""


def read_hypotheses(path: str | Path, kind: str | None = None) -> dict[str, Hypothesis]:
    """Hypotheses of a file, or of all files of one kind below a folder, by name.

    kind: one of KINDS where the suffix does not tell.

    Raises ManifestError, with the number of the line where there is one, for what cannot be read, for names that are
    there twice and where there is no hypothesis at all; OptionError for an unknown kind, or several in a folder.
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


def match(entries: Sequence[Entry], hypotheses: Mapping[str, Hypothesis]) -> Matched:
    """Give every entry its hypothesis.

    By the entry's name as it is written; else by the end of the path without its suffix: the last four parts of it,
    three, two, and at last the name of the file alone, each only where a single entry and a single hypothesis end like
    that. Entries that are stretches of a recording and have no hypothesis of their own share the one of the recording,
    cut by the times of its words, or else of its turns: each goes where its middle lies.

    Raises ManifestError for two entries with one name, and for a hypothesis of a recording that must be cut and has no
    times.
    """
    by_name = _by_name(entries)
    given = _assigned(by_name, hypotheses)
    used = set(given.values())
    heard = {name: hypotheses[key] for name, key in given.items()}
    recordings = _recordings(entry for name, entry in by_name.items() if name not in given)
    outside = 0
    left = {name: hypothesis for name, hypothesis in hypotheses.items() if name not in used}
    for recording, key in _assigned(map(str, recordings), left).items():
        used.add(key)
        cuts, rest = _cut(hypotheses[key], recordings[Path(recording)])
        heard |= cuts
        outside += rest
    if outside:
        logger.warning("%d words or turns lie in no stretch of the manifest and are not scored", outside)
    return Matched(
        tuple((entry, heard.get(name)) for name, entry in by_name.items()),
        tuple(name for name in by_name if name not in heard),
        tuple(name for name in hypotheses if name not in used),
        outside,
    )


def with_speakers(hypotheses: Mapping[str, Hypothesis], turns: Mapping[str, Hypothesis]) -> dict[str, Hypothesis]:
    """Hypotheses whose words have the speakers of the turns (of an rttm, say) that they lie in.

    A word belongs to the turn it shares most time with, and to the nearest one if it shares none. Raises ManifestError
    where a hypothesis has no turns of its name, or its words no times.
    """
    missing = [name for name in hypotheses if name not in turns or not turns[name].turns]
    if missing:
        raise ManifestError(f"{len(missing)} hypotheses have no turns of their name; the first is {missing[0]!r}")
    untimed = [name for name, hypothesis in hypotheses.items() if hypothesis.text and not hypothesis.words]
    if untimed:
        raise ManifestError(f"the words of {untimed[0]!r} have no times, and cannot be given to speakers")
    return {name: _with_turns(hypothesis, turns[name].turns) for name, hypothesis in hypotheses.items()}


# --- reading


Found = Iterator[tuple[str, Hypothesis]]
"""Hypotheses, and where each was found."""


def _jsonl(path: Path, _: str) -> Found:
    for number, hypothesis in parsed_lines(path, _json_line):
        yield f"{path}, line {number}", hypothesis


def _json(path: Path, name: str) -> Found:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        values = None
    if isinstance(values, dict) and not any(key in values for key in NAME_KEYS):
        yield str(path), _json_hypothesis(values, name)
    else:
        yield from _jsonl(path, name)


def _ctm(path: Path, _: str) -> Found:
    for name, words in ctm_words(path).items():
        yield str(path), Hypothesis(name, _text(words), words)


def _stm(path: Path, _: str) -> Found:
    for name, turns in stm_turns(path).items():
        text = _text(turn for turn in turns if turn.text != NOT_SCORED)
        yield str(path), Hypothesis(name, text, turns=turns)


def _rttm(path: Path, _: str) -> Found:
    for name, turns in rttm_turns(path).items():
        yield str(path), Hypothesis(name, "", turns=turns)


def _subtitles(path: Path, name: str) -> Found:
    turns = read_subtitles(path)
    timed = all(turn.words for turn in turns)
    words = tuple(word for turn in turns for word in turn.words) if timed else ()
    yield str(path), Hypothesis(name, _text(turns), words, turns)


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
"""Kinds of files by name; each is read from its path, and called as told where it holds one clip."""

SUFFIXES = {f".{kind}": kind for kind in KINDS}


def _files(path: Path, kind: str | None) -> list[tuple[Path, str]]:
    """The files to read, each with its kind."""
    if path.is_file():
        told = kind or SUFFIXES.get(path.suffix.lower())
        if told is None:
            raise OptionError(f"the suffix of {path} tells no kind of hypotheses: name one of {', '.join(KINDS)}")
        return [(path, told)]
    found = [
        (file, SUFFIXES[suffix]) for file in sorted(path.rglob("*")) if (suffix := file.suffix.lower()) in SUFFIXES
    ]
    found = [(file, told) for file, told in found if kind in (None, told)]
    kinds = Counter(told for _, told in found)
    if len(kinds) > 1:
        seen = ", ".join(f"{count} {told}" for told, count in kinds.items())
        raise OptionError(f"{path} has files of several kinds ({seen}): name the one to read")
    return found


def _json_line(line: str) -> Hypothesis:
    values = json_object(line, f"{' or '.join(NAME_KEYS)}, and {' or '.join(TEXT_KEYS)}")
    return _json_hypothesis(values, _first_of(values, NAME_KEYS))


def _json_hypothesis(values: Mapping[str, Any], name: str) -> Hypothesis:
    text = _first_of(values, TEXT_KEYS)
    turns = tuple(map(_turn, json_list(values.get("segments"), "segments", "objects with text, start and end")))
    words = _words(values.get("words")) or tuple(word for turn in turns for word in turn.words)
    return Hypothesis(name, text, words, turns)


def _words(value: object) -> tuple[Word, ...]:
    """Words whose text is under `text`, or under `word` with spaces around it, as whisper writes it."""
    items = json_list(value, "words", "objects with text, start and end")
    return timed_words([_with_text(item) for item in items])


def _with_text(item: object) -> object:
    if not isinstance(item, dict) or "text" in item or not isinstance(item.get("word"), str):
        return item
    return {**item, "text": item["word"].strip()}


def _first_of(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    value = next((values[key] for key in keys if values.get(key) is not None), None)
    if not isinstance(value, str):
        raise ManifestError(f"{' or '.join(keys)} must be there, as text; the keys are {', '.join(values) or 'none'}")
    return value


def _turn(item: object) -> Segment:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise ManifestError(f"segments has {item!r}: every one must be an object with text, start and end")
    span, speaker = stretch(item), item.get("speaker")
    if span is None:
        raise ManifestError(f"segments has {item!r} without start and end: without times leave segments out")
    return Segment(item["text"].strip(), *span, _words(item.get("words")), None if speaker is None else str(speaker))


def _text(parts: Iterable[Word | Segment]) -> str:
    return " ".join(part.text for part in parts if part.text)


# --- matching


def _by_name(entries: Sequence[Entry]) -> dict[str, Entry]:
    names = Counter(map(_name, entries))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ManifestError(
            f"{len(twice)} names are there twice in the manifest; the first is {twice[0]!r}: give every line its own id"
        )
    return {_name(entry): entry for entry in entries}


def _name(entry: Entry) -> str:
    return entry.name or str(entry.audio)


def _assigned(wanted: Iterable[str], hypotheses: Mapping[str, Hypothesis]) -> dict[str, str]:
    """Names of entries -> names of their hypotheses."""
    names = list(wanted)
    given = {name: name for name in names if name in hypotheses}
    for parts in range(MAX_PARTS, 0, -1):
        if len(given) == len(names):
            break
        ours, theirs = _unambiguous(names, parts), _unambiguous(hypotheses, parts)
        # A hypothesis that is taken ends like the entry that took it, and so like no other that is unambiguous.
        given |= {name: theirs[end] for end, name in ours.items() if end in theirs and name not in given}
    return given


def _unambiguous(names: Iterable[str], parts: int) -> dict[str, str]:
    """Ends of names -> names, where one name alone ends like that."""
    ends = {name: _end(name, parts) for name in names}
    counts = Counter(ends.values())
    return {end: name for name, end in ends.items() if counts[end] == 1}


def _end(name: str, parts: int) -> str:
    """The last parts of a path, without the suffix. A suffix has a letter: what follows the dot of a time is none."""
    stem, suffix = posixpath.splitext(name)
    whole = stem if any(map(str.isalpha, suffix)) and "#t=" not in name else name
    return "/".join(whole.strip("/").split("/")[-parts:])


def _recordings(entries: Iterable[Entry]) -> dict[Path, list[Entry]]:
    """Stretches by their recording."""
    found: dict[Path, list[Entry]] = {}
    for entry in entries:
        if entry.start_s is not None and entry.end_s is not None:
            found.setdefault(entry.audio, []).append(entry)
    return found


def _cut(hypothesis: Hypothesis, entries: Sequence[Entry]) -> tuple[dict[str, Hypothesis], int]:
    """The part of every stretch by its name, and how many words or turns lie in none."""
    if hypothesis.text and not (hypothesis.words or hypothesis.turns):
        raise ManifestError(
            f"{hypothesis.name!r} is of a whole recording of which the manifest has {len(entries)} stretches, and has "
            "no times to cut it by: give words or turns with times, or one hypothesis for every stretch"
        )
    cuts = {_name(entry): _within(hypothesis, entry) for entry in entries}
    spans = [(entry.start_s or 0.0, entry.end_s or 0.0) for entry in entries]
    parts: Sequence[Word | Segment] = hypothesis.words or hypothesis.turns
    return cuts, sum(not any(_is_within(part, *span) for span in spans) for part in parts)


def _within(hypothesis: Hypothesis, entry: Entry) -> Hypothesis:
    start_s, end_s = entry.start_s or 0.0, entry.end_s or 0.0
    words = tuple(_moved_word(word, start_s) for word in hypothesis.words if _is_within(word, start_s, end_s))
    turns = tuple(_moved_turn(turn, start_s) for turn in hypothesis.turns if _is_within(turn, start_s, end_s))
    return Hypothesis(_name(entry), _text(words if hypothesis.words else turns), words, turns)


def _is_within(part: Word | Segment, start_s: float, end_s: float) -> bool:
    return start_s <= (part.start_s + part.end_s) / 2 < end_s


def _moved_word(word: Word, start_s: float) -> Word:
    """The same, in seconds from `start_s`; what began before it begins with it."""
    return replace(word, start_s=max(word.start_s - start_s, 0.0), end_s=word.end_s - start_s)


def _moved_turn(turn: Segment, start_s: float) -> Segment:
    words = tuple(_moved_word(word, start_s) for word in turn.words)
    return replace(turn, start_s=max(turn.start_s - start_s, 0.0), end_s=turn.end_s - start_s, words=words)


def _with_turns(hypothesis: Hypothesis, turns: tuple[Segment, ...]) -> Hypothesis:
    words = tuple(
        replace(word, speaker=max(turns, key=lambda turn: _shared_s(word, turn)).speaker) for word in hypothesis.words
    )
    return replace(hypothesis, words=words, turns=turns)


def _shared_s(word: Word, turn: Segment) -> float:
    """Seconds that both last; below zero the distance between them."""
    return min(word.end_s, turn.end_s) - max(word.start_s, turn.start_s)
