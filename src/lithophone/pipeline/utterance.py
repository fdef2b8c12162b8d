"""A recording on its way through the model: cut into jobs, put together again from pieces.

Pure: runs no model and reads no file. Windows count samples, everything that leaves here counts seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lithophone.audio.reader import RATE_HZ, Samples
from lithophone.audio.segmenter import Window
from lithophone.errors import LithophoneError
from lithophone.pipeline.assembly import shift
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.quality import Heard, no_speech, segments_of, warnings_of
from lithophone.transcript import Segment, Transcript, TranscriptWarning


@dataclass(frozen=True)
class Recording:
    """A source with its samples and windows, or with the error that stopped it."""

    source: Any
    samples: Samples | None = None
    windows: tuple[Window, ...] = ()
    error: LithophoneError | None = None

    @property
    def duration_s(self) -> float:
        return 0.0 if self.samples is None else len(self.samples) / RATE_HZ


@dataclass(frozen=True)
class Job:
    """A window of a recording; a recording without windows is one job without a window, so that it keeps its place."""

    recording: Recording
    window: Window | None
    last: bool

    @property
    def size(self) -> int:
        """Samples to be encoded."""
        return 0 if self.window is None else self.window.end - self.window.start

    @property
    def samples(self) -> Tensor:
        """Samples (n,) of the window."""
        assert self.recording.samples is not None
        assert self.window is not None
        return torch.from_numpy(self.recording.samples[self.window.start : self.window.end])


@dataclass(frozen=True)
class Piece:
    """What came of a stretch of a recording: `done_s` of `duration_s` are dealt with once it is there."""

    source: Any
    segments: tuple[Segment, ...]
    warnings: tuple[TranscriptWarning, ...]
    done_s: float
    duration_s: float


def jobs_of(recording: Recording) -> Iterator[Job]:
    """The recording's windows as jobs; at least one job."""
    windows: tuple[Window | None, ...] = recording.windows or (None,)
    return (Job(recording, window, last=i == len(windows)) for i, window in enumerate(windows, start=1))


def piece_of(job: Job, heard: Heard | None) -> Piece:
    """A job's result, its times shifted to the recording's."""
    recording = job.recording
    piece = Piece(recording.source, (), (), recording.duration_s, recording.duration_s)
    if heard is None or job.window is None:
        silent = recording.error is None
        return replace(piece, warnings=(no_speech(recording.duration_s),) if silent else ())
    start_s, end_s = job.window.start_s, job.window.end_s
    return replace(
        piece,
        segments=tuple(shift(segment, start_s) for segment in segments_of(heard.parsed, end_s - start_s)),
        warnings=warnings_of(heard, start_s, end_s),
        done_s=recording.duration_s if job.last else end_s,
    )


def transcript_of(pieces: list[Piece], options: TranscribeOptions) -> Transcript:
    """All pieces of one recording, in order, as its transcript."""
    return Transcript(
        segments=tuple(segment for piece in pieces for segment in piece.segments),
        duration_s=pieces[-1].duration_s,
        language=options.text_language,
        task=options.task,
        warnings=tuple(warning for piece in pieces for warning in piece.warnings),
    )
