"""Kaldi's log-mel filterbank (`compute-fbank-feats`, no dither), the input of speaker networks."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from lithophone.audio.samples import RATE_HZ

N_BANDS = 80
FRAME, HOP, N_FFT = 400, 160, 512
"""Samples: 25 ms every 10 ms."""

LOWEST_HZ = 20.0
PREEMPHASIS = 0.97
WINDOW_POWER = 0.85
FLOOR = 2.0**-23
"""Least energy of a band (single precision epsilon)."""


def filterbank(samples: Tensor) -> Tensor:
    """Samples (..., n), n >= 400, 16 kHz, -1..1 -> log energies (..., 1 + (n - 400) // 160, 80)."""
    frames = samples.unfold(-1, FRAME, HOP)
    frames = frames - frames.mean(-1, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * _window(), N_FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    energies: Tensor = power @ _bands()
    return energies.clamp_min(FLOOR).log()


@cache
def _window() -> Tensor:
    """Povey's window (400,): a Hann window to the power of 0.85."""
    hann: Tensor = torch.hann_window(FRAME, periodic=False, dtype=torch.float64)
    return hann.pow(WINDOW_POWER).float()


@cache
def _bands() -> Tensor:
    """Triangles over the mel scale (257, 80), from 20 Hz to half the rate."""
    lowest, highest = _mel(torch.tensor([LOWEST_HZ, RATE_HZ / 2], dtype=torch.float64)).tolist()
    step = (highest - lowest) / (N_BANDS + 1)
    centres = lowest + step * torch.arange(1, N_BANDS + 1, dtype=torch.float64)
    bins = _mel(torch.arange(N_FFT // 2 + 1, dtype=torch.float64) * RATE_HZ / N_FFT)
    bands: Tensor = (1.0 - (bins[:, None] - centres).abs() / step).clamp_min(0.0)
    bands[-1] = 0.0
    return bands.float()


def _mel(hz: Tensor) -> Tensor:
    scaled: Tensor = hz / 700.0
    return scaled.log1p() * 1127.0
