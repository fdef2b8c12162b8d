"""Recordings, or parts of them, read as windows of speech."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lithophone.audio.detection import DIALOGUES, RECORDINGS
from lithophone.audio.joining import joined_windows
from lithophone.audio.reader import RATE_HZ, BlockStream, Samples, open_audio
from lithophone.audio.segmenter import PART, Segmenter, Window
from lithophone.audio.vad import SpeechDetector
from lithophone.diarization.diarizer import Diarization
from lithophone.pipeline.options import TranscribeOptions


@dataclass(frozen=True)
class AudioSource:
    """A recording, or a span or channel of it; times of its transcript count from `start_s`."""

    file: Any
    """Path, bytes of a file, file object, samples, or a BlockStream, which is read whole and closed."""
    rate_hz: float | None = None
    """Of samples; files have their own."""
    start_s: float | None = None
    end_s: float | None = None
    channel: int | None = None
    """From 0; None mixes all."""
    options: TranscribeOptions | None = None
    """In place of the call's options."""

    @property
    def name(self) -> str | None:
        """That of the file, without folder and ending; None for samples, bytes and file objects."""
        return Path(os.fsdecode(self.file)).stem if isinstance(self.file, str | os.PathLike) else None


class Reading:
    """Windows of a source, read in blocks; memory holds little more than a window.

    `joined`: windows are as long as the limit allows, without the long silences in them. `diarization` gets all windows
    as they are read.
    """

    def __init__(
        self,
        source: AudioSource,
        limit_s: float,
        detector: SpeechDetector | None = None,
        *,
        joined: bool = False,
        diarization: Diarization | None = None,
    ) -> None:
        self.source, self.limit_s, self.detector, self.joined = source, limit_s, detector, joined
        self.diarization = diarization
        self.duration_s: float | None = None
        """As the file states it; exact once read."""
        self.warnings: list[str] = []
        """What could not be read; complete once read."""
        self.stopped = False
        """Set by another thread to end the reading."""

    def windows(self) -> Generator[Window, None, None]:
        """Windows of speech in order. Raises AudioError."""
        stretches = self._diarized(self._stretches())
        yield from joined_windows(stretches, self.limit_s) if self.joined else stretches

    def _diarized(self, windows: Iterator[Window]) -> Iterator[Window]:
        for window in windows:
            if self.diarization is not None:
                self.diarization.push(window.start, window.samples)
            yield window

    def _stretches(self) -> Iterator[Window]:
        source, n = self.source, 0
        segmenter = Segmenter(self.limit_s, self.detector, DIALOGUES if self.joined else RECORDINGS)
        with contextlib.closing(_opened(source)) as stream:
            self.warnings, self.duration_s = stream.warnings, stream.duration_s
            for part in _joined(stream):
                if self.stopped:
                    return
                n += len(part)
                yield from segmenter.push(part)
        self.duration_s = n / RATE_HZ
        yield from segmenter.flush()


def _opened(source: AudioSource) -> BlockStream:
    if isinstance(source.file, BlockStream):
        return source.file
    return open_audio(source.file, source.rate_hz, channel=source.channel, start_s=source.start_s, end_s=source.end_s)


def _joined(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Blocks joined to the detector's size."""
    waiting: list[Samples] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= PART:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
