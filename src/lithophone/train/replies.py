"""Prompt and reply as one sequence, and the loss over the reply: what a speech model learns from a pair.

The sequence is [prompt with audio slots | reply | end]; only reply and end are predicted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lithophone.config import ModelType
from lithophone.labels import raw_text
from lithophone.model.granite import GraniteForCausalLM, pad_rows
from lithophone.prompts import Task, Transcribe, build_prompt
from lithophone.tokenizer import Tokenizer
from lithophone.train.losses import Loss, next_token

CASED = re.compile(r"[a-zà-ÿ]")


@dataclass(frozen=True)
class Pair:
    """A prompt and the reply it asks for, as token ids; the reply closes with the end token."""

    prompt: list[int]
    reply: list[int]


def draw_task(text: str, rng: np.random.Generator, raw_share: float = 0.4) -> Task:
    """Raw or punctuated; text that is all capitals knows no case, so only the raw prompt is honest."""
    cased = CASED.search(text) is not None
    return Transcribe(punctuate=cased and bool(rng.random() >= raw_share))


def make_pair(task: Task, text: str, tokenizer: Tokenizer, model_type: ModelType, n_audio: int) -> Pair:
    """The reply starts with a space, as the chat template sets it behind `ASSISTANT:`."""
    reply = text.strip() if isinstance(task, Transcribe) and task.punctuate else raw_text(text)
    prompt = build_prompt(task, tokenizer, model_type, n_audio)
    return Pair(prompt, [*tokenizer.encode(f" {reply}"), tokenizer.eos_id])


def reply_loss(model: GraniteForCausalLM, embeddings: Sequence[Tensor], pairs: Sequence[Pair]) -> Loss:
    """Cross-entropy over the replies; embeddings (L_i, H) are those of prompt and reply without the end token."""
    padded, _ = pad_rows(embeddings)
    hidden = model(padded)
    picked, targets = [], []
    for row, pair in zip(hidden, pairs, strict=True):
        start = len(pair.prompt) - 1
        picked.append(row[start : start + len(pair.reply)])
        targets += pair.reply
    return next_token(model.logits(torch.cat(picked)), torch.tensor(targets, device=padded.device))
