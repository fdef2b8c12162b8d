"""Base of all models: an encoder, and a projector from its states to audio embeddings."""

from __future__ import annotations

from torch import Tensor, nn

from lithophone.model.conformer import Conformer, EncoderBias, EncoderOutput


class AcousticModel(nn.Module):
    """A subclass sets `encoder` and `projector`."""

    encoder: Conformer
    projector: nn.Module

    def encode(self, frames: Tensor, lengths: Tensor | None = None, bias: EncoderBias | None = None) -> EncoderOutput:
        """Zero-padded frames `(B, T, 160)`, lengths `(B,)` and language conditioning -> `EncoderOutput`."""
        out: EncoderOutput = self.encoder(frames, lengths, bias)
        return out

    def project(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        """-> audio embeddings `(B, N, H)` and their counts `(B,)`."""
        out: tuple[Tensor, Tensor] = self.projector(encoded.states, encoded.lengths)
        return out
