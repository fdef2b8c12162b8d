"""Manifests -> training batches. The batch of a step is a pure function of the seed and the step: no state to resume.

A row of a batch is made of clips of one corpus put one after another until it is as long as the batch wants
(speech-length augmentation): every position of an attention block is seen, little is computed for padding, and batches
have few different shapes, for which libraries keep their kernels and memory ready.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.audio.features import FRAME_S, RATE_HZ, batch_frames, frame_count, log_mel_frames
from lithophone.audio.reader import load_audio
from lithophone.data.manifest import Entry
from lithophone.errors import AudioError
from lithophone.languages import UNSPACED_LANGUAGES
from lithophone.train.data.augment import Augment, Samples, add_noise, change_speed, distort, seeded, spec_augment

log = logging.getLogger(__name__)

DRAWS = 12
"""Clips that are looked at to fill one row."""

TRIES = 4
"""Corpora that are asked for a clip that fits: one row that is too long pads all others of its batch."""


@dataclass(frozen=True)
class Clip:
    """One line of a manifest; `start` and `length` say where its samples lie in the corpus."""

    name: str
    text: str
    lang: str
    speaker: str
    start: int
    length: int
    translations: Mapping[str, str] = field(default_factory=dict)
    """Language code -> what the text means."""


class Corpus:
    """Clips of a manifest with their samples decoded once into a memory-mapped int16 file under `cache`."""

    def __init__(self, entries: Sequence[Entry], cache: Path) -> None:
        known = [_identity(entry) for entry in entries]
        key = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
        index, pcm = cache / f"{key}.json", cache / f"{key}.i16"
        if not index.exists():
            _decode_all(entries, index, pcm)
        self.clips = [Clip(**clip) for clip in json.loads(index.read_text(encoding="utf-8"))]
        self.pcm = np.memmap(pcm, np.int16, "r")
        self.hours = sum(clip.length for clip in self.clips) / RATE_HZ / 3600

    def samples(self, clip: Clip) -> Samples:
        """(n,) float32 in -1..1."""
        return self.pcm[clip.start : clip.start + clip.length].astype(np.float32) / 32768.0


def _identity(entry: Entry) -> list[object]:
    """What a cached clip depends on."""
    plain: list[object] = [str(entry.audio.resolve()), entry.text, entry.lang, entry.speaker]
    span = [] if entry.start_s is None else [entry.start_s, entry.end_s]
    return [*plain, *span, *([dict(entry.translations)] if entry.translations else [])]


def _decode_all(entries: Sequence[Entry], index: Path, pcm: Path) -> None:
    """Write the samples of all readable clips; what cannot be read is named in the log and left out.

    Ranks of one machine may do so at once: each writes files of its own, and the last to finish has its in place.
    """
    index.parent.mkdir(parents=True, exist_ok=True)
    own_pcm, own_index = (path.with_name(f"{path.name}.{os.getpid()}.part") for path in (pcm, index))
    clips, at = [], 0
    with own_pcm.open("wb") as file:
        for entry in entries:
            try:
                samples = _stretch(load_audio(entry.audio), entry)
            except AudioError as error:
                log.warning("left out: %s", error)
                continue
            file.write((samples.clip(-1, 1) * 32767).astype(np.int16).tobytes())
            clip = Clip(entry.name, entry.text, entry.lang, entry.speaker, at, len(samples), dict(entry.translations))
            clips.append(asdict(clip))
            at += len(samples)
    own_index.write_text(json.dumps(clips), encoding="utf-8")
    os.replace(own_pcm, pcm)
    os.replace(own_index, index)


def _stretch(samples: Samples, entry: Entry) -> Samples:
    """The part of the recording that the entry means."""
    if entry.start_s is None or entry.end_s is None:
        return samples
    return samples[round(entry.start_s * RATE_HZ) : round(entry.end_s * RATE_HZ)]


class Teacher:
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


@dataclass(frozen=True)
class Source:
    """A corpus in the mixture: `weight` is its share of the rows, `joins` how many clips may stand in one row."""

    corpus: Corpus
    weight: float
    teacher: Teacher | None = None
    joins: int = 4


@dataclass(frozen=True)
class Batch:
    """B rows: frames (B, T, 160), lengths (B,), texts; teacher (B, T, size) with teacher_valid (B, T).

    `translations` has for every row the languages in which the whole of its text is known; it may be left empty.
    """

    frames: Tensor
    lengths: Tensor
    texts: list[str]
    langs: list[str]
    teacher: Tensor | None
    teacher_valid: Tensor | None
    translations: list[dict[str, str]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) / 50.0

    def to(self, device: torch.device | str) -> Batch:
        tensors = {
            "frames": self.frames, "lengths": self.lengths, "teacher": self.teacher, "teacher_valid": self.teacher_valid
        }  # fmt: skip
        moved = {name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None}
        return replace(self, **moved)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Row:
    """One row before batching: its samples, its text, and its teacher states where there are any."""

    samples: Samples
    text: str
    lang: str
    translations: dict[str, str]
    teacher: npt.NDArray[np.float16] | None


class Mixture(torch.utils.data.IterableDataset[Batch]):
    """Endless batches of about `seconds` of audio each, from step `start` on. With workers each makes every n-th.

    A batch has rows of one of the lengths `row_frames` (20 ms), and as many of them as fill its seconds.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        seconds: float,
        row_frames: Sequence[int],
        augment: Augment,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.sources = list(sources)
        self.seconds = seconds
        self.row_frames = tuple(row_frames)
        self.augment = augment
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world = world
        self.teacher_size = next((s.teacher.size for s in sources if s.teacher), 0)
        self.teacher_scale = _channel_scale([s.teacher for s in sources if s.teacher])

    def __iter__(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        step = self.start + worker
        while True:
            yield self.batch(step)
            step += workers

    def batch(self, step: int) -> Batch:
        """The batch of one step, drawn anew for every step and rank."""
        rng = seeded(self.seed, "batch", step * self.world + self.rank)
        size = int(rng.choice(self.row_frames))
        rows = [self._row(size * FRAME_S, rng) for _ in range(max(1, round(self.seconds / (size * FRAME_S))))]
        frames, lengths = batch_frames([log_mel_frames(torch.from_numpy(row.samples)) for row in rows])
        frames = F.pad(frames, (0, 0, 0, -frames.shape[1] % size))
        frames = spec_augment(frames, lengths, self.augment, rng)
        teacher, valid = self._stack_teacher(rows, frames.shape[1])
        texts, langs, translations = ([getattr(r, name) for r in rows] for name in ("text", "lang", "translations"))
        return Batch(frames, lengths, texts, langs, teacher, valid, translations)

    def _row(self, target_s: float, rng: np.random.Generator) -> Row:
        speed = rng.uniform(*self.augment.speed_range) if rng.random() < self.augment.speed_p else 1.0
        target = int(target_s * RATE_HZ * speed)
        for _ in range(TRIES):
            source = self._source(rng)
            clips = _fill(source, target, rng)
            if sum(clip.length for clip in clips) <= target:
                break
        samples, states = _join(source, clips, speed)
        if rng.random() < self.augment.babble_p:
            samples = add_noise(samples, self._babble(len(samples), rng), rng.uniform(*self.augment.babble_snr_db))
        lang = clips[0].lang
        text = join_texts([clip.text for clip in clips], lang)
        return Row(distort(samples, self.augment, rng), text, lang, _translations(clips), states)

    def _source(self, rng: np.random.Generator) -> Source:
        weights = np.array([source.weight for source in self.sources])
        return self.sources[int(rng.choice(len(self.sources), p=weights / weights.sum()))]

    def _babble(self, length: int, rng: np.random.Generator) -> Samples:
        """Several people at once, as loud as each other: clips of all corpora, repeated until they are long enough."""
        voices = np.zeros(length, np.float32)
        for _ in range(int(rng.integers(*self.augment.babble_voices, endpoint=True))):
            corpus = self._source(rng).corpus
            voice = corpus.samples(corpus.clips[int(rng.integers(len(corpus.clips)))])
            voices += np.resize(voice / max(1e-4, float(np.sqrt(np.mean(voice**2)))), length)
        return voices

    def _stack_teacher(self, rows: list[Row], frames: int) -> tuple[Tensor | None, Tensor | None]:
        if not self.teacher_size:
            return None, None
        states = torch.zeros(len(rows), frames, self.teacher_size, dtype=torch.float16)
        valid = torch.zeros(len(rows), frames, dtype=torch.bool)
        for i, row in enumerate(rows):
            if row.teacher is not None:
                count = min(frames, len(row.teacher))
                mean, deviation = self.teacher_scale
                known = ~np.isnan(row.teacher[:count, 0])
                valid[i, :count] = torch.from_numpy(known)
                states[i, :count] = torch.from_numpy(np.nan_to_num((row.teacher[:count] - mean) / deviation))
        return states, valid


def join_texts(texts: Sequence[str], lang: str) -> str:
    """Sentences one after another, as the language writes them."""
    return ("" if lang in UNSPACED_LANGUAGES else " ").join(text.strip() for text in texts)


def _translations(clips: Sequence[Clip]) -> dict[str, str]:
    """The languages that all of the clips are translated into."""
    common = [lang for lang in clips[0].translations if all(lang in clip.translations for clip in clips)]
    return {lang: join_texts([clip.translations[lang] for clip in clips], lang) for lang in common}


def _channel_scale(teachers: Sequence[Teacher]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and deviation of every channel: a transformer's states have a few channels that dwarf all others."""
    if not teachers:
        return np.zeros(0, np.float32), np.ones(0, np.float32)
    sample = np.concatenate([t.states[:: max(1, len(t.states) // 5000)] for t in teachers]).astype(np.float32)
    return sample.mean(0), sample.std(0) + 1e-3


def _fill(source: Source, target: int, rng: np.random.Generator) -> list[Clip]:
    """Clips of one corpus that together stay within `target` samples; a single one may be longer.

    The first is drawn at random, the others are those of a few draws more that fill the row best: padding costs as much
    as speech.
    """
    corpus = source.corpus.clips
    drawn = [corpus[int(i)] for i in rng.integers(len(corpus), size=DRAWS)]
    short = [clip for clip in drawn if clip.length <= target]
    if not short:
        return [min(drawn, key=lambda clip: clip.length)]
    first, *others = short
    room = target - first.length
    some = [few for n in range(source.joins) for few in combinations(others, n)]
    best = max(some, key=lambda few: total if (total := sum(clip.length for clip in few)) <= room else -1)
    return [first, *best]


def _join(source: Source, clips: list[Clip], speed: float) -> tuple[Samples, npt.NDArray[np.float16] | None]:
    """Samples of the clips one after another at the given speed, and the teacher states of those very samples.

    They are not a number where a clip has none.
    """
    parts, states = [], []
    for clip in clips:
        samples = source.corpus.samples(clip)
        whole = samples[: len(samples) // 320 * 320]
        parts.append(whole if speed == 1.0 else change_speed(whole, speed))
        if source.teacher:
            found = source.teacher.of(clip.name)
            unknown = np.full((len(whole) // 320, source.teacher.size), np.nan, np.float16)
            states.append(unknown if found is None else found[: len(unknown)])
    joined = np.concatenate(parts)
    if not states:
        return joined, None
    stacked = np.concatenate(states)
    places = np.arange(frame_count(len(joined))) * speed
    return joined, stacked[np.minimum(places.astype(np.int64), len(stacked) - 1)]
