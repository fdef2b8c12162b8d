"""Speech batches as a pure function of seed and step, so that the step suffices to resume.

A row joins clips of one corpus up to one of a few lengths (speech-length augmentation): little padding, few shapes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.audio.features import FRAME_S, RATE_HZ, batch_frames, frame_count, log_mel_frames
from lithophone.languages import UNSPACED_LANGUAGES
from lithophone.train.data.augment import Augment, Samples, add_noise, change_speed, distort, seeded, spec_augment
from lithophone.train.data.clips import DecodedCorpus, TeacherStates, TrainingClip
from lithophone.train.targets.prompt_reply import SourceText

DRAWS = 12
"""Clips drawn to fill a row."""

TRIES = 4
"""Corpora tried for a clip that fits: a long row pads all others of its batch."""

FRAME = round(FRAME_S * RATE_HZ)
"""Samples of an encoder frame."""

AnyBatch = TypeVar("AnyBatch")


class Steps(torch.utils.data.IterableDataset[AnyBatch], ABC):
    """Endless batches from step `start` on; of n loader workers each makes every n-th."""

    start: int

    def __iter__(self) -> Iterator[AnyBatch]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        step = self.start + worker
        while True:
            yield self.batch(step)
            step += workers

    @abstractmethod
    def batch(self, step: int) -> AnyBatch:
        """The batch of a step, drawn anew per step and rank."""


@dataclass(frozen=True)
class MixtureOptions:
    """Batches of about `seconds` of audio in rows of one of `row_frames` (20 ms), for one of `world` ranks."""

    seconds: float
    row_frames: tuple[int, ...]
    augment: Augment
    seed: int
    start: int = 0
    rank: int = 0
    world: int = 1


class WeightedCorpus(Protocol):
    @property
    def weight(self) -> float: ...


class RowWithSamples(Protocol):
    @property
    def samples(self) -> Samples: ...


AnySource = TypeVar("AnySource", bound=WeightedCorpus)
AnyRow = TypeVar("AnyRow", bound=RowWithSamples)


class Mixture(Steps[AnyBatch], Generic[AnySource, AnyRow, AnyBatch]):
    """Batches whose rows are drawn from `sources` by weight."""

    def __init__(self, sources: Sequence[AnySource], options: MixtureOptions) -> None:
        self.sources = list(sources)
        self.options = options
        self.start = options.start

    def batch(self, step: int) -> AnyBatch:
        options = self.options
        rng = seeded(options.seed, "batch", step * options.world + options.rank)
        size = int(rng.choice(options.row_frames))
        rows = [self.row(size * FRAME_S, rng) for _ in range(max(1, round(options.seconds / (size * FRAME_S))))]
        frames, lengths = batch_frames([log_mel_frames(torch.from_numpy(row.samples)) for row in rows])
        frames = F.pad(frames, (0, 0, 0, -frames.shape[1] % size))
        return self.collate(rows, spec_augment(frames, lengths, options.augment, rng), lengths)

    @abstractmethod
    def row(self, target_s: float, rng: np.random.Generator) -> AnyRow:
        """A row of at most about `target_s`, augmented."""

    @abstractmethod
    def collate(self, rows: Sequence[AnyRow], frames: Tensor, lengths: Tensor) -> AnyBatch:
        """Rows with frames (B, T, 160) and lengths (B,) as a batch."""

    def draw_source(self, rng: np.random.Generator) -> AnySource:
        weights = np.array([source.weight for source in self.sources])
        return self.sources[int(rng.choice(len(self.sources), p=weights / weights.sum()))]

    def draw_speed(self, rng: np.random.Generator) -> float:
        augment = self.options.augment
        return float(rng.uniform(*augment.speed_range)) if rng.random() < augment.speed_p else 1.0


@dataclass(frozen=True)
class MixtureSource:
    """A corpus; `weight`: its share of rows, `joins`: most clips per row."""

    corpus: DecodedCorpus
    weight: float
    teacher: TeacherStates | None = None
    joins: int = 4


@dataclass(frozen=True)
class TranscribedRows:
    """B rows with text: frames (B, T, 160), lengths (B,) of valid frames."""

    frames: Tensor
    lengths: Tensor
    sources: list[SourceText]

    @property
    def texts(self) -> list[str]:
        return [source.text for source in self.sources]

    @property
    def langs(self) -> list[str]:
        return [source.lang for source in self.sources]

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) * FRAME_S


@dataclass(frozen=True)
class SpeechBatch(TranscribedRows):
    """B rows, and the states of a teacher: teacher (B, T, size) with teacher_valid (B, T)."""

    teacher: Tensor | None = None
    teacher_valid: Tensor | None = None

    def to(self, device: torch.device | str) -> SpeechBatch:
        tensors = {
            "frames": self.frames, "lengths": self.lengths, "teacher": self.teacher, "teacher_valid": self.teacher_valid
        }  # fmt: skip
        moved = {name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None}
        return replace(self, **moved)  # type: ignore[arg-type]


@dataclass(frozen=True)
class MixtureRow:
    """A row before batching; `source` has the translations that all of its clips have."""

    samples: Samples
    source: SourceText
    teacher: npt.NDArray[np.float16] | None


class SpeechMixture(Mixture[MixtureSource, MixtureRow, SpeechBatch]):
    """Rows of joined clips with texts, and the teacher's states where a source has some."""

    def __init__(self, sources: Sequence[MixtureSource], options: MixtureOptions) -> None:
        super().__init__(sources, options)
        self.teacher_size = next((s.teacher.size for s in sources if s.teacher), 0)
        self.teacher_scale = _channel_scale([s.teacher for s in sources if s.teacher])

    def row(self, target_s: float, rng: np.random.Generator) -> MixtureRow:
        row = self.clean_row(target_s, rng)
        return replace(row, samples=self.augmented(row.samples, rng))

    def clean_row(self, target_s: float, rng: np.random.Generator) -> MixtureRow:
        """A row of at most about `target_s` at a random speed, otherwise not augmented."""
        speed = self.draw_speed(rng)
        target = int(target_s * RATE_HZ * speed)
        for _ in range(TRIES):
            source = self.draw_source(rng)
            clips = _fill(source, target, rng)
            if sum(clip.length for clip in clips) <= target:
                break
        samples, states = _join(source, clips, speed)
        lang = clips[0].lang
        source_text = SourceText(join_texts([clip.text for clip in clips], lang), lang, _translations(clips))
        return MixtureRow(samples, source_text, states)

    def augmented(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Samples (n,) with babble, room, microphone, noise, codec and gain."""
        augment = self.options.augment
        if rng.random() < augment.babble_p:
            samples = add_noise(samples, self._babble(len(samples), rng), rng.uniform(*augment.babble_snr_db))
        return distort(samples, augment, rng)

    def collate(self, rows: Sequence[MixtureRow], frames: Tensor, lengths: Tensor) -> SpeechBatch:
        return SpeechBatch(frames, lengths, [row.source for row in rows], *self._stack_teacher(rows, frames.shape[1]))

    def _babble(self, length: int, rng: np.random.Generator) -> Samples:
        """Several voices at equal level: clips of all corpora, repeated to the length."""
        voices = np.zeros(length, np.float32)
        for _ in range(int(rng.integers(*self.options.augment.babble_voices, endpoint=True))):
            corpus = self.draw_source(rng).corpus
            voice = corpus.samples(corpus.clips[int(rng.integers(len(corpus.clips)))])
            voices += np.resize(voice / max(1e-4, float(np.sqrt(np.mean(voice**2)))), length)
        return voices

    def _stack_teacher(self, rows: Sequence[MixtureRow], frames: int) -> tuple[Tensor | None, Tensor | None]:
        if not self.teacher_size:
            return None, None
        states = torch.zeros(len(rows), frames, self.teacher_size, dtype=torch.float16)
        valid = torch.zeros(len(rows), frames, dtype=torch.bool)
        mean, deviation = self.teacher_scale
        for i, row in enumerate(rows):
            if row.teacher is not None:
                count = min(frames, len(row.teacher))
                known = ~np.isnan(row.teacher[:count, 0])
                valid[i, :count] = torch.from_numpy(known)
                states[i, :count] = torch.from_numpy(np.nan_to_num((row.teacher[:count] - mean) / deviation))
        return states, valid


def join_texts(texts: Sequence[str], lang: str) -> str:
    return ("" if lang in UNSPACED_LANGUAGES else " ").join(text.strip() for text in texts)


def _translations(clips: Sequence[TrainingClip]) -> dict[str, str]:
    """Translations into languages that all clips have."""
    common = [lang for lang in clips[0].translations if all(lang in clip.translations for clip in clips)]
    return {lang: join_texts([clip.translations[lang] for clip in clips], lang) for lang in common}


def _channel_scale(teachers: Sequence[TeacherStates]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and deviation of every channel: a few channels of a transformer's states are far larger than the others."""
    if not teachers:
        return np.zeros(0, np.float32), np.ones(0, np.float32)
    sample = np.concatenate([t.states[:: max(1, len(t.states) // 5000)] for t in teachers]).astype(np.float32)
    return sample.mean(0), sample.std(0) + 1e-3


def _fill(source: MixtureSource, target: int, rng: np.random.Generator) -> list[TrainingClip]:
    """Clips of one corpus within `target` samples in all; a single one may be longer.

    The first is random, the others the best fit among a few draws, since padding costs as much as speech.
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


def _join(
    source: MixtureSource, clips: list[TrainingClip], speed: float
) -> tuple[Samples, npt.NDArray[np.float16] | None]:
    """Joined samples at `speed`, and the teacher states of those samples, nan for clips without any."""
    parts, states = [], []
    for clip in clips:
        samples = source.corpus.samples(clip)
        whole = samples[: len(samples) // FRAME * FRAME]
        parts.append(whole if speed == 1.0 else change_speed(whole, speed))
        if source.teacher:
            found = source.teacher.of(clip.name)
            unknown = np.full((len(whole) // FRAME, source.teacher.size), np.nan, np.float16)
            states.append(unknown if found is None else found[: len(unknown)])
    joined = np.concatenate(parts)
    if not states:
        return joined, None
    stacked = np.concatenate(states)
    places = np.arange(frame_count(len(joined))) * speed
    return joined, stacked[np.minimum(places.astype(np.int64), len(stacked) - 1)]
