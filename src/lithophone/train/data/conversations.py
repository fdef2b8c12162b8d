"""Simulated conversations: clips of several speakers, or neighbouring clips of one, joined with word times.

Turns differ in level; pauses separate them, negative ones overlap the silences at clip edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from lithophone.audio.features import RATE_HZ
from lithophone.errors import OptionError
from lithophone.train.data.augment import Samples
from lithophone.train.data.batches import DRAWS
from lithophone.train.data.clips import DecodedCorpus
from lithophone.transcript import Word

EDGE_DB = 40.0
"""Level below a clip's loudest 10 ms at which its edges are silence."""

HOP = RATE_HZ // 100


@dataclass(frozen=True)
class ConversationOptions:
    """Ranges of speakers, pauses (seconds, negative: overlap) and levels (dB)."""

    speakers: tuple[int, int] = (2, 3)
    pause_s: tuple[float, float] = (-0.3, 1.0)
    level_db: float = 6.0
    max_clips: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.speakers[0] <= self.speakers[1] or self.max_clips < 2 or self.pause_s[0] > self.pause_s[1]:
            raise OptionError(f"a conversation needs 2 speakers and 2 clips at least, and ranges that rise: {self}")


@dataclass(frozen=True)
class TimedSource:
    """A corpus of one language; `weight`: its share of rows.

    `words[i]`: timed raw words of clip i, empty if unknown; `clusters`: by speaker.
    """

    corpus: DecodedCorpus
    weight: float
    words: Sequence[tuple[Word, ...]]
    clusters: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.words) == len(self.corpus.clips), "words of every clip, or () for those that have none"

    @cached_property
    def timed(self) -> list[int]:
        return [i for i, words in enumerate(self.words) if words]

    @cached_property
    def by_speaker(self) -> dict[str, list[int]]:
        """Clip indices by speaker; clips without a speaker are left out."""
        found: dict[str, list[int]] = {}
        for i, clip in enumerate(self.corpus.clips):
            if clip.speaker:
                found.setdefault(clip.speaker, []).append(i)
        return found

    @property
    def lang(self) -> str:
        return self.corpus.clips[0].lang


@dataclass(frozen=True)
class SpeakerClip:
    """A clip in a conversation: samples (n,), text, raw words timed from the first sample."""

    samples: Samples
    text: str
    speaker: str
    words: tuple[Word, ...] = ()


def speaker_clip(source: TimedSource, index: int, gain_db: float = 0.0) -> SpeakerClip:
    """Clip `index` at `gain_db`, limited to full scale."""
    clip = source.corpus.clips[index]
    samples = source.corpus.samples(clip)
    gain = min(10.0 ** (gain_db / 20.0), 1.0 / max(1e-6, float(np.abs(samples).max(initial=0.0))))
    return SpeakerClip((gain * samples).astype(np.float32), clip.text, clip.speaker, source.words[index])


def neighbours(
    source: TimedSource, clips: Sequence[int], target: int, joins: int, rng: np.random.Generator
) -> list[SpeakerClip]:
    """One of `clips` (rising indices) and its successors in the manifest, within `target` samples; at least one."""
    lengths = [source.corpus.clips[i].length for i in clips]
    drawn = rng.integers(len(clips), size=DRAWS).tolist()
    at = next((i for i in drawn if lengths[i] <= target), min(drawn, key=lengths.__getitem__))
    taken, used = [at], lengths[at]
    while len(taken) < joins and taken[-1] + 1 < len(clips) and used + lengths[taken[-1] + 1] <= target:
        if clips[taken[-1] + 1] != clips[taken[-1]] + 1:
            break
        taken.append(taken[-1] + 1)
        used += lengths[taken[-1]]
    return [speaker_clip(source, clips[i]) for i in taken]


def simulate_conversation(
    source: TimedSource, target: int, options: ConversationOptions, rng: np.random.Generator
) -> tuple[list[SpeakerClip], list[float]]:
    """Clips of two or more speakers, each at its own level, and the pauses between them in seconds.

    Every speaker has one turn before any has a second, and none has two in a row. The clips stay within `target`
    samples unless two exceed it.
    """
    lowest, highest = options.speakers
    names = sorted(source.by_speaker)
    count = min(int(rng.integers(lowest, highest, endpoint=True)), len(names))
    speakers = [names[int(i)] for i in rng.choice(len(names), count, replace=False)]
    levels = {speaker: float(rng.uniform(-options.level_db, options.level_db)) for speaker in speakers}
    turns: list[tuple[str, int]] = []
    pauses_s: list[float] = []
    used = 0
    while len(turns) < options.max_clips:
        others = [name for name in speakers if not turns or name != turns[-1][0]]
        speaker = speakers[len(turns)] if len(turns) < count else others[int(rng.integers(len(others)))]
        pause_s = float(rng.uniform(*options.pause_s)) if turns else 0.0
        gap = max(0, round(pause_s * RATE_HZ))
        room = (target - used - gap) // (1 if turns else 2)
        index, length = _fitting(source, speaker, room, rng)
        if length > room and len(turns) >= 2:
            break
        turns.append((speaker, index))
        pauses_s.append(pause_s)
        used += gap + length
    return [speaker_clip(source, index, levels[speaker]) for speaker, index in turns], pauses_s[1:]


def _fitting(source: TimedSource, speaker: str, room: int, rng: np.random.Generator) -> tuple[int, int]:
    """Index and length of a clip of the speaker: one that fits, or the shortest of DRAWS."""
    known = source.by_speaker[speaker]
    drawn = [known[int(i)] for i in rng.integers(len(known), size=DRAWS)]
    length = {i: source.corpus.clips[i].length for i in drawn}
    index = next((i for i in drawn if length[i] <= room), min(drawn, key=length.__getitem__))
    return index, length[index]


def overlap_add(clips: Sequence[SpeakerClip], pauses_s: Sequence[float]) -> tuple[Samples, tuple[Word, ...]]:
    """Join clips with `pauses_s[i]` between i and i + 1 -> samples (n,), words at their new times.

    A negative pause overlaps silence with silence only: words never overlap.
    """
    assert len(pauses_s) == len(clips) - 1, "a pause between every two clips"
    starts = [0]
    for (before, behind), pause_s in zip(pairwise(clips), pauses_s, strict=True):
        silent = edge_silence(before.samples)[1] + edge_silence(behind.samples)[0]
        shortest = min(len(before.samples), len(behind.samples), silent)
        starts.append(starts[-1] + len(before.samples) + max(round(pause_s * RATE_HZ), -shortest))
    length = max(start + len(one.samples) for start, one in zip(starts, clips, strict=True))
    samples = np.zeros(length, np.float32)
    words: list[Word] = []
    for start, one in zip(starts, clips, strict=True):
        samples[start : start + len(one.samples)] += one.samples
        words += shifted(one.words, offset_s=start / RATE_HZ)
    return samples.clip(-1.0, 1.0), tuple(words)


def shifted(words: Sequence[Word], offset_s: float = 0.0, scale: float = 1.0) -> tuple[Word, ...]:
    """Words with times `offset_s + scale * t`."""
    return tuple(
        replace(word, start_s=offset_s + scale * word.start_s, end_s=offset_s + scale * word.end_s) for word in words
    )


def edge_silence(samples: Samples) -> tuple[int, int]:
    """Silent samples at both edges of a clip, in steps of 10 ms; its length twice if all is silent."""
    hops = len(samples) // HOP
    peaks = np.abs(samples[: hops * HOP]).reshape(hops, HOP).max(1, initial=0.0)
    loud = np.flatnonzero(peaks > peaks.max(initial=0.0) * 10.0 ** (-EDGE_DB / 20.0))
    if not len(loud):
        return len(samples), len(samples)
    return int(loud[0]) * HOP, len(samples) - (int(loud[-1]) + 1) * HOP
