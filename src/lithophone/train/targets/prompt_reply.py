"""Prompt and reply examples, and the cross-entropy of replies.

Sequence: [prompt with audio slots | reply | end token]; the loss is over reply and end token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from lithophone.ctc.characters import raw_text
from lithophone.errors import OptionError
from lithophone.languages import PAIRS
from lithophone.model.config import ModelType, Variant
from lithophone.model.granite import GraniteForCausalLM, pad_rows
from lithophone.text.prompts import Task, Transcribe, Translate, build_prompt
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.shares import parse_shares
from lithophone.train.targets.ctc_transcripts import ctc_transcript
from lithophone.train.targets.losses import Loss, next_token

CASED = re.compile(r"[a-zà-ÿ\u3040-\u30ff]")


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt, and of its reply with the end token."""

    prompt: list[int]
    reply: list[int]


@dataclass(frozen=True)
class SourceText:
    """A transcript, its language, and translations by language code."""

    text: str
    lang: str
    translations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskTarget:
    task: Task
    reply: str


@dataclass(frozen=True)
class TaskMix:
    """Sampling shares of tasks, which need not add up to 1.

    A task that the clip does not allow (no translation, text all in capitals) leaves its share to the others.
    """

    raw: float = 0.35
    punctuated: float = 0.45
    keywords: float = 0.2
    translate: float = 0.0
    transcribe_first: float = 0.3
    """Share of translations whose reply begins with the transcript (`[Transcription] ... [Translation] ...`)."""
    kana: float = 0.0
    """Share of raw Japanese transcripts in kana, for models too small for kanji."""

    SYNTAX: ClassVar[str] = (
        "shares of tasks: raw=0.3 punctuated=0.4 keywords=0.2 translate=0.1 transcribe_first=0.3 kana=0"
    )

    @classmethod
    def parse(cls, items: Iterable[str]) -> TaskMix:
        """Shares from `["raw=0.3", "translate=0.1"]`, else defaults. Raises OptionError."""
        shares = parse_shares(items, f"NAME=SHARE; {cls.SYNTAX}")
        unknown = set(shares) - {field.name for field in fields(cls)}
        if unknown:
            raise OptionError(f"unknown task {', '.join(sorted(unknown))}; {cls.SYNTAX}")
        return cls(**shares)

    def __post_init__(self) -> None:
        shares = (self.raw, self.punctuated, self.keywords, self.translate)
        parts = (self.transcribe_first, self.kana)
        if min(shares) < 0.0 or self.raw <= 0.0 or min(parts) < 0.0 or max(parts) > 1.0:
            raise OptionError(
                f"shares of tasks must be 0 or more, raw above 0, transcribe_first and kana 0 to 1: {self}"
            )


class KeywordSource(Protocol):
    """Draws a keyword list for a text; it may be empty."""

    def draw(self, text: str, rng: np.random.Generator) -> tuple[str, ...]: ...


def draw_target(
    source: SourceText, mix: TaskMix, rng: np.random.Generator, keywords: Mapping[str, KeywordSource] | None = None
) -> TaskTarget:
    """A task and its target reply, drawn by the shares of `mix`; `keywords`: lists by language."""
    cased = CASED.search(source.text) is not None
    targets = [to for to in source.translations if (source.lang, to) in PAIRS]
    shares = {
        "raw": mix.raw,
        "punctuated": mix.punctuated if cased else 0.0,
        "keywords": mix.keywords if source.lang in (keywords or {}) else 0.0,
        "translate": mix.translate if targets else 0.0,
    }
    weights = np.array(list(shares.values()))
    kind = list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]
    if kind == "translate":
        return _translation(source, str(rng.choice(targets)), mix, rng)
    words = (keywords or {})[source.lang].draw(source.text, rng) if kind == "keywords" else ()
    if words and cased:
        return TaskTarget(Transcribe(keywords=words), source.text.strip())
    if kind == "punctuated":
        return TaskTarget(Transcribe(punctuate=True), source.text.strip())
    in_kana = source.lang == "ja" and not words and mix.kana > 0.0 and rng.random() < mix.kana
    raw = ctc_transcript(source.text, source.lang) if in_kana else raw_text(source.text)
    return TaskTarget(Transcribe(punctuate=False, keywords=words), raw)


def _translation(source: SourceText, to: str, mix: TaskMix, rng: np.random.Generator) -> TaskTarget:
    """Translation target, punctuated or raw by the shares of transcription, with or without the transcript."""
    punctuate = bool(rng.random() * (mix.raw + mix.punctuated) >= mix.raw)
    form = str.strip if punctuate else raw_text
    meaning = form(source.translations[to])
    if rng.random() < mix.transcribe_first:
        meaning = f"[Transcription] {form(source.text)} [Translation] {meaning}"
    return TaskTarget(Translate(to, punctuate), meaning)


def make_example(target: TaskTarget, tokenizer: Tokenizer, variant: Variant | ModelType, n_audio: int) -> Example:
    """Token ids for `n_audio` audio slots; the reply starts with a space, as in the chat template."""
    prompt = build_prompt(target.task, tokenizer, variant, n_audio)
    return Example(prompt, [*tokenizer.encode(f" {target.reply}"), tokenizer.eos_id])


def reply_loss(model: GraniteForCausalLM, embeddings: Sequence[Tensor], examples: Sequence[Example]) -> Loss:
    """Cross-entropy of the replies; embeddings (L_i, H) of prompt and reply without the end token."""
    losses = [
        loss_of_logits(logits, [examples[i] for i in group])
        for group, logits in reply_logits(model, embeddings, examples)
    ]
    return Loss(torch.stack([loss.total for loss in losses]).sum(), sum(loss.count for loss in losses))


def reply_logits(
    model: GraniteForCausalLM, embeddings: Sequence[Tensor], examples: Sequence[Example]
) -> Iterator[tuple[list[int], Tensor]]:
    """Groups of examples, and logits (n, V) of all their replies.

    Rows are batched by similar length, since prompts with keyword lists are long. A sharded model (FSDP) takes one
    pass: its ranks gather weights together.
    """
    sharded = any(isinstance(module, FSDPModule) for module in model.modules())
    lengths = [len(row) for row in embeddings]
    for group in [list(range(len(lengths)))] if sharded else like_lengths(lengths):
        padded, _ = pad_rows([embeddings[i] for i in group])
        yield group, logits_of_states(model, model(padded), [examples[i] for i in group])


def like_lengths(lengths: Sequence[int], least: float = 0.6) -> list[list[int]]:
    """Indices grouped by length, longest first, each at least `least` of its group's longest."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not groups or lengths[i] < least * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(i)
    return groups


def logits_of_states(model: GraniteForCausalLM, hidden: Tensor, examples: Sequence[Example]) -> Tensor:
    """Language-model states (B, L, H) -> logits (n, V) of the replies."""
    starts = [len(example.prompt) - 1 for example in examples]
    picked = [
        row[start : start + len(example.reply)] for row, start, example in zip(hidden, starts, examples, strict=True)
    ]
    return model.logits(torch.cat(picked))


def loss_of_states(model: GraniteForCausalLM, hidden: Tensor, examples: Sequence[Example]) -> Loss:
    """Cross-entropy of the replies from language-model states (B, L, H)."""
    return loss_of_logits(logits_of_states(model, hidden, examples), examples)


def loss_of_logits(logits: Tensor, examples: Sequence[Example]) -> Loss:
    """Cross-entropy of the replies from their logits (n, V)."""
    targets = [token for example in examples for token in example.reply]
    return next_token(logits, torch.tensor(targets, device=logits.device))
