"""What the encoder spells by itself: the best CTC path as text, without the language model.

The BPE head where the checkpoint has one, else the characters. Text is raw: lower case, no punctuation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lithophone.checkpoint import Checkpoint
from lithophone.decode import Reply
from lithophone.decode.ctc import collapse
from lithophone.labels import labels_text
from lithophone.model.conformer import EncoderOutput


def spelled_replies(checkpoint: Checkpoint, encoded: EncoderOutput) -> list[tuple[str, Reply]]:
    """Text and reply of every row; a path always ends, so every reply is finished. Characters have no token ids."""
    head = checkpoint.model.bpe_head
    if head is None:
        paths = best_paths(encoded.logits, encoded.lengths)
        return [(labels_text(path), Reply((), True, ())) for path in paths]
    replies = [Reply(tuple(label - 1 for label in path), True, ()) for path in best_paths(*head.logits(encoded))]
    return [(checkpoint.tokenizer.decode(reply.ids), reply) for reply in replies]


def best_paths(logits: Tensor, lengths: Tensor) -> list[list[int]]:
    """Logits (B, T, V) and lengths (B,) -> collapsed labels of the most probable label a frame."""
    best: Tensor = torch.argmax(logits, -1)
    return [collapse(row[:n].tolist()) for row, n in zip(best, lengths.tolist(), strict=True)]
