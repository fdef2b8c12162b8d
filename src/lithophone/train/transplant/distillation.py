"""Distillation losses: blocks of a conformer against the states of Whisper that they are mapped from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lithophone.model.config import EncoderConfig
from lithophone.model.gradient_checkpointing import run_layer
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.encoder_task import EncoderTask, ctc_losses, training_bias
from lithophone.train.targets.losses import Loss
from lithophone.train.transplant.statistics import Statistics
from lithophone.train.transplant.weights import block_input, conformer_blocks
from lithophone.train.transplant.whisper import WhisperEncoder
from lithophone.train.transplant.whisper_decoder import DecoderInput, TextTeacher
from lithophone.train.transplant.windows import WindowBatch, rows_of


class StudentTask(EncoderTask):
    """An encoder in training; batch normalisation with frozen weights keeps its statistics, too.

    The first feed-forward of a mapped block is constant.
    """

    def __init__(self, config: EncoderConfig, n_tokens: int, teacher: WhisperEncoder, statistics: Statistics) -> None:
        super().__init__(config, n_tokens, 0)
        self.to_decoder = DecoderInput(teacher, statistics)
        for block in conformer_blocks(self.encoder)[1:-1]:
            block.ff1.constant = True
            block.ff1.requires_grad_(False)

    def train(self, mode: bool = True) -> StudentTask:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d) and not module.weight.requires_grad:
                module.eval()
        return self


@dataclass(frozen=True)
class Distillation:
    """A student and its teacher. Its methods are losses of the phases, by batch and step: `block_1` is the stem's."""

    task: StudentTask
    teacher: WhisperEncoder
    statistics: Statistics
    tokenizer: Tokenizer
    text: TextTeacher
    precision: torch.dtype = torch.float32
    """Of the teachers' matrix products; their weights and residual streams are float32."""

    def stem(self, batch: WindowBatch, step: int) -> dict[str, Loss]:
        """The first block."""
        output = self._block(1, self._input(batch), batch.valid)
        return self._distances(batch, self._targets(batch, depth=0), {1: output})

    def second(self, batch: WindowBatch, step: int) -> dict[str, Loss]:
        """The second block, on the target of the first."""
        targets = self._targets(batch, depth=1)
        given = block_input(rows_of(targets[0], len(batch.frames))).to(self._frames(batch))
        return self._distances(batch, targets, {2: self._block(2, given, batch.valid)})

    def whole_encoder(self, batch: WindowBatch, step: int) -> dict[str, Loss]:
        """CTC, the blocks that `distillation_config` returns, and the text that Whisper's decoder reads."""
        with torch.no_grad(), self._teachers():
            stem = self.teacher.stem(batch.clean)
            layers = self.teacher.run_layers(stem)
            heard = rows_of(self.teacher.norm(layers[-1].output), len(batch.frames))
        targets = self.statistics.targets([stem, *(one.output for one in layers)])
        output = self.task.encoder(self._frames(batch), batch.lengths, training_bias(batch, step))
        numbers = self.task.encoder.config.cat_hidden_layers
        outputs = dict(zip(numbers, output.states.split(output.last.shape[-1], -1), strict=False))
        found = ctc_losses(self.task, self.tokenizer, output, batch) | self._distances(batch, targets, outputs)
        states = self.task.to_decoder(output.last)
        with self._teachers():
            return found | self.text.losses(states, heard, batch.valid, batch.texts, batch.langs)

    def _frames(self, batch: WindowBatch) -> Tensor:
        return batch.frames.to(self.task.to_teacher.weight.dtype)

    def _input(self, batch: WindowBatch) -> Tensor:
        x: Tensor = self.task.encoder.input_linear(self._frames(batch))
        return x

    def _block(self, number: int, x: Tensor, valid: Tensor) -> Tensor:
        """Output of one block, counted from 1."""
        encoder = self.task.encoder
        return run_layer(conformer_blocks(encoder)[number - 1], x, valid, recompute=encoder.gradient_checkpointing)

    def _teachers(self) -> torch.autocast:
        device = self.statistics.mean.device.type
        return torch.autocast(device, dtype=self.precision, enabled=self.precision != torch.float32)

    @torch.no_grad()
    def _targets(self, batch: WindowBatch, depth: int) -> list[Tensor]:
        """Targets (W, 1500, D) of the stem and of `depth` blocks behind it."""
        with self._teachers():
            streams = self.teacher.streams(batch.clean, depth)
        return self.statistics.targets(streams)

    def _distances(self, batch: WindowBatch, targets: list[Tensor], outputs: Mapping[int, Tensor]) -> dict[str, Loss]:
        """Losses of outputs (B, T, D) by the number of their block."""
        return {
            f"block_{n}": self.statistics.distance(
                n - 1, x[..., : self.teacher.size], rows_of(targets[n - 1], len(x)), batch.valid
            )
            for n, x in outputs.items()
        }
