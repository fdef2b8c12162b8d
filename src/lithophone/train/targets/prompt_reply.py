"""What is asked of a clip and what is answered; prompt and reply as one sequence, and the loss over the reply.

The sequence is [prompt with audio slots | reply | end]; only reply and end are predicted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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
from lithophone.train.targets.ctc_transcripts import heard_text
from lithophone.train.targets.losses import Loss, next_token

CASED = re.compile(r"[a-zà-ÿ\u3040-\u30ff]")


@dataclass(frozen=True)
class Pair:
    """A prompt and the reply it asks for, as token ids; the reply closes with the end token."""

    prompt: list[int]
    reply: list[int]


@dataclass(frozen=True)
class Said:
    """What is known of a clip: its text, the language that is spoken, and what it means in others."""

    text: str
    lang: str
    translations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """A task and the text of its reply."""

    task: Task
    reply: str


@dataclass(frozen=True)
class TaskMix:
    """Shares of the tasks that are asked of a clip; they need not add up to 1.

    A task that a clip cannot serve (a translation that is not known) leaves its share to the others. A text all in
    capitals knows no case, so it is asked for raw.
    """

    raw: float = 0.35
    punctuated: float = 0.45
    keywords: float = 0.2
    translate: float = 0.0
    transcribe_first: float = 0.3
    """Of the translations: the reply says first what was said (`[Transcription] ... [Translation] ...`)."""
    kana: float = 0.0
    """Of the raw transcriptions of Japanese: in kana, as it is heard, by a model that is too small for kanji."""

    SYNTAX: ClassVar[str] = (
        "shares of tasks: raw=0.3 punctuated=0.4 keywords=0.2 translate=0.1 transcribe_first=0.3 kana=0"
    )

    @classmethod
    def parse(cls, items: Iterable[str]) -> TaskMix:
        """`["raw=0.3", "translate=0.1"]` -> those shares, the others as they are by default. Raises OptionError."""
        shares: dict[str, float] = {}
        for item in items:
            name, _, value = item.partition("=")
            try:
                shares[name] = float(value)
            except ValueError:
                raise OptionError(f"{item!r} is not NAME=SHARE; {cls.SYNTAX}") from None
        unknown = set(shares) - {field.name for field in fields(cls)}
        if unknown:
            raise OptionError(f"no task {', '.join(sorted(unknown))} to mix; {cls.SYNTAX}")
        return cls(**shares)

    def __post_init__(self) -> None:
        shares = (self.raw, self.punctuated, self.keywords, self.translate)
        parts = (self.transcribe_first, self.kana)
        if min(shares) < 0.0 or self.raw <= 0.0 or min(parts) < 0.0 or max(parts) > 1.0:
            raise OptionError(
                f"shares of tasks must be 0 or more, raw above 0, transcribe_first and kana 0 to 1: {self}"
            )


class KeywordSource(Protocol):
    """Draws the keyword list that a prompt carries; it may be empty."""

    def draw(self, text: str, rng: np.random.Generator) -> tuple[str, ...]: ...


def draw_request(
    said: Said, mix: TaskMix, rng: np.random.Generator, keywords: Mapping[str, KeywordSource] | None = None
) -> Request:
    """One task, drawn by its share among those that the clip can serve. `keywords` has lists by language."""
    cased = CASED.search(said.text) is not None
    pairs = [to for to in said.translations if (said.lang, to) in PAIRS]
    shares = {
        "raw": mix.raw,
        "punctuated": mix.punctuated if cased else 0.0,
        "keywords": mix.keywords if said.lang in (keywords or {}) else 0.0,
        "translate": mix.translate if pairs else 0.0,
    }
    weights = np.array(list(shares.values()))
    kind = list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]
    if kind == "translate":
        return _translation(said, str(rng.choice(pairs)), mix, rng)
    words = (keywords or {})[said.lang].draw(said.text, rng) if kind == "keywords" else ()
    if words and cased:
        return Request(Transcribe(keywords=words), said.text.strip())
    if kind == "punctuated":
        return Request(Transcribe(punctuate=True), said.text.strip())
    in_kana = said.lang == "ja" and not words and mix.kana > 0.0 and rng.random() < mix.kana
    raw = heard_text(said.text, said.lang) if in_kana else raw_text(said.text)
    return Request(Transcribe(punctuate=False, keywords=words), raw)


def _translation(said: Said, to: str, mix: TaskMix, rng: np.random.Generator) -> Request:
    """Punctuated or raw by the shares of transcriptions; a share of the replies transcribes first."""
    punctuate = bool(rng.random() * (mix.raw + mix.punctuated) >= mix.raw)
    form = str.strip if punctuate else raw_text
    meaning = form(said.translations[to])
    if rng.random() < mix.transcribe_first:
        meaning = f"[Transcription] {form(said.text)} [Translation] {meaning}"
    return Request(Translate(to, punctuate), meaning)


def make_pair(request: Request, tokenizer: Tokenizer, variant: Variant | ModelType, n_audio: int) -> Pair:
    """The reply starts with a space, as the chat template sets it behind `ASSISTANT:`."""
    prompt = build_prompt(request.task, tokenizer, variant, n_audio)
    return Pair(prompt, [*tokenizer.encode(f" {request.reply}"), tokenizer.eos_id])


def reply_loss(model: GraniteForCausalLM, embeddings: Sequence[Tensor], pairs: Sequence[Pair]) -> Loss:
    """Cross-entropy over the replies; embeddings (L_i, H) are those of prompt and reply without the end token.

    A prompt with a keyword list is many times as long as others, so rows go through the model with those of like
    length. Slices of a model (FSDP) are gathered once a pass, by all ranks together: there it is one pass.
    """
    sliced = any(isinstance(module, FSDPModule) for module in model.modules())
    lengths = [len(row) for row in embeddings]
    losses = []
    for group in [range(len(lengths))] if sliced else like_lengths(lengths):
        padded, _ = pad_rows([embeddings[i] for i in group])
        losses.append(loss_of_states(model, model(padded), [pairs[i] for i in group]))
    return Loss(torch.stack([loss.total for loss in losses]).sum(), sum(loss.count for loss in losses))


def like_lengths(lengths: Sequence[int], least: float = 0.6) -> list[list[int]]:
    """Indices in groups, the longest first; in a group none is shorter than `least` of its longest."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not groups or lengths[i] < least * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(i)
    return groups


def loss_of_states(model: GraniteForCausalLM, hidden: Tensor, pairs: Sequence[Pair]) -> Loss:
    """The same of the language model's states (B, L, H)."""
    picked, targets = [], []
    for row, pair in zip(hidden, pairs, strict=True):
        start = len(pair.prompt) - 1
        picked.append(row[start : start + len(pair.reply)])
        targets += pair.reply
    return next_token(model.logits(torch.cat(picked)), torch.tensor(targets, device=hidden.device))
