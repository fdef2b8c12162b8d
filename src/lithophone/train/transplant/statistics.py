"""Statistics of Whisper's states, which targets and initial weights of the conformer are computed from.

A conformer knows no absolute positions. What they alone contribute to a state, the position offset, is removed from
the targets: it is the mean over windows, projected onto the span of Whisper's position vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from lithophone.errors import CheckpointError, OptionError
from lithophone.files import replacing
from lithophone.train.targets.losses import Loss
from lithophone.train.transplant.whisper import WhisperEncoder, WhisperLayer

if TYPE_CHECKING:
    from typing_extensions import Self

STRIDE = 8
"""One frame in so many is kept for medians and deviations."""

SMALLEST_DEVIATION = 0.02
HUBER_DELTA = 3.0
"""Errors grow linearly beyond so many deviations: in deep layers a few frames have one huge channel."""

OUTLIER = 2.0
"""Frames of so many times the usual deviation over channels are outliers."""

NORMAL_MEDIAN_SQUARE = 0.455
"""Median of the square of a standard normal variable."""

REACH = 512
"""Largest distance in frames, exclusive, whose position scores are measured."""


@dataclass(frozen=True)
class SavedTensors:
    """Base of dataclasses of tensors that are kept in a file."""

    def save(self, path: Path) -> None:
        with replacing(path, one_writer=True) as part:
            save_file({name: value.contiguous() for name, value in vars(self).items()}, part)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises CheckpointError where the file has other tensors."""
        found, names = load_file(path), cls.__dataclass_fields__
        if found.keys() != names.keys():
            raise CheckpointError(f"{path} holds {sorted(found)}, not {sorted(names)}: delete it to measure again")
        return cls(**found)


@dataclass(frozen=True)
class Statistics(SavedTensors):
    """Of L layers on some windows, and of P = L + 1 residual streams (`WhisperEncoder.streams`)."""

    position_offset: Tensor
    """(P, 1500, D): contribution of each position to the mean state."""
    scale: Tensor
    """(P,): median over frames of the deviation over channels, without position offset."""
    mean: Tensor
    """(P, D): of the targets."""
    deviation: Tensor
    """(P, D): of the targets."""
    attention_gain: Tensor
    """(L,): deviation of the attention's input without position offset, relative to that with it."""
    mlp_gain: Tensor
    """(L,): the same of the MLP's input."""
    position_scores: Tensor
    """(L, heads, 2 REACH - 1): attention scores from position offsets alone, by distance of query and key."""
    unit_mean: Tensor
    """(L, units): mean pre-activation of the MLP's units."""
    unit_deviation: Tensor
    """(L, units): deviation over positions of the pre-activation."""
    unit_output_mean: Tensor
    """(L, units): mean output of the MLP's units."""
    unit_output_deviation: Tensor
    """(L, units)."""

    def to(self, device: torch.device | str) -> Statistics:
        return Statistics(**{name: value.to(device) for name, value in vars(self).items()})

    def targets(self, streams: list[Tensor]) -> list[Tensor]:
        """The first residual streams (B, T, D) -> the targets (B, T, D) of as many blocks."""
        return [centred(x - self.position_offset[p, : x.shape[1]]) / self.scale[p] for p, x in enumerate(streams)]

    def distance(self, stream: int, predicted: Tensor, target: Tensor, valid: Tensor) -> Loss:
        """Huber loss of (B, T, D), in deviations of each channel, mean over channels, counted per valid frame.

        The mean target as a constant prediction has a loss of about 1.
        """
        errors = ((predicted.float() - target) / self.deviation[stream])[valid]
        total = 2.0 * F.huber_loss(errors, torch.zeros_like(errors), "sum", HUBER_DELTA)
        return Loss(total / errors.shape[-1], len(errors))


def centred(x: Tensor) -> Tensor:
    """(..., D) minus the mean over channels, which no norm lets pass."""
    return x - x.mean(-1, keepdim=True)


def whisper_layers(teacher: WhisperEncoder) -> list[WhisperLayer]:
    return [cast(WhisperLayer, layer) for layer in teacher.layers]


@torch.no_grad()
def measure(teacher: WhisperEncoder, windows: Iterable[Tensor]) -> Statistics:
    """Statistics over windows of samples (30 s,), at least two. Raises OptionError where there are fewer."""
    sums, kept = _collect(teacher, windows)
    if len(kept[0]) < 2:
        raise OptionError(f"statistics of {len(kept[0])} windows: at least 2 needed")
    streams, inputs, attended = (_PositionMeans.of(teacher, *part) for part in sums)
    states = centred(streams.without_offset(kept[0]))
    scale = _scale(states)
    targets = states / scale[:, None, None]
    unit_mean, unit_deviation = _unit_inputs(teacher, attended.normalised(kept[2]))
    output_mean, output_deviation = _unit_outputs(teacher, kept[2])
    return Statistics(
        position_offset=streams.offset,
        scale=scale,
        mean=targets.mean(1),
        deviation=targets.std(1).clamp(min=SMALLEST_DEVIATION),
        attention_gain=inputs.gain(kept[1]),
        mlp_gain=attended.gain(kept[2]),
        position_scores=_position_scores(teacher, inputs.normalised(kept[1])),
        unit_mean=unit_mean,
        unit_deviation=unit_deviation,
        unit_output_mean=output_mean,
        unit_output_deviation=output_deviation,
    )


@dataclass
class _Sums:
    """Sums of states over windows by position, without outliers, at N places of the network."""

    states: Tensor
    """(N, 1500, D)."""
    counts: Tensor
    """(N, 1500): of frames."""

    @classmethod
    def zero(cls) -> _Sums:
        return cls(torch.zeros(()), torch.zeros(()))

    def add(self, states: Tensor) -> None:
        """States (N, 1500, D) of a window. In deep layers a few frames have one channel of many times the rest."""
        deviation = states.std(-1)
        usual = deviation < OUTLIER * deviation.median(1, keepdim=True).values
        self.states = self.states + states * usual[..., None]
        self.counts = self.counts + usual

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.states + other.states, self.counts + other.counts)

    def means(self) -> Tensor:
        """(N, 1500, D); of all frames where a position has outliers only."""
        every = (self.states.sum(1) / self.counts.sum(1)[:, None])[:, None]
        return torch.where(self.counts[..., None] > 0, self.states / self.counts.clamp(min=1.0)[..., None], every)


def _collect(teacher: WhisperEncoder, windows: Iterable[Tensor]) -> tuple[list[list[_Sums]], list[list[Tensor]]]:
    """Of streams, attention inputs and MLP inputs: sums over even and odd windows, and some frames of each."""
    sums = [[_Sums.zero(), _Sums.zero()] for _ in range(3)]
    kept: list[list[Tensor]] = [[], [], []]
    for number, window in enumerate(windows):
        stem = teacher.stem(window[None])
        layers = teacher.run_layers(stem)
        groups = (
            [stem, *(one.output for one in layers)],
            [one.input for one in layers],
            [one.attended for one in layers],
        )
        for n, group in enumerate(groups):
            states = torch.cat(group)
            sums[n][number % 2].add(states)
            kept[n].append(states[:, ::STRIDE].half())
    return sums, kept


@dataclass(frozen=True)
class _PositionMeans:
    """Mean states by position, at N places of the network."""

    offset: Tensor
    """(N, 1500, D): from the mean over all positions."""
    halves: Tensor
    """(2, N, 1500, D): the mean state from either half of the windows; products of the two are free of noise bias."""

    @classmethod
    def of(cls, teacher: WhisperEncoder, even: _Sums, odd: _Sums) -> _PositionMeans:
        """Only the span of Whisper's positions is kept. The sinusoids change too fast for smoothing over time."""
        basis, _ = torch.linalg.qr(teacher.positions)
        every = (even + odd).means()
        mean = every.mean(1, keepdim=True)
        offset, *halves = (
            basis @ (basis.T @ (part - part.mean(1, keepdim=True))) for part in (every, even.means(), odd.means())
        )
        return cls(offset, mean + torch.stack(halves))

    def gain(self, kept: list[Tensor]) -> Tensor:
        """(N,): scale of states (N, T', D) of some windows without the offset, relative to that with it."""
        return _scale(self.without_offset(kept)) / _scale(torch.cat(kept, 1).float())

    def without_offset(self, kept: list[Tensor]) -> Tensor:
        """States (N, T', D) of some windows, concatenated, minus the offset."""
        return torch.cat([part.float() - self.offset[:, ::STRIDE] for part in kept], 1)

    def normalised(self, kept: list[Tensor]) -> Tensor:
        """`halves` as a LayerNorm without weights scales them inside states of the size of `kept`."""
        return centred(self.halves) / _scale(torch.cat(kept, 1).float())[:, None, None]


def _scale(states: Tensor) -> Tensor:
    """(N, T, D) -> the median over frames of the deviation over channels (N,)."""
    return states.std(-1).median(1).values


def _position_scores(teacher: WhisperEncoder, means: Tensor) -> Tensor:
    """Scores (L, heads, 2 REACH - 1) of normalised mean states (2, L, 1500, D), medians over queries."""
    found = []
    for layer, (one, other) in zip(whisper_layers(teacher), means.transpose(0, 1), strict=True):
        norm = layer.attention_norm
        q, _, _ = layer.query_key_value(one * norm.weight + norm.bias).chunk(3, -1)
        _, k, _ = layer.query_key_value(other * norm.weight + norm.bias).chunk(3, -1)
        q, k = (part.unflatten(-1, (layer.num_heads, -1)) for part in (q, k))
        scores = torch.einsum("ihd,jhd->hij", q, k) * q.shape[-1] ** -0.5
        found.append(torch.stack([scores.diagonal(-d, 1, 2).median(-1).values for d in range(1 - REACH, REACH)], 1))
    return torch.stack(found)


def _unit_outputs(teacher: WhisperEncoder, attended: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation (L, units) of the MLPs' units, on inputs (L, T', D) of some windows."""
    found = []
    for layer, inputs in zip(whisper_layers(teacher), torch.cat(attended, 1), strict=True):
        outputs = F.gelu(layer.up(layer.mlp_norm(inputs.float())))
        found.append((outputs.mean(0), outputs.std(0)))
    means, deviations = zip(*found, strict=True)
    return torch.stack(means), torch.stack(deviations)


def _unit_inputs(teacher: WhisperEncoder, means: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (L, units) over positions of the pre-activations of normalised mean states (2, L, 1500, D).

    By medians: at a few positions, the same in all windows, deep layers have outliers.
    """
    middles, deviations = [], []
    for layer, (one, other) in zip(whisper_layers(teacher), means.transpose(0, 1), strict=True):
        first, second = (layer.up(x * layer.mlp_norm.weight + layer.mlp_norm.bias) for x in (one, other))
        middle = ((first + second) / 2.0).median(0).values
        square = ((first - middle) * (second - middle)).median(0).values / NORMAL_MEDIAN_SQUARE
        middles.append(middle)
        deviations.append(square.clamp(min=0.0).sqrt())
    return torch.stack(middles), torch.stack(deviations)
