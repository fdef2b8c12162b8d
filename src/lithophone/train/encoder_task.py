"""Stage 1: both CTC heads of the encoder, their losses, and regression to a teacher's states."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lithophone.checkpoint import load_checkpoint
from lithophone.ctc.characters import character_labels
from lithophone.ctc.language_conditioning import language_bias
from lithophone.files import replacing
from lithophone.hub import resolve
from lithophone.model.config import EncoderConfig
from lithophone.model.conformer import Conformer, EncoderBias, EncoderOutput
from lithophone.model.heads import BPEHead
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.augment import seeded
from lithophone.train.data.batches import TranscribedRows
from lithophone.train.embedding_transfer import carry_over
from lithophone.train.targets.ctc_transcripts import FOREIGN_PENALTY, conditioning_languages, ctc_transcript
from lithophone.train.targets.losses import Loss, ctc

TINY = EncoderConfig(hidden_dim=192, num_layers=8, num_heads=4, dim_head=48, feedforward_mult=3, dropout=0.0)
WEIGHTS_FILE = "encoder.safetensors"
CONFIG_FILE = "encoder_config.json"
CTC_WEIGHTS = {"ctc": 0.8, "ctc_mid": 0.2, "ctc_bpe": 0.3}
"""Weights of `ctc_losses`; the first two are the paper's."""


class EncoderTask(nn.Module):
    """Encoder, BPE head, and a linear layer to the teacher's states, dropped after training."""

    def __init__(self, config: EncoderConfig, n_tokens: int, teacher_size: int) -> None:
        super().__init__()
        self.encoder = Conformer(config)
        self.bpe_head = BPEHead(config.hidden_dim, n_tokens + 1)
        self.head_dropout = nn.Dropout(0.25)
        self.to_teacher = nn.Linear(config.hidden_dim, max(1, teacher_size))


def training_bias(batch: TranscribedRows, step: int) -> EncoderBias | None:
    """Language conditioning of a share of the rows, drawn by the step."""
    langs = conditioning_languages(batch.texts, batch.langs, seeded(0, "told", step))
    return language_bias(langs, FOREIGN_PENALTY, with_ids=True)


def ctc_losses(
    task: EncoderTask, tokenizer: Tokenizer, output: EncoderOutput, batch: TranscribedRows
) -> dict[str, Loss]:
    """CTC of characters at the last and the middle block, and of tokens over pooled frames."""
    transcripts = [ctc_transcript(text, lang) for text, lang in zip(batch.texts, batch.langs, strict=True)]
    characters = [character_labels(text) for text in transcripts]
    tokens = [[i + 1 for i in tokenizer.encode(text)] for text in transcripts]
    pooled, pooled_lengths = task.bpe_head.pool(output)
    return {
        "ctc": ctc(output.logits, output.lengths, characters),
        "ctc_mid": ctc(output.mid_logits, output.lengths, characters),
        "ctc_bpe": ctc(task.bpe_head(task.head_dropout(pooled)), pooled_lengths, tokens),
    }


def task_from(name: str, tokenizer: Tokenizer, teacher_size: int = 0) -> EncoderTask:
    """Encoder and BPE head of a model, by name or folder, at its sizes; its tokenizer may differ.

    Or of an output folder of the recipes `encoder` and `transplant`, with the same tokenizer.
    """
    folder = Path(name)
    if (folder / WEIGHTS_FILE).is_file():
        config = EncoderConfig.from_dict(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")))
        task = EncoderTask(config, len(tokenizer), teacher_size)
        task.load_state_dict(load_file(folder / WEIGHTS_FILE), strict=False)
        return task
    trained = load_checkpoint(resolve(name))
    task = EncoderTask(trained.config.encoder_config, len(tokenizer), teacher_size)
    task.encoder = trained.model.encoder
    head = trained.model.bpe_head
    if head is not None:
        for mine, theirs in ((task.bpe_head.weight, head.weight), (task.bpe_head.bias, head.bias)):
            mine.data = torch.cat([theirs[:1], carry_over(theirs[1:], trained.tokenizer, tokenizer)]).to(mine.dtype)
    return task


def save_weights(state: Mapping[str, Tensor], config: EncoderConfig, folder: Path) -> None:
    """Write averaged float32 weights by the checkpoint's names, without the teacher's layer."""
    kept = {n: t.contiguous() for n, t in state.items() if n.startswith(("encoder.", "bpe_head."))}
    with replacing(folder / WEIGHTS_FILE, one_writer=True) as part:
        save_file(kept, part)
    (folder / CONFIG_FILE).write_text(json.dumps(config.to_dict()), encoding="utf-8")
