"""Statistics of Whisper's decoder on texts, and maps of limited rank that are closest for such inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.errors import OptionError
from lithophone.train.transplant.statistics import SavedTensors, centred
from lithophone.train.transplant.whisper_decoder import WhisperDecoder, WhisperDecoderLayer

COVARIANCE_FLOOR = 1e-6
"""Relative to the largest eigenvalue."""


@dataclass(frozen=True)
class DecoderBatch:
    """Input ids (B, N), which of them count (B, N), encoder states (B, T, D), and which of them are valid (B, T)."""

    ids: Tensor
    counted: Tensor
    states: Tensor
    valid: Tensor
    offset: Tensor
    """(T, D): what positions have added to the states."""


@dataclass(frozen=True)
class DecoderStatistics(SavedTensors):
    """Of a decoder with L layers on some texts."""

    state_mean: Tensor
    """(D,): of encoder states."""
    offset_mean: Tensor
    """(D,): of what positions have added to them."""
    state_deviation: Tensor
    """(): root mean square of encoder states without their mean."""
    state_covariance: Tensor
    """(D, D)."""
    text_deviation: Tensor
    """(L, 2): root mean square of what both attentions read, in front of their norms, without the mean of channels."""
    last_deviation: Tensor
    """(): the same in front of the last norm."""
    queries: Tensor
    """(L, 2, D + 1, D + 1): second moments of the normed inputs of both attentions, and a one."""
    keys: Tensor
    """(L, D, D): covariance of the normed input of self-attention."""
    unit_mean: Tensor
    """(L, units): mean output of the MLP's units."""
    unit_deviation: Tensor
    """(L, units)."""


@torch.no_grad()
def measure_decoder(decoder: WhisperDecoder, batches: Iterable[DecoderBatch]) -> DecoderStatistics:
    """Statistics of a decoder that is given its texts. Raises OptionError without batches."""
    depth = len(decoder.layers)
    states, offsets, units = _Moments(), _Moments(products=False), [_Moments(products=False) for _ in range(depth)]
    inputs = [(_Moments(), _Moments()) for _ in range(depth)]
    energies = [_Moments(products=False) for _ in range(2 * depth + 1)]
    for batch in batches:
        states.add(batch.states[batch.valid])
        offsets.add(batch.offset.expand_as(batch.states)[batch.valid])
        x = decoder.embeddings[batch.ids] + decoder.positions[: batch.ids.shape[1]]
        streams = []
        for layer, both, outputs in zip(decoder_layers(decoder), inputs, units, strict=True):
            streams.append(x)
            both[0].add(layer.self_attention.norm(x)[batch.counted])
            x = layer.self_attention(x)
            streams.append(x)
            both[1].add(layer.cross_attention.norm(x)[batch.counted])
            x = layer.cross_attention(x, batch.states, batch.valid)
            outputs.add(F.gelu(layer.up(layer.mlp_norm(x)))[batch.counted])
            x = x + layer.mlp(x)
        for energy, stream in zip(energies, [*streams, x], strict=True):
            energy.add(centred(stream[batch.counted]).square().mean(-1, keepdim=True))
    if not states.count:
        raise OptionError("statistics of a decoder need at least one batch")
    covariance = states.covariance()
    deviations = torch.cat([energy.mean() for energy in energies]).sqrt()
    return DecoderStatistics(
        states.mean(),
        offsets.mean(),
        covariance.diagonal().mean().sqrt(),
        covariance,
        deviations[:-1].view(depth, 2),
        deviations[-1],
        torch.stack([torch.stack([moments.augmented() for moments in both]) for both in inputs]),
        torch.stack([own.covariance() for own, _ in inputs]),
        torch.stack([moments.mean() for moments in units]),
        torch.stack([moments.deviation() for moments in units]),
    )


class _Moments:
    """Sums over rows (n, D), in float64."""

    def __init__(self, *, products: bool = True) -> None:
        self.products, self.count = products, 0
        self.sum, self.square = torch.zeros(0), torch.zeros(0)

    def add(self, rows: Tensor) -> None:
        wide = rows.double()
        square = wide.T @ wide if self.products else wide.square().sum(0)
        if not self.count:
            self.sum, self.square = torch.zeros_like(wide[0] if len(wide) else wide.sum(0)), torch.zeros_like(square)
        self.sum, self.square, self.count = self.sum + wide.sum(0), self.square + square, self.count + len(rows)

    def mean(self) -> Tensor:
        return (self.sum / self.count).float()

    def covariance(self) -> Tensor:
        mean = self.sum / self.count
        return (self.square / self.count - mean[:, None] * mean).float()

    def deviation(self) -> Tensor:
        return (self.square / self.count - (self.sum / self.count).square()).clamp_min(0.0).sqrt().float()

    def augmented(self) -> Tensor:
        """(D + 1, D + 1): second moments of the rows with a one behind."""
        mean = (self.sum / self.count)[:, None]
        one = torch.ones(1, 1, dtype=mean.dtype)
        return torch.cat([torch.cat([self.square / self.count, mean], 1), torch.cat([mean.T, one], 1)]).float()


def decoder_layers(decoder: WhisperDecoder) -> list[WhisperDecoderLayer]:
    """The layers, first to last."""
    return [cast(WhisperDecoderLayer, layer) for layer in decoder.layers]


def low_rank(a: Tensor, b: Tensor, a_inputs: Roots, b_inputs: Roots, rank: int) -> tuple[Tensor, Tensor]:
    """(W, M), (W, N) -> (rank, M), (rank, N) whose product `a.T @ b` is closest for inputs of these second moments."""
    u, s, v = torch.linalg.svd(a_inputs.root @ a.T @ b @ b_inputs.root, full_matrices=False)
    root = s[:rank].sqrt()[:, None]
    return root * (u[:, :rank].T @ a_inputs.inverse), root * (v[:rank] @ b_inputs.inverse)


@dataclass(frozen=True)
class Roots:
    """Symmetric square root (D, D) of second moments, and its inverse."""

    root: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, moments: Tensor) -> Roots:
        values, vectors = torch.linalg.eigh(moments)
        values = values.clamp_min(COVARIANCE_FLOOR * float(values.max()))
        return cls((vectors * values.sqrt()) @ vectors.T, (vectors / values.sqrt()) @ vectors.T)
