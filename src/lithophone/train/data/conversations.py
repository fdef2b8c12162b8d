"""Rows of several clips for a plus model: neighbours read on, or speakers who answer each other, with what to reply.

Speech-length augmentation: clips that follow each other in a manifest make one row, their word times shifted. For
turns of speakers, clips of different speakers of one corpus follow each other at other levels, with pauses between
them; where a pause is negative, what overlaps is the silence at their edges. The batch of a step is a pure function of
the seed and the step, as that of `data.py` is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.audio.features import FRAME_S, RATE_HZ, batch_frames, log_mel_frames
from lithophone.ctc.characters import raw_text
from lithophone.errors import OptionError
from lithophone.text.prompts import SpeakerTurns, Transcribe, WordTimes
from lithophone.text.replies import Turn
from lithophone.train.data.augment import Augment, Samples, change_speed, distort, seeded, spec_augment
from lithophone.train.data.batches import DRAWS, Corpus, join_texts
from lithophone.train.targets.plus_tags import TaggedRequest, speaker_reply, word_time_reply
from lithophone.train.targets.prompt_reply import KeywordSource, Request
from lithophone.transcript import Word

EDGE_DB = 40.0
"""What lies so far below the loudest 10 ms of a clip, at its edges, is silence."""

HOP = 160


@dataclass(frozen=True)
class PlusMix:
    """Shares of the tasks; what a source cannot serve (no word times, no two speakers) leaves its share to the others.

    `clustered` is a share of the replies with turns, and `alone` another: a conversation of one, so that tags are no
    promise of company.
    """

    raw: float = 0.3
    times: float = 0.3
    speakers: float = 0.3
    keywords: float = 0.1
    clustered: float = 0.3
    alone: float = 0.15

    def __post_init__(self) -> None:
        if min(getattr(self, name) for name in TASKS) < 0.0 or self.raw <= 0.0:
            raise OptionError(f"shares of tasks must be 0 or more, raw above 0: {self}")
        if not (0.0 <= self.clustered <= 1.0 and 0.0 <= self.alone <= 1.0):
            raise OptionError(f"clustered and alone are shares of the replies with turns, 0 to 1: {self}")

    @classmethod
    def parse(cls, items: Sequence[str]) -> PlusMix:
        """`["times=0.5", "alone=0"]` -> those shares, the others as they are by default. Raises OptionError."""
        known = [item.name for item in fields(cls)]
        shares: dict[str, float] = {}
        for item in items:
            name, _, value = item.partition("=")
            try:
                shares[name] = float(value)
            except ValueError:
                raise OptionError(f"{item!r} is not NAME=SHARE, with a name of {', '.join(known)}") from None
        unknown = sorted(set(shares) - set(known))
        if unknown:
            raise OptionError(f"no share {', '.join(unknown)} to set; there are {', '.join(known)}")
        return cls(**shares)


TASKS = ("raw", "times", "speakers", "keywords")


@dataclass(frozen=True)
class Talk:
    """How conversations are laid out: pauses in seconds (negative: silent edges overlap), level differences in dB."""

    speakers: tuple[int, int] = (2, 3)
    pause_s: tuple[float, float] = (-0.3, 1.0)
    level_db: float = 6.0
    most_clips: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.speakers[0] <= self.speakers[1] or self.most_clips < 2 or self.pause_s[0] > self.pause_s[1]:
            raise OptionError(f"a conversation needs 2 speakers and 2 clips at least, and ranges that rise: {self}")


@dataclass(frozen=True)
class TimedSource:
    """A corpus of one language; `weight` is its share of the rows, `words` are the raw words of every clip, with times.

    `words[i]` is empty where nothing is known of clip i; `clusters` has the numbers of voices by speaker.
    """

    corpus: Corpus
    weight: float
    words: Sequence[tuple[Word, ...]]
    clusters: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.words) == len(self.corpus.clips), "words of every clip, or () for those that have none"

    @cached_property
    def timed(self) -> list[int]:
        """Clips with word times."""
        return [i for i, words in enumerate(self.words) if words]

    @cached_property
    def by_speaker(self) -> dict[str, list[int]]:
        """The clips of every speaker who is known by name."""
        found: dict[str, list[int]] = {}
        for i, clip in enumerate(self.corpus.clips):
            if clip.speaker:
                found.setdefault(clip.speaker, []).append(i)
        return found

    @property
    def lang(self) -> str:
        return self.corpus.clips[0].lang


@dataclass(frozen=True)
class Utterance:
    """What one speaker says: samples, the text, and its raw words with times from the first sample."""

    samples: Samples
    text: str
    speaker: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class TaggedBatch:
    """B rows: frames (B, T, 160), lengths (B,), and what is asked of each and answered."""

    frames: Tensor
    lengths: Tensor
    asked: list[TaggedRequest]

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) * FRAME_S

    def to(self, device: torch.device | str) -> TaggedBatch:
        return replace(self, frames=self.frames.to(device), lengths=self.lengths.to(device))


class TaggedMixture(torch.utils.data.IterableDataset[TaggedBatch]):
    """Endless batches of about `seconds` of audio each, from step `start` on. With workers each makes every n-th.

    A batch has rows of one of the lengths `row_frames` (20 ms), and as many of them as fill its seconds.
    """

    def __init__(
        self,
        sources: Sequence[TimedSource],
        mix: PlusMix,
        *,
        seconds: float,
        row_frames: Sequence[int],
        augment: Augment,
        seed: int,
        keywords: Mapping[str, KeywordSource] | None = None,
        talk: Talk | None = None,
        joins: int = 4,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.sources = list(sources)
        self.mix = mix
        self.seconds = seconds
        self.row_frames = tuple(row_frames)
        self.augment = augment
        self.seed = seed
        self.keywords = dict(keywords or {})
        self.talk = talk or Talk()
        self.joins = joins
        self.start = start
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[TaggedBatch]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        step = self.start + worker
        while True:
            yield self.batch(step)
            step += workers

    def batch(self, step: int) -> TaggedBatch:
        """The batch of one step, drawn anew for every step and rank."""
        rng = seeded(self.seed, "batch", step * self.world + self.rank)
        size = int(rng.choice(self.row_frames))
        rows = [self._row(size * FRAME_S, rng) for _ in range(max(1, round(self.seconds / (size * FRAME_S))))]
        frames, lengths = batch_frames([log_mel_frames(torch.from_numpy(samples)) for samples, _ in rows])
        frames = F.pad(frames, (0, 0, 0, -frames.shape[1] % size))
        return TaggedBatch(spec_augment(frames, lengths, self.augment, rng), lengths, [asked for _, asked in rows])

    def _row(self, target_s: float, rng: np.random.Generator) -> tuple[Samples, TaggedRequest]:
        weights = np.array([source.weight for source in self.sources])
        source = self.sources[int(rng.choice(len(self.sources), p=weights / weights.sum()))]
        task = self._task(source, rng)
        speed = rng.uniform(*self.augment.speed_range) if rng.random() < self.augment.speed_p else 1.0
        utterances, pauses_s = self._said(task, source, int(target_s * RATE_HZ * speed), rng)
        samples, words = lay(utterances, pauses_s)
        if speed != 1.0:
            samples, words = change_speed(samples, speed), shifted(words, scale=1.0 / speed)
        asked = self._request(task, source, utterances, words, rng)
        return distort(samples, self.augment, rng), asked

    def _said(
        self, task: str, source: TimedSource, target: int, rng: np.random.Generator
    ) -> tuple[list[Utterance], list[float]]:
        """Utterances that suit a task, and the pauses between them; who reads on does so at once."""
        if task == "speakers" and rng.random() >= self.mix.alone:
            return converse(source, target, self.talk, rng)
        clips: Sequence[int] = range(len(source.corpus.clips))
        if task == "times":
            clips = source.timed
        elif task == "speakers":
            clips = source.by_speaker[str(rng.choice(sorted(source.by_speaker)))]
        read = neighbours(source, clips, target, self.joins, rng)
        return read, [0.0] * (len(read) - 1)

    def _task(self, source: TimedSource, rng: np.random.Generator) -> str:
        """One task, drawn by its share among those that the source can serve."""
        able = {
            "raw": True,
            "times": bool(source.timed),
            "speakers": len(source.by_speaker) > 1,
            "keywords": source.lang in self.keywords,
        }
        weights = np.array([getattr(self.mix, task) * able[task] for task in TASKS])
        return TASKS[int(rng.choice(len(TASKS), p=weights / weights.sum()))]

    def _request(
        self,
        task: str,
        source: TimedSource,
        utterances: Sequence[Utterance],
        words: Sequence[Word],
        rng: np.random.Generator,
    ) -> TaggedRequest:
        if task == "times":
            return TaggedRequest(Request(WordTimes(), word_time_reply(words)))
        if task == "speakers":
            clustered = bool(source.clusters) and rng.random() < self.mix.clustered
            turns = [Turn(utterance.speaker, utterance.text) for utterance in utterances]
            reply = speaker_reply(turns, source.clusters if clustered else None)
            return TaggedRequest(Request(SpeakerTurns(), reply), clustered)
        text = join_texts([utterance.text for utterance in utterances], source.lang)
        keywords = self.keywords[source.lang].draw(text, rng) if task == "keywords" else ()
        return TaggedRequest(Request(Transcribe(punctuate=False, keywords=keywords), raw_text(text)))


def utterance(source: TimedSource, index: int, gain_db: float = 0.0) -> Utterance:
    """A clip with its words, louder or softer, and never beyond full scale."""
    clip = source.corpus.clips[index]
    samples = source.corpus.samples(clip)
    gain = min(10.0 ** (gain_db / 20.0), 1.0 / max(1e-6, float(np.abs(samples).max(initial=0.0))))
    return Utterance((gain * samples).astype(np.float32), clip.text, clip.speaker, source.words[index])


def neighbours(
    source: TimedSource, clips: Sequence[int], target: int, joins: int, rng: np.random.Generator
) -> list[Utterance]:
    """One of the clips (indices that rise) and those right behind it, within `target` samples; one may be longer."""
    lengths = [source.corpus.clips[i].length for i in clips]
    drawn = rng.integers(len(clips), size=DRAWS).tolist()
    at = next((i for i in drawn if lengths[i] <= target), min(drawn, key=lengths.__getitem__))
    taken, used = [at], lengths[at]
    while len(taken) < joins and taken[-1] + 1 < len(clips) and used + lengths[taken[-1] + 1] <= target:
        if clips[taken[-1] + 1] != clips[taken[-1]] + 1:
            break
        taken.append(taken[-1] + 1)
        used += lengths[taken[-1]]
    return [utterance(source, clips[i]) for i in taken]


def converse(
    source: TimedSource, target: int, talk: Talk, rng: np.random.Generator
) -> tuple[list[Utterance], list[float]]:
    """Clips of two speakers or more, each at a level of their own, and the pauses between them in seconds.

    All speak once before anybody does again, as far as there is room in `target` samples, and nobody answers
    themselves; only where two clips do not fit is there more.
    """
    lowest, highest = talk.speakers
    names = sorted(source.by_speaker)
    count = min(int(rng.integers(lowest, highest, endpoint=True)), len(names))
    speakers = [names[int(i)] for i in rng.choice(len(names), count, replace=False)]
    levels = {speaker: float(rng.uniform(-talk.level_db, talk.level_db)) for speaker in speakers}
    turns: list[tuple[str, int]] = []
    pauses_s: list[float] = []
    used = 0
    while len(turns) < talk.most_clips:
        others = [name for name in speakers if not turns or name != turns[-1][0]]
        speaker = speakers[len(turns)] if len(turns) < count else others[int(rng.integers(len(others)))]
        pause_s = float(rng.uniform(*talk.pause_s)) if turns else 0.0
        gap = max(0, round(pause_s * RATE_HZ))
        room = (target - used - gap) // (1 if turns else 2)
        index, length = _fitting(source, speaker, room, rng)
        if length > room and len(turns) >= 2:
            break
        turns.append((speaker, index))
        pauses_s.append(pause_s)
        used += gap + length
    return [utterance(source, index, levels[speaker]) for speaker, index in turns], pauses_s[1:]


def _fitting(source: TimedSource, speaker: str, room: int, rng: np.random.Generator) -> tuple[int, int]:
    """A clip of the speaker and its samples: one that fits, or the shortest of those that were looked at."""
    known = source.by_speaker[speaker]
    drawn = [known[int(i)] for i in rng.integers(len(known), size=DRAWS)]
    length = {i: source.corpus.clips[i].length for i in drawn}
    index = next((i for i in drawn if length[i] <= room), min(drawn, key=length.__getitem__))
    return index, length[index]


def lay(utterances: Sequence[Utterance], pauses_s: Sequence[float]) -> tuple[Samples, tuple[Word, ...]]:
    """Utterances one behind another, `pauses_s[i]` between i and i + 1 -> samples (n,), and all words in new places.

    A negative pause lets the silence at the edges overlap, as far as there is silence; a word never meets another.
    """
    assert len(pauses_s) == len(utterances) - 1, "a pause between every two utterances"
    starts = [0]
    for (before, behind), pause_s in zip(pairwise(utterances), pauses_s, strict=True):
        silent = edge_silence(before.samples)[1] + edge_silence(behind.samples)[0]
        shortest = min(len(before.samples), len(behind.samples), silent)
        starts.append(starts[-1] + len(before.samples) + max(round(pause_s * RATE_HZ), -shortest))
    length = max(start + len(one.samples) for start, one in zip(starts, utterances, strict=True))
    samples = np.zeros(length, np.float32)
    words: list[Word] = []
    for start, one in zip(starts, utterances, strict=True):
        samples[start : start + len(one.samples)] += one.samples
        words += shifted(one.words, offset_s=start / RATE_HZ)
    return samples.clip(-1.0, 1.0), tuple(words)


def shifted(words: Sequence[Word], offset_s: float = 0.0, scale: float = 1.0) -> tuple[Word, ...]:
    """Words with times `offset_s + scale * t`."""
    return tuple(
        replace(word, start_s=offset_s + scale * word.start_s, end_s=offset_s + scale * word.end_s) for word in words
    )


def edge_silence(samples: Samples) -> tuple[int, int]:
    """Silent samples at the beginning and at the end of a clip, in whole steps of 10 ms; all of it if all is silent."""
    hops = len(samples) // HOP
    peaks = np.abs(samples[: hops * HOP]).reshape(hops, HOP).max(1, initial=0.0)
    loud = np.flatnonzero(peaks > peaks.max(initial=0.0) * 10.0 ** (-EDGE_DB / 20.0))
    if not len(loud):
        return len(samples), len(samples)
    return int(loud[0]) * HOP, len(samples) - (int(loud[-1]) + 1) * HOP
