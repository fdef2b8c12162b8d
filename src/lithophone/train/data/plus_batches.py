"""Plus-model batches: word times, speaker turns, keywords and raw transcripts, drawn by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from lithophone.audio.features import FRAME_S, RATE_HZ
from lithophone.ctc.characters import raw_text
from lithophone.errors import OptionError
from lithophone.text.prompts import SpeakerTurns, Transcribe, WordTimes
from lithophone.text.replies import Turn
from lithophone.train.data.augment import Samples, change_speed, distort
from lithophone.train.data.batches import Mixture, MixtureOptions, join_texts
from lithophone.train.data.conversations import (
    ConversationOptions,
    SpeakerClip,
    TimedSource,
    neighbours,
    overlap_add,
    shifted,
    simulate_conversation,
)
from lithophone.train.shares import parse_shares
from lithophone.train.targets.plus_tags import ClusteredSpeakerTurns, speaker_reply, word_time_reply
from lithophone.train.targets.prompt_reply import KeywordSource, TaskTarget
from lithophone.transcript import Word

TASKS = ("raw", "times", "speakers", "keywords")


@dataclass(frozen=True)
class PlusMix:
    """Shares of tasks; what a source cannot serve (no word times, no two speakers) leaves its share to the others.

    Of replies with turns, `clustered` is the share with voice clusters, `alone` that of one speaker only.
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
        """Shares from `["times=0.5", "alone=0"]`, else defaults. Raises OptionError."""
        known = [item.name for item in fields(cls)]
        shares = parse_shares(items, f"NAME=SHARE, with a name of {', '.join(known)}")
        unknown = sorted(set(shares) - set(known))
        if unknown:
            raise OptionError(f"no share {', '.join(unknown)} to set; there are {', '.join(known)}")
        return cls(**shares)


@dataclass(frozen=True)
class PlusBatch:
    """B rows: frames (B, T, 160), lengths (B,), task and reply of each."""

    frames: Tensor
    lengths: Tensor
    targets: list[TaskTarget]

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) * FRAME_S

    def to(self, device: torch.device | str) -> PlusBatch:
        return replace(self, frames=self.frames.to(device), lengths=self.lengths.to(device))


@dataclass(frozen=True)
class PlusRow:
    samples: Samples
    target: TaskTarget


class PlusMixture(Mixture[TimedSource, PlusRow, PlusBatch]):
    """Rows of neighbouring clips or simulated conversations, each with a suitable task."""

    def __init__(
        self,
        sources: Sequence[TimedSource],
        options: MixtureOptions,
        mix: PlusMix,
        *,
        keywords: Mapping[str, KeywordSource] | None = None,
        conversation: ConversationOptions | None = None,
        joins: int = 4,
    ) -> None:
        super().__init__(sources, options)
        self.mix = mix
        self.keywords = dict(keywords or {})
        self.conversation = conversation or ConversationOptions()
        self.joins = joins

    def row(self, target_s: float, rng: np.random.Generator) -> PlusRow:
        source = self.draw_source(rng)
        task = self._task(source, rng)
        speed = self.draw_speed(rng)
        clips, pauses_s = self._clips(task, source, int(target_s * RATE_HZ * speed), rng)
        samples, words = overlap_add(clips, pauses_s)
        if speed != 1.0:
            samples, words = change_speed(samples, speed), shifted(words, scale=1.0 / speed)
        target = self._target(task, source, clips, words, rng)
        return PlusRow(distort(samples, self.options.augment, rng), target)

    def collate(self, rows: Sequence[PlusRow], frames: Tensor, lengths: Tensor) -> PlusBatch:
        return PlusBatch(frames, lengths, [row.target for row in rows])

    def _clips(
        self, task: str, source: TimedSource, target: int, rng: np.random.Generator
    ) -> tuple[list[SpeakerClip], list[float]]:
        """Clips for a task, and the pauses between them; neighbours of one speaker have none."""
        if task == "speakers" and rng.random() >= self.mix.alone:
            return simulate_conversation(source, target, self.conversation, rng)
        clips: Sequence[int] = range(len(source.corpus.clips))
        if task == "times":
            clips = source.timed
        elif task == "speakers":
            clips = source.by_speaker[str(rng.choice(sorted(source.by_speaker)))]
        read = neighbours(source, clips, target, self.joins, rng)
        return read, [0.0] * (len(read) - 1)

    def _task(self, source: TimedSource, rng: np.random.Generator) -> str:
        """A task, drawn by share among those the source can serve."""
        able = {
            "raw": True,
            "times": bool(source.timed),
            "speakers": len(source.by_speaker) > 1,
            "keywords": source.lang in self.keywords,
        }
        weights = np.array([getattr(self.mix, task) * able[task] for task in TASKS])
        return TASKS[int(rng.choice(len(TASKS), p=weights / weights.sum()))]

    def _target(
        self,
        task: str,
        source: TimedSource,
        clips: Sequence[SpeakerClip],
        words: Sequence[Word],
        rng: np.random.Generator,
    ) -> TaskTarget:
        if task == "times":
            return TaskTarget(WordTimes(), word_time_reply(words))
        if task == "speakers":
            turns = [Turn(clip.speaker, clip.text) for clip in clips]
            if source.clusters and rng.random() < self.mix.clustered:
                return TaskTarget(ClusteredSpeakerTurns(), speaker_reply(turns, source.clusters))
            return TaskTarget(SpeakerTurns(), speaker_reply(turns))
        text = join_texts([clip.text for clip in clips], source.lang)
        keywords = self.keywords[source.lang].draw(text, rng) if task == "keywords" else ()
        return TaskTarget(Transcribe(punctuate=False, keywords=keywords), raw_text(text))
