"""Batches for distillation from a teacher with windows of 30 s: rows of clips that tile the teacher's windows.

The teacher reads clean windows, the student every row by itself, augmented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.audio.features import FRAME_S, FRAME_SIZE, RATE_HZ, frame_count, log_mel_frames
from lithophone.errors import OptionError
from lithophone.train.data.augment import Samples, seeded, spec_augment
from lithophone.train.data.batches import FRAME, MixtureOptions, MixtureSource, SpeechMixture, Steps, TranscribedRows
from lithophone.train.targets.prompt_reply import SourceText
from lithophone.train.transplant.whisper import WINDOW_FRAMES, WINDOW_S, WINDOW_SAMPLES

ROW_FRAMES = (250, 375, 500, 750, 1500)
"""Row lengths in 20 ms; each divides a window."""

LEAD_S = 0.3
"""Longest silence before the first clip of a row."""

JOINS = 9
"""Most clips in one row."""


@dataclass(frozen=True)
class WindowBatch(TranscribedRows):
    """Rows that tile W windows in order, and the windows without augmentation: clean (W, 480,000).

    The text of a truncated row is empty.
    """

    clean: Tensor

    @property
    def valid(self) -> Tensor:
        """(B, T)."""
        return torch.arange(self.frames.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def to(self, device: torch.device | str) -> WindowBatch:
        clean, frames, lengths = (tensor.to(device) for tensor in (self.clean, self.frames, self.lengths))
        return replace(self, clean=clean, frames=frames, lengths=lengths)


class Windows(Steps[WindowBatch]):
    """Batches of `options.seconds` of audio in whole windows, at least one.

    Raises OptionError where a row length does not divide a window.
    """

    def __init__(self, sources: Sequence[MixtureSource], options: MixtureOptions) -> None:
        wrong = [size for size in options.row_frames if size < 1 or WINDOW_FRAMES % size]
        if wrong:
            raise OptionError(f"row_frames are {wrong}: they must divide the {WINDOW_FRAMES} frames of a window")
        self.mixture = SpeechMixture([replace(source, joins=JOINS) for source in sources], options)
        self.options = options
        self.start = options.start

    def batch(self, step: int) -> WindowBatch:
        options = self.options
        rng = seeded(options.seed, "windows", step * options.world + options.rank)
        size = int(rng.choice(options.row_frames))
        count = max(1, round(options.seconds / WINDOW_S)) * WINDOW_FRAMES // size
        rows = [self._row(size, rng) for _ in range(count)]
        clean = np.concatenate([np.pad(row.samples, (0, size * FRAME - len(row.samples))) for row in rows])
        student = [log_mel_frames(torch.from_numpy(self.mixture.augmented(row.samples, rng)))[:size] for row in rows]
        lengths = torch.tensor([len(frames) for frames in student])
        frames = torch.stack([F.pad(frames, (0, 0, 0, size - len(frames))) for frames in student])
        assert frames.shape[1:] == (size, FRAME_SIZE)
        masked = spec_augment(frames, lengths, options.augment, rng)
        windows = torch.from_numpy(clean).view(-1, WINDOW_SAMPLES)
        return WindowBatch(masked, lengths, [row.source for row in rows], windows)

    def _row(self, size: int, rng: np.random.Generator) -> _WindowRow:
        """Clips after a short silence, at most `size` frames."""
        lead = int(rng.uniform(0.0, LEAD_S) * RATE_HZ)
        row = self.mixture.clean_row(size * FRAME_S - LEAD_S, rng)
        samples = np.concatenate([np.zeros(lead, np.float32), row.samples])
        truncated = frame_count(len(samples)) > size
        source = SourceText("", row.source.lang, {}) if truncated else row.source
        return _WindowRow(samples[: size * FRAME], source)


@dataclass(frozen=True)
class _WindowRow:
    samples: Samples
    source: SourceText


def rows_of(states: Tensor, rows: int) -> Tensor:
    """(W, 1500, D) -> the rows that tile the windows, (rows, T, D)."""
    return states.reshape(rows, -1, states.shape[-1])
