"""Whisper's encoder as a teacher: log-mel input, and the residual stream layer by layer.

Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision". Every published size; sizes
are read from the weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lithophone.audio.features import FRAME_S, RATE_HZ
from lithophone.train.transplant.whisper_weights import complete, read_encoder

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

WINDOW_S = 30.0
WINDOW_FRAMES = round(WINDOW_S / FRAME_S)
"""States per window: 50 a second, as many as the conformer's frames."""
WINDOW_SAMPLES = round(WINDOW_S * RATE_HZ)
N_FFT = 400
HOP = 160


@dataclass(frozen=True)
class LayerStates:
    """The residual stream (B, T, D) inside one layer."""

    input: Tensor
    """What attention reads."""
    attended: Tensor
    """After attention: what the MLP reads."""
    output: Tensor
    """After the layer."""


class WhisperLayer(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, size: int, units: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(size)
        self.query_key_value = nn.Linear(size, 3 * size)
        self.attention_out = nn.Linear(size, size)
        self.mlp_norm = nn.LayerNorm(size)
        self.up = nn.Linear(size, units)
        self.down = nn.Linear(units, size)

    def attention(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> the update (B, T, D) of the residual stream."""
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.query_key_value(self.attention_norm(x)).chunk(3, -1)
        )
        out: Tensor = self.attention_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out

    def forward(self, x: Tensor) -> LayerStates:
        """x (B, T, D) -> the states of the layer."""
        attended = x + self.attention(x)
        return LayerStates(x, attended, attended + self.down(F.gelu(self.up(self.mlp_norm(attended)))))


class WhisperEncoder(nn.Module):
    """Samples of up to 30 s -> states at 50 Hz."""

    def __init__(self, n_mels: int, size: int, units: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.n_mels, self.size = n_mels, size
        self.conv1 = nn.Conv1d(n_mels, size, 3, padding=1)
        self.conv2 = nn.Conv1d(size, size, 3, stride=2, padding=1)
        self.positions = nn.Parameter(sinusoids(WINDOW_FRAMES, size))
        self.layers = nn.ModuleList(WhisperLayer(size, units, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(size)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """The frozen encoder of a Whisper model in the format of CTranslate2 or `transformers`.

        Raises CheckpointError where there is none, or it is incomplete.
        """
        with complete(folder):
            return cls._with_weights(*read_encoder(folder))

    @classmethod
    def _with_weights(cls, weights: Mapping[str, Tensor], num_heads: int) -> Self:
        size, n_mels, _ = weights["conv1.weight"].shape
        num_layers = sum(name.endswith("mlp_norm.weight") for name in weights)
        encoder = cls(n_mels, size, len(weights["layers.0.up.weight"]), num_heads, num_layers)
        positions = {"positions": sinusoids(WINDOW_FRAMES, size)}
        encoder.load_state_dict(positions | {name: weight.float() for name, weight in weights.items()})
        return encoder.requires_grad_(False).eval()

    def stem(self, samples: Tensor) -> Tensor:
        """Samples (B, n) at 16 kHz -> output of the convolutions (B, n // 320, D), without positions."""
        x = F.gelu(self.conv1(log_mel(samples, self.n_mels)))
        return F.gelu(self.conv2(x)).transpose(1, 2)

    def forward(self, samples: Tensor) -> list[LayerStates]:
        """Samples (B, n), at most 30 s -> the states of every layer."""
        return self.run_layers(self.stem(samples))

    def run_layers(self, stem: Tensor, depth: int | None = None) -> list[LayerStates]:
        """Output of the convolutions (B, T, D) -> the states of the first `depth` layers, or of all."""
        x = stem + self.positions[: stem.shape[1]]
        found = []
        for layer in self.layers[:depth]:
            found.append(layer(x))
            x = found[-1].output
        return found

    def streams(self, samples: Tensor, depth: int | None = None) -> list[Tensor]:
        """The residual stream (B, T, D) where the blocks of the conformer end: the stem, then each layer's output."""
        stem = self.stem(samples)
        return [stem, *(layer.output for layer in self.run_layers(stem, depth))]


def sinusoids(length: int, size: int) -> Tensor:
    """Whisper's absolute positions (length, size)."""
    rates = torch.exp(-math.log(10_000) / (size // 2 - 1) * torch.arange(size // 2))
    angles = torch.arange(length)[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], 1)


def log_mel(samples: Tensor, n_mels: int) -> Tensor:
    """Samples (B, n) at 16 kHz -> Whisper's input (B, n_mels, n // 160)."""
    window = torch.hann_window(N_FFT, device=samples.device)
    spectrum = torch.stft(samples, N_FFT, HOP, window=window, return_complex=True)[..., :-1]
    mel = slaney_filters(n_mels).to(samples) @ (spectrum.real.square() + spectrum.imag.square())
    log = mel.clamp(min=1e-10).log10()
    return (torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


@functools.cache
def slaney_filters(n_mels: int) -> Tensor:
    """Triangular filters (n_mels, 201) of 0 to 8 kHz on Slaney's mel scale, each of the same area."""
    top = _mel(np.array(RATE_HZ / 2))
    corners_hz = _hz(np.linspace(0.0, top, n_mels + 2))
    distance = corners_hz[:, None] - np.fft.rfftfreq(N_FFT, 1 / RATE_HZ)[None]
    width = np.diff(corners_hz)[:, None]
    triangles = np.maximum(0.0, np.minimum(-distance[:-2] / width[:-1], distance[2:] / width[1:]))
    return torch.from_numpy(triangles * 2.0 / (corners_hz[2:] - corners_hz[:-2])[:, None]).float()


_BREAK_MEL, _LINEAR_HZ, _STEP = 15.0, 200.0 / 3.0, math.log(6.4) / 27.0
"""Slaney's scale is linear up to 1 kHz, 15 mel, and logarithmic above."""


def _mel(hz: Any) -> Any:
    above = _BREAK_MEL + np.log(np.maximum(hz, 1.0) / 1000.0) / _STEP
    return np.where(hz < 1000.0, hz / _LINEAR_HZ, above)


def _hz(mel: Any) -> Any:
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, 1000.0 * np.exp(_STEP * (mel - _BREAK_MEL)))
