"""Diarizers that others have done: rttm files, and pipelines of pyannote.audio."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lithophone.audio.samples import RATE_HZ, Samples
from lithophone.data.nist import rttm_turns
from lithophone.diarization.clustering import SpeakerCount
from lithophone.diarization.diarizer import Diarization, Diarizer
from lithophone.errors import ManifestError, OptionError
from lithophone.transcript import Segment

TOLERANCE_S = 0.5
"""Turns may end this much behind the recording."""

SHOWN = 5
"""Names in an error."""


class RttmDiarizer:
    """Speakers of an rttm file, which names recordings as their files without folder and ending.

    White space of names is `_`. A recording without a name is the only one of the file. Raises ManifestError for a file
    that cannot be read, or is no rttm.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._turns = rttm_turns(self.path)
        if not self._turns:
            raise ManifestError(f"{path} has no turns of speakers: lines of an rttm begin with SPEAKER")

    @property
    def name(self) -> str:
        return f"rttm {hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]}"

    def start(self, recording: str | None, start_s: float, count: SpeakerCount) -> Diarization:
        """Raises OptionError where the file does not have the recording."""
        if count != SpeakerCount():
            raise OptionError(f"{self.path} has the number of speakers: leave out speakers, min_speakers, max_speakers")
        return _RttmDiarization(self.path, self._turns_of(recording), start_s)

    def _turns_of(self, recording: str | None) -> tuple[Segment, ...]:
        if recording is None and len(self._turns) == 1:
            return next(iter(self._turns.values()))
        name = None if recording is None else "_".join(recording.split())
        if name in self._turns:
            return self._turns[name]
        known = list(self._turns)
        shown = ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")
        raise OptionError(
            f"{self.path} has no recording {name or 'without a name'!r}: it has {shown}. The second field of a line is "
            "the name of the file, without folder and ending"
        )


@dataclass
class _RttmDiarization:
    path: Path
    whole: tuple[Segment, ...]
    start_s: float

    def push(self, start: int, samples: Samples) -> None:
        pass

    def turns(self, duration_s: float) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
        """Turns within the recording; a warning names the last one behind its end."""
        last = max(self.whole, key=lambda turn: turn.end_s)
        warnings = (
            f"{self.path.name} has a turn of {last.speaker} from {last.start_s:g} to {last.end_s:g} s, and the "
            f"recording ends at {self.start_s + duration_s:.1f} s: is it the rttm of another recording?",
        )
        too_long = self.start_s == 0.0 and last.end_s > duration_s + TOLERANCE_S
        return tuple(self._within(duration_s)), warnings if too_long else ()

    def _within(self, duration_s: float) -> Iterator[Segment]:
        for turn in self.whole:
            start_s, end_s = max(turn.start_s - self.start_s, 0.0), min(turn.end_s - self.start_s, duration_s)
            if start_s < end_s:
                yield replace(turn, start_s=start_s, end_s=end_s)


class PipelineDiarizer:
    """Speakers of a pipeline of pyannote.audio, or of a function that is called like one.

    It is called with `{"waveform": (1, n), "sample_rate": 16000}`, and `num_speakers`, `min_speakers` or `max_speakers`
    where they are given. All speech is kept until then, 64 kB a second of the recording.
    """

    def __init__(self, pipeline: Callable[..., Any], name: str = "") -> None:
        self.pipeline = pipeline
        self.name = name or f"pipeline {type(pipeline).__qualname__}"

    def start(self, recording: str | None, start_s: float, count: SpeakerCount) -> Diarization:
        return _PipelineDiarization(self.pipeline, count, [])


@dataclass
class _PipelineDiarization:
    pipeline: Callable[..., Any]
    count: SpeakerCount
    windows: list[tuple[int, Samples]]

    def push(self, start: int, samples: Samples) -> None:
        self.windows.append((start, samples))

    def turns(self, duration_s: float) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
        waveform = np.zeros(round(duration_s * RATE_HZ), np.float32)
        for start, samples in self.windows:
            waveform[start : start + len(samples)] = samples
        given = {"waveform": torch.from_numpy(waveform)[None], "sample_rate": RATE_HZ}
        result = self.pipeline(given, **_numbers(self.count))
        annotation = getattr(result, "speaker_diarization", result)
        turns = [
            Segment("", span.start, span.end, speaker=str(label))
            for span, _, label in annotation.itertracks(yield_label=True)
        ]
        return tuple(sorted(turns, key=lambda turn: turn.start_s)), ()


def _numbers(count: SpeakerCount) -> Mapping[str, int]:
    """Arguments of a pipeline, without those that say nothing."""
    if count.least == count.most:
        return {"num_speakers": count.least}
    least = {"min_speakers": count.least} if count.least > 1 else {}
    return least | ({"max_speakers": count.most} if count.most is not None else {})


def as_diarizer(given: Any) -> Diarizer:
    """A diarizer, or a pipeline as one; OptionError for what is neither."""
    if hasattr(given, "start") and hasattr(given, "name"):
        found: Diarizer = given
        return found
    if callable(given):
        return PipelineDiarizer(given)
    raise OptionError(
        f"diarizer is {given!r:.80}: expected RttmDiarizer(path), a pipeline of pyannote.audio, or another Diarizer"
    )
