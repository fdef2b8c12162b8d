"""AMI meetings, manual annotations 1.6.2, full-corpus-ASR partition.

NXT annotations: per speaker and meeting a file of words, and one of segments that refer to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from lithophone.data.corpora.layout import Part, first_file, folders_with, not_the_set
from lithophone.data.manifest import Entry
from lithophone.errors import ManifestError
from lithophone.transcript import Segment, Word

SESSIONS = {
    "dev": ("ES2011", "IB4001", "IB4002", "IB4003", "IB4004", "IB4010", "IB4011", "IS1008", "TS3004"),
    "test": ("EN2002", "ES2004", "IS1009", "TS3003"),
}
"""All others: train."""

ID = "{http://nite.sourceforge.net/}id"
CHILD = "{http://nite.sourceforge.net/}child"
POINTER = re.compile(r"id\(([^)]+)\)")


@dataclass(frozen=True)
class Speaker:
    """Speaker of a meeting: `agent` A to E, `channel` the number of the headset's file."""

    meeting: str
    agent: str
    name: str
    channel: str


def ami(folder: Path) -> list[Part]:
    """Headset utterances: amicorpus/MEETING/audio/MEETING.Headset-0.wav. Punctuation, capitals, word times."""
    return _parts(folder, _utterances)


def ami_sdm(folder: Path) -> list[Part]:
    """Meetings, one distant microphone: MEETING.Array1-01.wav. Punctuation, capitals, word times, speakers."""
    return _parts(folder, _meetings)


Read = Callable[[Path, Path, Sequence[Speaker]], Iterator[Entry]]


def _parts(folder: Path, read: Read) -> list[Part]:
    annotations = folders_with(folder, "corpusResources/meetings.xml", 1)
    if not annotations:
        raise not_the_set(folder, "ami_public_manual_1.6.2/corpusResources/meetings.xml")
    speakers = list(_speakers(annotations[0] / "corpusResources" / "meetings.xml"))
    by_split: dict[str, list[Speaker]] = {}
    for speaker in speakers:
        by_split.setdefault(_split(speaker.meeting), []).append(speaker)
    return [Part(split, "en", partial(read, folder, annotations[0], some)) for split, some in sorted(by_split.items())]


def _split(meeting: str) -> str:
    return next((split for split, sessions in SESSIONS.items() if meeting.startswith(sessions)), "train")


def _utterances(folder: Path, annotations: Path, speakers: Sequence[Speaker]) -> Iterator[Entry]:
    for speaker in speakers:
        audio = _audio(folder, speaker.meeting, f"Headset-{speaker.channel}")
        for number, turn in enumerate(_turns(annotations, speaker)):
            words = tuple(
                replace(word, start_s=max(word.start_s - turn.start_s, 0.0), end_s=max(word.end_s - turn.start_s, 0.0))
                for word in turn.words
            )
            yield Entry(
                audio,
                turn.text,
                "en",
                turn.end_s - turn.start_s,
                speaker=speaker.name,
                name=f"{speaker.meeting}-{speaker.agent}-{number}",
                words=words,
                start_s=turn.start_s,
                end_s=turn.end_s,
            )


def _meetings(folder: Path, annotations: Path, speakers: Sequence[Speaker]) -> Iterator[Entry]:
    for meeting in sorted({speaker.meeting for speaker in speakers}):
        present = [speaker for speaker in speakers if speaker.meeting == meeting]
        turns = sorted((t for speaker in present for t in _turns(annotations, speaker)), key=lambda turn: turn.start_s)
        words = sorted((word for turn in turns for word in turn.words), key=lambda word: word.start_s)
        text = " ".join(turn.text for turn in turns)
        yield Entry(_audio(folder, meeting, "Array1-01"), text, "en", name=meeting, words=tuple(words))


def _audio(folder: Path, meeting: str, microphone: str) -> Path:
    inside = Path(meeting) / "audio" / f"{meeting}.{microphone}.wav"
    return first_file(folder / "amicorpus" / inside, folder / "wav_db" / inside, folder / inside)


def _turns(annotations: Path, speaker: Speaker) -> Iterator[Segment]:
    """The speaker's segments with words, in order; none without transcript."""
    words = annotations / "words" / f"{speaker.meeting}.{speaker.agent}.words.xml"
    segments = annotations / "segments" / f"{speaker.meeting}.{speaker.agent}.segments.xml"
    if not (words.is_file() and segments.is_file()):
        return
    elements = list(_xml(words))
    places = {element.get(ID): place for place, element in enumerate(elements)}
    for segment in _xml(segments).iter("segment"):
        start_s, end_s = _time(segment, "transcriber_start"), _time(segment, "transcriber_end")
        ends = [places.get(name) for child in segment.iter(CHILD) for name in POINTER.findall(child.get("href", ""))]
        known = [place for place in ends if place is not None]
        spoken = [element for element in elements[known[0] : known[-1] + 1] if element.tag == "w"] if known else []
        if spoken and start_s is not None and end_s is not None and end_s > start_s:
            yield Segment(_text(spoken), start_s, end_s, tuple(_words(spoken, speaker.name)), speaker.name)


def _text(elements: Sequence[ElementTree.Element]) -> str:
    """Words joined by spaces, punctuation attached."""
    return "".join(("" if e.get("punc") == "true" else " ") + (e.text or "").strip() for e in elements).strip()


def _words(elements: Sequence[ElementTree.Element], speaker: str) -> Iterator[Word]:
    for element in elements:
        start_s, end_s = _time(element, "starttime"), _time(element, "endtime")
        if element.get("punc") != "true" and start_s is not None and end_s is not None and end_s >= start_s:
            yield Word((element.text or "").strip(), start_s, end_s, speaker=speaker)


def _speakers(path: Path) -> Iterator[Speaker]:
    for meeting in _xml(path).iter("meeting"):
        for speaker in meeting.iter("speaker"):
            yield Speaker(
                meeting.get("observation", ""),
                speaker.get("nxt_agent", ""),
                speaker.get("global_name", ""),
                speaker.get("channel", ""),
            )


def _time(element: ElementTree.Element, key: str) -> float | None:
    try:
        return float(element.get(key, ""))
    except ValueError:
        return None


def _xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ManifestError(f"{path} cannot be read as annotations of AMI: {error}") from error
