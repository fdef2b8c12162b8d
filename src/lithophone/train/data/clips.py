"""Decoded training clips in a memory-mapped cache, and their teacher states."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lithophone.audio.features import RATE_HZ
from lithophone.audio.reader import load_audio
from lithophone.data.manifest import Entry
from lithophone.errors import AudioError
from lithophone.languages import base_language
from lithophone.train.data.augment import Samples
from lithophone.train.targets.ctc_transcripts import training_language

log = logging.getLogger(__name__)

TOLERANCE_S = 0.05
"""Seconds that a stretch may exceed its file: manifests round times."""

Place: TypeAlias = tuple[int, int] | str
"""Start and length of an entry's samples in the decoded file, or why it has none."""


@dataclass(frozen=True)
class TrainingClip:
    """A manifest line; `start` and `length` are samples in the corpus's decoded file."""

    name: str
    text: str
    lang: str
    speaker: str
    start: int
    length: int
    translations: Mapping[str, str] = field(default_factory=dict)
    """Language code -> translation."""


class DecodedCorpus:
    """Clips of a manifest, decoded once into a memory-mapped int16 file under `cache`.

    The cache is keyed by path, size and modification time of every file and by its stretches, so replaced recordings
    are decoded again. Unreadable files are retried by every run, and listed with reasons in `unreadable` and the log.
    Languages of clips are without regions (`training_language`).
    """

    def __init__(self, entries: Sequence[Entry], cache: Path) -> None:
        key = hashlib.sha256(json.dumps([_identity(entry) for entry in entries]).encode()).hexdigest()[:16]
        index, pcm = cache / f"{key}.json", cache / f"{key}.i16"
        if not index.exists() or any(map(_can_read, _unread_files(_read_index(index), entries))):
            _decode_all(entries, index, pcm)
        found = _read_index(index)
        self.clips = [_clip(entry, *at) for entry, at in zip(entries, found, strict=True) if not isinstance(at, str)]
        self.unreadable = [reason for reason in found if isinstance(reason, str)]
        for reason in self.unreadable:
            log.warning("clip left out: %s", reason)
        self.pcm = np.memmap(pcm, np.int16, "r") if pcm.stat().st_size else np.zeros(0, np.int16)
        self.hours = sum(clip.length for clip in self.clips) / RATE_HZ / 3600

    def samples(self, clip: TrainingClip) -> Samples:
        """(n,) float32 in -1..1."""
        return self.pcm[clip.start : clip.start + clip.length].astype(np.float32) / 32768.0


def _clip(entry: Entry, start: int, length: int) -> TrainingClip:
    translations = {base_language(code): text for code, text in entry.translations.items()}
    lang = training_language(entry.lang)
    return TrainingClip(entry.name, entry.text, lang, entry.speaker, start, length, translations)


def _identity(entry: Entry) -> list[object]:
    """What the entry's samples depend on."""
    try:
        path = entry.audio.resolve()
    except OSError:
        path = entry.audio
    return [str(path), *entry.state]


def _read_index(path: Path) -> list[Place]:
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [at if isinstance(at, str) else (at[0], at[1]) for at in stored]


def _unread_files(places: Sequence[Place], entries: Sequence[Entry]) -> set[Path]:
    read = {entry.audio for entry, at in zip(entries, places, strict=True) if not isinstance(at, str)}
    return {entry.audio for entry in entries} - read


def _can_read(path: Path) -> bool:
    try:
        load_audio(path)
    except (AudioError, OSError):
        return False
    return True


def _decode_all(entries: Sequence[Entry], index: Path, pcm: Path) -> None:
    """Write the samples of all entries, file by file, and each entry's place or why it has none.

    Ranks of one machine may run this at once: each writes its own files, and the last one's stay.
    """
    index.parent.mkdir(parents=True, exist_ok=True)
    own_pcm, own_index = (path.with_name(f"{path.name}.{os.getpid()}.part") for path in (pcm, index))
    places: list[Place] = [""] * len(entries)
    at = 0
    with own_pcm.open("wb") as file:
        for number, samples in _decoded(entries):
            if isinstance(samples, str):
                places[number] = samples
                continue
            file.write((samples.clip(-1, 1) * 32767).astype(np.int16).tobytes())
            places[number] = at, len(samples)
            at += len(samples)
    own_index.write_text(json.dumps(places), encoding="utf-8")
    os.replace(own_pcm, pcm)
    os.replace(own_index, index)


def _decoded(entries: Sequence[Entry]) -> Iterator[tuple[int, Samples | str]]:
    """Entry number -> samples, or why there are none; every file is decoded once."""
    by_file: dict[Path, list[int]] = {}
    for number, entry in enumerate(entries):
        by_file.setdefault(entry.audio.resolve(), []).append(number)
    for audio, numbers in by_file.items():
        try:
            samples = load_audio(audio)
        except (AudioError, OSError) as error:
            yield from ((number, f"{entries[number].name}: {error}") for number in numbers)
            continue
        yield from ((number, _stretch(samples, entries[number])) for number in numbers)


def _stretch(samples: Samples, entry: Entry) -> Samples | str:
    if entry.start_s is None or entry.end_s is None:
        return samples
    part = samples[round(entry.start_s * RATE_HZ) : round(entry.end_s * RATE_HZ)]
    length_s = len(samples) / RATE_HZ
    if entry.end_s > length_s + TOLERANCE_S or not len(part):
        return (
            f"{entry.name}: {entry.start_s:g} to {entry.end_s:g} s is no stretch of {entry.audio}, which has "
            f"{length_s:.2f} s: correct start and end in the manifest"
        )
    return part


class TeacherStates:
    """Dense targets of a corpus: rows (frames, size) at 50 Hz for the clips that have them."""

    def __init__(self, stem: Path) -> None:
        self.states: npt.NDArray[np.float16] = np.load(stem.with_suffix(".npy"), mmap_mode="r")
        self.index: dict[str, list[int]] = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))

    @property
    def size(self) -> int:
        return int(self.states.shape[1])

    def of(self, name: str) -> npt.NDArray[np.float16] | None:
        if name not in self.index:
            return None
        start, count = self.index[name]
        return self.states[start : start + count]
