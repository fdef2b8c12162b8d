"""Rotary positions of the language model, plain or extended by YaRN (arXiv 2309.00071).

Source: `rope_parameters` of the checkpoints and `rope_utils` of `transformers`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lithophone.model.config import TextConfig, Yarn


def rotary_tables(positions: Tensor, config: TextConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines `(B, 1, L, head_dim)` in float32 for positions `(B, L)`, as `rotate` takes them.

    Both halves of the channels have equal angles; sines of the first half are negated. YaRN scales both tables.
    """
    angles = (positions[..., None].float() * inverse_frequencies(config, positions.device))[:, None]
    cos, sin = angles.cos(), angles.sin()
    if config.yarn is not None:
        cos, sin = cos * config.yarn.scale, sin * config.yarn.scale
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate `(B, heads, L, head_dim)` by its positions: channel i is paired with channel i + head_dim / 2."""
    wide = x.float()
    return torch.addcmul(wide * cos, wide.roll(x.shape[-1] // 2, -1), sin).to(x.dtype)


def inverse_frequencies(config: TextConfig, device: torch.device) -> Tensor:
    """Radians per position for each pair of channels, `(head_dim / 2,)`, float32."""
    powers = torch.arange(0, config.head_size, 2, device=device, dtype=torch.float32) / config.head_size
    periods = config.rope_theta**powers
    if config.yarn is None:
        return 1.0 / periods
    kept = 1.0 - interpolated_share(config.yarn, config.rope_theta, len(periods), device)
    return 1.0 / (config.yarn.factor * periods) * (1.0 - kept) + 1.0 / periods * kept


def interpolated_share(yarn: Yarn, theta: float, n: int, device: torch.device) -> Tensor:
    """Share `(n,)` of each frequency that is divided by the factor: a ramp from 0 to 1."""
    low, high = (_channel_of(beta, yarn, theta, 2 * n) for beta in (yarn.beta_fast, yarn.beta_slow))
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * n - 1)
    steps = torch.arange(n, device=device, dtype=torch.float32) - low
    return (steps / (high - low if high != low else 1e-3)).clamp(0.0, 1.0)


def _channel_of(turns: float, yarn: Yarn, theta: float, head_dim: int) -> float:
    """The channel pair, as a fraction, with so many turns within the original positions."""
    return head_dim * math.log(yarn.original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(theta))
