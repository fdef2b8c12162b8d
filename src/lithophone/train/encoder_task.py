"""The encoder of stage 1 in training: both CTC heads and a regression to a teacher's states."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lithophone.checkpoint import load_checkpoint
from lithophone.hub import resolve
from lithophone.model.config import EncoderConfig
from lithophone.model.conformer import Conformer
from lithophone.model.heads import BPEHead
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.embedding_transfer import carry_over

TINY = EncoderConfig(hidden_dim=192, num_layers=8, num_heads=4, dim_head=48, feedforward_mult=3, dropout=0.0)
WEIGHTS_FILE = "encoder.safetensors"


class EncoderTask(nn.Module):
    """The encoder, its BPE head, and a linear layer that predicts the teacher's states (dropped after training)."""

    def __init__(self, config: EncoderConfig, n_tokens: int, teacher_size: int) -> None:
        super().__init__()
        self.encoder = Conformer(config)
        self.bpe_head = BPEHead(config.hidden_dim, n_tokens + 1)
        self.head_dropout = nn.Dropout(0.25)
        self.to_teacher = nn.Linear(config.hidden_dim, max(1, teacher_size))


def start_from(task: EncoderTask, name: str, tokenizer: Tokenizer) -> None:
    """Copy encoder and BPE head from a trained model of the same sizes, whose tokenizer may differ.

    Or from a folder of the recipe `encoder`, with the same tokenizer.
    """
    if (Path(name) / WEIGHTS_FILE).is_file():
        task.load_state_dict(load_file(Path(name) / WEIGHTS_FILE), strict=False)
        return
    trained = load_checkpoint(resolve(name))
    task.encoder.load_state_dict(trained.model.encoder.state_dict())
    head = trained.model.bpe_head
    if head is not None:
        for mine, theirs in ((task.bpe_head.weight, head.weight), (task.bpe_head.bias, head.bias)):
            mine.data = torch.cat([theirs[:1], carry_over(theirs[1:], trained.tokenizer, tokenizer)]).to(mine.dtype)


def save_weights(state: Mapping[str, Tensor], task: EncoderTask, folder: Path) -> None:
    """Write the averaged weights, float32, under the checkpoint's names, without the teacher's layer."""
    kept = {n: t.contiguous() for n, t in state.items() if n.startswith(("encoder.", "bpe_head."))}
    save_file(kept, folder / WEIGHTS_FILE)
    (folder / "encoder_config.json").write_text(json.dumps(task.encoder.config.to_dict()))
