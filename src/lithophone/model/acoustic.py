"""What every kind of model has: an encoder, and a projector that makes audio embeddings of its states."""

from __future__ import annotations

from torch import Tensor, nn

from lithophone.model.conformer import Conformer, EncoderBias, EncoderOutput


class AcousticModel(nn.Module):
    """Base of the models; a subclass sets `encoder` and `projector`."""

    encoder: Conformer
    projector: nn.Module

    def encode(self, frames: Tensor, lengths: Tensor | None = None, bias: EncoderBias | None = None) -> EncoderOutput:
        """Frames `(B, T, 160)`, zero-padded, and lengths `(B,)` -> encoder states and character logits.

        `bias`: language conditioning.
        """
        out: EncoderOutput = self.encoder(frames, lengths, bias)
        return out

    def project(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        """What `encode` gave -> audio embeddings `(B, N, H)` and their counts `(B,)`."""
        out: tuple[Tensor, Tensor] = self.projector(encoded.states, encoded.lengths)
        return out
