"""BPE head: encoder states -> logits over language-model tokens at 12.5 Hz (`out_llm.safetensors`).

Four frames are pooled, weighted by their non-blank probability in the middle layer. Label 0 is the blank, label i token
i - 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lithophone.model.conformer import EncoderOutput

POOLING_WINDOW = 4


def posterior_weighted_pooling(states: Tensor, mid_logits: Tensor, lengths: Tensor, window: int) -> Tensor:
    """States (B, T, D), character logits of the middle layer (B, T, V) -> (B, ceil(T / window), D).

    Weights are `1 - p(blank)`, normalised within a window; 0 beyond `lengths`.
    """
    valid = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
    weights = (1.0 - mid_logits.float().softmax(-1)[..., 0]) * valid
    pad = -states.shape[1] % window
    weights = F.pad(weights, (0, pad)).view(len(states), -1, window)
    shares = weights / (weights.sum(-1, keepdim=True) + 1e-8)
    windows = F.pad(states, (0, 0, 0, pad)).view(len(states), -1, window, states.shape[-1])
    return (windows * shares.to(states.dtype).unsqueeze(-1)).sum(2)


class BPEHead(nn.Linear):
    """Linear layer (D -> labels) over pooled states; `n_labels` is the vocabulary and one blank."""

    def __init__(self, hidden_dim: int, n_labels: int, window: int = POOLING_WINDOW) -> None:
        super().__init__(hidden_dim, n_labels)
        self.window = window

    def pool(self, output: EncoderOutput) -> tuple[Tensor, Tensor]:
        """-> pooled states (B, ceil(T / window), D) and their lengths (B,)."""
        pooled = posterior_weighted_pooling(output.last, output.mid_logits, output.lengths, self.window)
        return pooled, (output.lengths + self.window - 1) // self.window

    def logits(self, output: EncoderOutput) -> tuple[Tensor, Tensor]:
        """-> logits (B, ceil(T / window), n_labels) and their lengths (B,)."""
        pooled, lengths = self.pool(output)
        return self(pooled), lengths
