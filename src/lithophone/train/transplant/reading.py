"""Next-token probabilities of Whisper's decoder, as soft targets of a language model with other tokens.

Whisper is given a transcript, and expects a token behind each prefix of it. A language model that splits the same text
elsewhere is taught where it has the same prefix, among the tokens that both have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.text.tokenizer import Tokenizer
from lithophone.train.targets.losses import Loss
from lithophone.train.transplant.whisper_decoder import IGNORED, DecoderInput, TextTeacher, lower_capitals

TOP = 32
"""Tokens that are kept, the most probable ones."""
LEAST_MASS = 0.3
"""Of the probability, on tokens that both have; behind prefixes with less nothing is taught."""
OTHER_NAMES = {"<|end_of_text|>": "<|endoftext|>"}
"""Special tokens, and Whisper's names of them."""


@dataclass(frozen=True)
class SoftTargets:
    """What is expected in N places of a row: index (N,), tokens (N, K), probabilities (N, K) that add up to 1."""

    index: Tensor
    tokens: Tensor
    probabilities: Tensor

    def to(self, device: torch.device | str) -> SoftTargets:
        return SoftTargets(*(tensor.to(device) for tensor in vars(self).values()))

    def divergence(self, logits: Tensor) -> Loss:
        """Kullback-Leibler divergence of the probabilities of logits (L, V), counted per place."""
        log_probabilities = logits[self.index].float().log_softmax(-1).gather(1, self.tokens)
        total = F.kl_div(log_probabilities, self.probabilities, reduction="sum")
        return Loss(total, float(len(self.index)))


@dataclass(frozen=True)
class Reading:
    """A text, and what Whisper expects behind N of its prefixes, in bytes with the space in front."""

    text: str
    targets: SoftTargets
    """Their index is the length of the prefix."""


class ReadingTeacher:
    """Whisper's decoder on the output of an encoder of the recipe `transplant`."""

    def __init__(self, text: TextTeacher, to_decoder: DecoderInput, tokenizer: Tokenizer) -> None:
        self.text, self.to_decoder = text, to_decoder
        ours = {piece: number for number, piece in enumerate(tokenizer.pieces)}
        names = {theirs: name for name, theirs in OTHER_NAMES.items()}
        known = [ours.get(names.get(piece, piece), -1) for piece in text.tokenizer.pieces]
        rows = len(text.decoder.embeddings)
        self.ours = torch.tensor((known + [-1] * rows)[:rows])
        """(tokens of Whisper,): our ids, -1 for none."""
        self.lengths = [len(piece) for piece in tokenizer.pieces]
        self.whisper_lengths = [len(piece) for piece in text.tokenizer.pieces]

    def to(self, device: torch.device | str) -> ReadingTeacher:
        self.text, self.to_decoder, self.ours = self.text.to(device), self.to_decoder.to(device), self.ours.to(device)
        return self

    @torch.no_grad()
    def read(self, states: Tensor, valid: Tensor, texts: Sequence[str], langs: Sequence[str]) -> list[Reading | None]:
        """Of encoder outputs (B, T, D + SPARE), valid (B, T); None where there is nothing to teach."""
        ids, targets = self.text.rows([text.strip() for text in texts], langs)
        hidden = self.text.decoder(ids.to(states.device), self.to_decoder(states.float()), valid)
        readings: list[Reading | None] = []
        for text, row, replies in zip(texts, hidden, targets, strict=True):
            kept = replies != IGNORED
            logits = self.text.decoder.logits(row[kept.to(row.device)]).float()
            probabilities, tokens = logits.softmax(-1).topk(min(TOP, logits.shape[-1]))
            tokens = self.ours[tokens]
            probabilities = probabilities * (tokens >= 0)
            mass = probabilities.sum(-1)
            sure = mass > LEAST_MASS
            widths = [self.whisper_lengths[token] for token in replies[kept].tolist()]
            prefixes = torch.tensor([0, *accumulate(widths)][: len(widths)], device=states.device)
            soft = SoftTargets(
                prefixes[sure], tokens.clamp_min(0)[sure], probabilities[sure] / mass[sure, None]
            )  # fmt: skip
            readings.append(Reading(lower_capitals(text.strip()), soft) if len(soft.index) else None)
        return readings

    def taught(self, reading: Reading | None, text: str, reply: Sequence[int]) -> SoftTargets | None:
        """Soft targets of a reply with these tokens, if it is the text that was read."""
        if reading is None or reading.text != text:
            return None
        places = {length: n for n, length in enumerate([0, *accumulate(self.lengths[token] for token in reply[:-1])])}
        prefixes = reading.targets.index.tolist()
        chosen = [n for n, length in enumerate(prefixes) if length in places]
        if not chosen:
            return None
        rows = torch.tensor(chosen, device=reading.targets.index.device)
        index = torch.tensor([places[prefixes[n]] for n in chosen], device=rows.device)
        return SoftTargets(index, reading.targets.tokens[rows], reading.targets.probabilities[rows])
