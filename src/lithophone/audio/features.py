"""Log-mel features: samples -> frames (T, 160) of 20 ms (`preprocessor_config.json`).

Power spectrogram -> 80 mel bands (HTK, no area normalisation) -> log10, clipped at maximum - 8 -> x / 4 + 1 -> two
neighbours stacked.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.audio.samples import RATE_HZ as RATE_HZ

N_FFT = 512
WIN_LENGTH = 400
HOP_LENGTH = 160
N_MELS = 80
FRAME_SIZE = 2 * N_MELS
OVERLAP = math.ceil(N_FFT / 2 / HOP_LENGTH)
"""Hops before a spectrum that reach its first sample."""
FRAME_S = 2 * HOP_LENGTH / RATE_HZ
"""Seconds per encoder frame."""


def frame_count(n_samples: int, whole: bool = False) -> int:
    """Encoder frames (20 ms) of `n_samples`. whole: drop a half frame at the end, as nar models do."""
    return n_samples // (2 * HOP_LENGTH) if whole else (n_samples // HOP_LENGTH + 1) // 2


def audio_embedding_count(n_frames: int, window_size: int = 15, downsample_rate: int = 5) -> int:
    """Audio embeddings (100 ms) of `n_frames`; an incomplete projector window gives all its queries."""
    return math.ceil(n_frames / window_size) * (window_size // downsample_rate)


def log_mel_frames(samples: Tensor, whole: bool = False) -> Tensor:
    """Samples (n,) float32 at 16 kHz -> frames (T, 160), T = `frame_count(n, whole)`.

    whole: the maximum is of these frames only, else also of a dropped half frame.
    Below half an FFT window, samples are reflected as far as possible, then zero-padded.
    """
    mel = _mel_spectrogram(samples)
    if whole:
        mel = mel[: 2 * frame_count(len(samples), whole)]
    return _stacked(_log(mel))


class FrameStream:
    """Frames of an utterance that grows; spectra are computed once.

    A louder sample raises the floor, maximum - 8, of all frames before it.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._log = torch.zeros(0, N_MELS, device=device)
        self._samples = torch.zeros(0, device=device)
        self._first = 0
        """Index of `_samples[0]`, a multiple of the hop."""

    def push(self, samples: Tensor) -> Tensor:
        """The next samples (n,), n >= 0 -> all frames (T, 160) that later samples cannot change but for the floor."""
        self._samples = torch.cat([self._samples, samples.to(self._samples)])
        done, end = len(self._log), self._first + len(self._samples)
        complete = max(0, (end - N_FFT // 2 - 1) // HOP_LENGTH + 1)
        if complete > done:
            before = done - self._first // HOP_LENGTH
            new = _mel_spectrogram(self._samples)[before : before + complete - done]
            self._log = torch.cat([self._log, _log(new)])
            start = max(0, complete - OVERLAP) * HOP_LENGTH
            self._samples, self._first = self._samples[start - self._first :].clone(), start
        return _stacked(self._log) if len(self._log) > 1 else self._log.new_zeros(0, FRAME_SIZE)


def _log(mel: Tensor) -> Tensor:
    return mel.clamp(min=1e-10).log10()


def _stacked(log: Tensor) -> Tensor:
    """Log-mel (n, 80) -> frames (n // 2, 160), with the floor and scale of the reference."""
    log = torch.maximum(log, log.max() - 8.0) / 4.0 + 1.0
    even = log.shape[0] // 2 * 2
    return log[:even].reshape(-1, FRAME_SIZE)


def batch_frames(frames: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Frames of utterances -> (B, T, 160) zero-padded, and lengths (B,)."""
    lengths = torch.tensor([len(f) for f in frames], device=frames[0].device)
    return torch.nn.utils.rnn.pad_sequence(list(frames), batch_first=True), lengths


def _mel_spectrogram(samples: Tensor) -> Tensor:
    """(n,) -> mel power (n // 160 + 1, 80)."""
    window = F.pad(_hann(samples.device), ((N_FFT - WIN_LENGTH) // 2,) * 2)
    padded = _reflect(samples, N_FFT // 2)
    spectrum = torch.stft(padded, N_FFT, HOP_LENGTH, N_FFT, window, center=False, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return power.T @ _mel_filters(samples.device)


def _reflect(samples: Tensor, pad: int) -> Tensor:
    """Reflection padding, zeros where the samples are too short."""
    reach = max(0, min(pad, len(samples) - 1))
    reflected = F.pad(samples[None], (reach, reach), mode="reflect")[0] if reach else samples
    return F.pad(reflected, (pad - reach, pad - reach))


@functools.cache
def _hann(device: torch.device) -> Tensor:
    return torch.hann_window(WIN_LENGTH, periodic=True, device=device)


@functools.cache
def _mel_filters(device: torch.device) -> Tensor:
    """Triangles (257, 80), equally spaced on the HTK mel scale, 0 to 8 kHz."""
    bins_hz = torch.linspace(0, RATE_HZ / 2, N_FFT // 2 + 1, dtype=torch.float64)
    top_mel = 2595.0 * math.log10(1.0 + RATE_HZ / 2 / 700.0)
    corners_hz = 700.0 * (10.0 ** (torch.linspace(0, top_mel, N_MELS + 2, dtype=torch.float64) / 2595.0) - 1.0)
    width = corners_hz.diff()
    distance = corners_hz[None] - bins_hz[:, None]
    rising = -distance[:, :-2] / width[:-1]
    falling = distance[:, 2:] / width[1:]
    return torch.minimum(rising, falling).clamp(min=0).float().to(device)
