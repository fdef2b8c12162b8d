"""Greedy decoding of many prompts at once: a ragged batch with a key/value cache.

One padded pass reads all prompts, then every step adds a token to each running row. Rows finish on their own and leave
the batch. The tokens are those of `greedy_decode`. Knows no text, no files, no seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lithophone.decode.greedy import Reply, most_probable, reply_budget
from lithophone.decode.options import Greedy
from lithophone.errors import OptionError
from lithophone.model.cache import KVCache
from lithophone.model.granite import pad_rows
from lithophone.model.lora import has_lora
from lithophone.model.speech import GraniteSpeech


@dataclass
class Row:
    """A reply under way."""

    budget: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False

    @property
    def running(self) -> bool:
        return not self.finished and len(self.ids) < self.budget

    def take(self, token: int, logprob: float, eos: int) -> None:
        """The next token of this row, which may be its end."""
        if token == eos:
            self.finished = True
        else:
            self.ids.append(token)
            self.logprobs.append(logprob)

    def reply(self) -> Reply:
        return Reply(tuple(self.ids), self.finished, tuple(self.logprobs))


@torch.inference_mode()
def decode_batch(
    model: GraniteSpeech, prompts: Sequence[Tensor], options: Greedy, n_audio: Sequence[int]
) -> list[Reply]:
    """Decode prompts of embeddings `(L_i, H)`, of which `n_audio[i]` are audio; replies come in the order of prompts.

    Raises OptionError where prompts with and without audio meet in a model with LoRA adapters: they cannot be on and
    off in one pass.
    """
    assert len(prompts) == len(n_audio), "one count of audio embeddings per prompt"
    audio = _one_kind(model, n_audio)
    rows = [Row(reply_budget(model, len(p), options, n)) for p, n in zip(prompts, n_audio, strict=True)]
    running = [i for i, row in enumerate(rows) if row.running]
    if running:
        with model.adapters(audio):
            _run(model, [prompts[i] for i in running], [rows[i] for i in running])
    return [row.reply() for row in rows]


def _run(model: GraniteSpeech, prompts: list[Tensor], rows: list[Row]) -> None:
    capacity = max(len(prompt) + row.budget for prompt, row in zip(prompts, rows, strict=True))
    cache = model.language_model.new_cache(len(rows), capacity)
    hidden = _prefill(model, prompts, cache)
    while True:
        tokens = _take(model, hidden, rows)
        rows, tokens = _drop_finished(rows, tokens, cache)
        if not rows:
            return
        hidden = model.language_model(model.language_model.embed(tokens)[:, None], cache)[:, 0]


def _prefill(model: GraniteSpeech, prompts: list[Tensor], cache: KVCache) -> Tensor:
    """Read all prompts in one pass; gives the hidden state at each one's last position, `(B, H)`."""
    padded, lengths = pad_rows(prompts)
    hidden: Tensor = model.language_model(padded, cache, lengths=lengths)
    return hidden[torch.arange(len(prompts), device=hidden.device), lengths - 1]


def _take(model: GraniteSpeech, hidden: Tensor, rows: list[Row]) -> Tensor:
    """Give every row its next token; the tokens `(B,)` are also the next input."""
    logprobs, tokens = most_probable(model, hidden)
    eos = model.config.text_config.eos_token_id
    for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
        row.take(token, logprob, eos)
    return tokens


def _drop_finished(rows: list[Row], tokens: Tensor, cache: KVCache) -> tuple[list[Row], Tensor]:
    kept = [i for i, row in enumerate(rows) if row.running]
    if len(kept) == len(rows):
        return rows, tokens
    index = torch.tensor(kept, device=tokens.device, dtype=torch.int64)
    if kept:
        cache.select(index)
    return [rows[i] for i in kept], tokens[index]


def _one_kind(model: GraniteSpeech, n_audio: Sequence[int]) -> bool:
    """Whether the batch holds audio; a model with adapters must not meet both kinds."""
    with_audio = [n > 0 for n in n_audio]
    if has_lora(model) and len(set(with_audio)) > 1:
        raise OptionError(f"{sum(with_audio)} of {len(with_audio)} prompts hold audio: decode text prompts apart")
    return any(with_audio)
