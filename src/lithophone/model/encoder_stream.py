"""The encoder over an utterance that grows: what is final is kept, and not computed again.

Attention is full within blocks, and convolutions read `right` frames ahead. So where a layer's input is final for n
blocks, its output is final for n blocks less `right` frames, and the next layer attends to n - 1 final blocks:

    n complete blocks -> layer 1 keeps n, layer 2 keeps n - 1, ..., layer l keeps n - l + 1

That is exact. `look_ahead` bounds it: a block with so many frames behind it is final in every layer.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from lithophone.model.conformer import Conformer, ConformerBlock, EncoderBias, EncoderOutput


class EncoderStream:
    """Encodes one growing utterance.

    `look_ahead` None: the output is that of `Conformer.forward` for the frames so far. Else frames before the last
    `look_ahead` have their values from when their block became final.
    """

    def __init__(self, encoder: Conformer, bias: EncoderBias | None = None, look_ahead: int | None = None) -> None:
        assert look_ahead is None or look_ahead >= 0, "look_ahead is a number of frames"
        assert not encoder.training, "batch normalisation needs its running statistics"
        self.encoder, self.bias, self.look_ahead = encoder, bias, look_ahead
        self.computed = 0
        """Frames attended to so far, summed over layers."""
        self.restarts = 0
        """How often final frames had changed."""
        self._start_over()

    @property
    def _any_parameter(self) -> Tensor:
        """Not a weight: those of int8 models are operands."""
        return next(self.encoder.parameters())

    def _start_over(self) -> None:
        config = self.encoder.config
        self._layers = [_LayerState(cast(ConformerBlock, layer), config.context_size) for layer in self.encoder.layers]
        self._read = torch.zeros(0, config.input_dim, device=self._any_parameter.device)
        """Frames of complete blocks."""
        self._kept = {number: _Result() for number in config.cat_hidden_layers}
        self._last, self._logits, self._mid_logits = _Result(), _Result(), _Result()

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> EncoderOutput:
        """All frames so far (T, 160), T >= 1 and not below that of the last call -> output, B = 1.

        Where frames of complete blocks have changed since the last call, everything is computed anew.
        """
        assert len(frames) > 0, "there are frames"
        if not torch.equal(frames[: len(self._read)], self._read):
            self.restarts += 1
            self._start_over()
        output = self._encode(frames)
        self._read = frames[: self._complete(len(frames))].clone()
        return output

    def _complete(self, n_frames: int) -> int:
        """Frames of complete blocks."""
        size = self.encoder.config.context_size
        return n_frames // size * size

    def _encode(self, frames: Tensor) -> EncoderOutput:
        """As `Conformer.forward`; `final` counts the final frames of `x`, which begins behind those known before."""
        encoder, mid_layer = self.encoder, self.encoder.config.mid_layer
        settled = 0 if self.look_ahead is None else self._complete(max(0, len(frames) - self.look_ahead))
        final = self._complete(len(frames))
        x = encoder.input_linear(frames[None, len(self._read) :].to(self._any_parameter.dtype))
        mid_logits = x
        kept = [self._kept[0].extend(x, final)] if 0 in self._kept else []
        for number, layer in enumerate(self._layers, 1):
            self.computed += len(frames) - layer.attended
            x, final = layer.extend(x, final, settled)
            if number == mid_layer:
                logits = encoder.character_logits(x, self.bias)
                x = x + encoder.feedback(logits, self.bias)
                mid_logits = self._mid_logits.extend(logits, final)
            if number in self._kept:
                kept.append(self._kept[number].extend(x, final))
        logits = self._logits.extend(encoder.character_logits(x, self.bias), final)
        last = self._last.extend(x, final)
        lengths = torch.tensor([len(frames)], device=frames.device)
        return EncoderOutput(torch.cat([*kept, last], -1), last, logits, mid_logits, lengths)


class _LayerState:
    """What a layer keeps of final frames: inputs of an incomplete block, left context of the convolution."""

    def __init__(self, layer: ConformerBlock, size: int) -> None:
        self.layer, self.size = layer, size
        self.left, self.right = layer.conv.depth_conv.padding
        self.attended = 0
        """Frames that are final behind attention: whole blocks."""
        self.done = 0
        """Frames that are final behind the layer."""
        self._inputs: Tensor | None = None
        """Final inputs (1, n, D) from frame `attended` on."""
        self._context: Tensor | None = None
        """Frames (1, n, D) behind attention, from `done - left` to `attended`."""

    def extend(self, x: Tensor, final: int, settled: int) -> tuple[Tensor, int]:
        """Inputs (1, n, D) behind the final ones of the last call -> outputs behind the final ones; and `done`.

        Inputs are final up to frame `final`, outputs in any case up to `settled`.
        """
        inputs, first = _joined(self._inputs, x), self.attended
        # A call at the end of a block may bring nothing new.
        attended = self.layer.attend(inputs, _all_valid(inputs)) if inputs.shape[1] else inputs
        whole, start = _joined(self._context, attended), max(0, self.done - self.left)
        out = self.layer.convolve(whole, _all_valid(whole))[:, self.done - start :]
        self.attended = final // self.size * self.size
        self.done = max(self.done, self.attended - self.right, settled)
        self._inputs = inputs[:, self.attended - first : final - first].clone()
        self._context = whole[:, max(0, self.done - self.left) - start : self.attended - start].clone()
        return out, self.done


class _Result:
    """A result (1, T, D) whose first frames are final."""

    def __init__(self) -> None:
        self._final: Tensor | None = None

    def extend(self, new: Tensor, final: int) -> Tensor:
        """Values behind the final ones -> all; the first `final` of them are final from now on."""
        whole = _joined(self._final, new)
        self._final = whole[:, :final].clone()
        return whole


def _joined(before: Tensor | None, new: Tensor) -> Tensor:
    return new if before is None else torch.cat([before, new], 1)


def _all_valid(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
