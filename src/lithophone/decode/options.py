"""How to decode: one frozen dataclass per decoder, and the budget of new tokens. Numbers only, no tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from lithophone.errors import OptionError

EMBEDDINGS_PER_30_S = 300
"""Audio embeddings come at 10 Hz: three for every window of 15 frames of 20 ms."""

TOKENS_PER_LABEL = 1.25
"""New tokens a reply may have for each character on the best CTC path: Japanese has 1.04 of them, English 0.5."""


@dataclass(frozen=True)
class Budget:
    """How long a reply may become, whatever the decoder.

    A reply ends at the end-of-text token, or unfinished at its budget: `max_new_tokens` where that is given, else
    `max_new_tokens_per_30s`, scaled up for audio longer than 30 s.
    """

    max_new_tokens: int | None = None
    max_new_tokens_per_30s: int = 200

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None:
            check_whole("max_new_tokens", self.max_new_tokens)
        check_whole("max_new_tokens_per_30s", self.max_new_tokens_per_30s)


@dataclass(frozen=True)
class Greedy(Budget):
    """The most probable token at every step."""


@dataclass(frozen=True, kw_only=True)
class Speculative(Budget):
    """A draft, verified by the language model: all of it in the first pass, then `lookahead` tokens a pass.

    With `tau_slm` None a token of the draft stands where it is the most probable one, and the reply is that of
    `Greedy`. Else it stands where its probability is at least `tau_slm`, in (0, 1]. Where the entropy of the draft's
    frames never exceeds `tau_ctc`, in nats, the draft itself may be the reply: `confident` tells, the caller decides.
    """

    tau_ctc: float | None = None
    tau_slm: float | None = None
    lookahead: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau_ctc is not None:
            check_number("tau_ctc", self.tau_ctc, lambda value: value >= 0, "0 nats or more, or None")
        if self.tau_slm is not None:
            check_number("tau_slm", self.tau_slm, _is_share, "above 0 and at most 1, or None")
        check_whole("lookahead", self.lookahead)


@dataclass(frozen=True, kw_only=True)
class Sampling(Budget):
    """Tokens drawn at random: logits divided by `temperature`, the `top_k` best of them, and of those the `top_p` mass.

    A reply depends on its prompt and on `seed`, never on the batch it is decoded in.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(
            "temperature", self.temperature, lambda value: 0 < value < math.inf, "above 0; Greedy is its limit at 0"
        )
        check_number("top_p", self.top_p, _is_share, "above 0 and at most 1")
        if self.top_k is not None:
            check_whole("top_k", self.top_k)
        check_whole("seed", self.seed, least=0)


_BY_EAR = {
    "keyword_boost": "words are boosted where the encoder hears them",
    "future_cost": "what is still to come is what the encoder hears",
}
"""Options of beams that need the encoder, and why."""


@dataclass(frozen=True, kw_only=True)
class BeamSearch(Budget):
    """The best of `num_beams` replies, by the sum of log-probabilities over `length ** length_penalty`.

    With `ctc_weight` w, from 0 to below 1, a reply's log-probability is (1 - w) times that of the language model plus w
    times that of the encoder's characters, at every step. There `keyword_boost` nats are added for every letter of a
    word of the task's keyword list, and beginnings of replies are compared by what they will have cost in the end,
    `future_cost` nats for every letter that the encoder heard behind them.
    """

    num_beams: int = 2
    length_penalty: float = 1.0
    ctc_weight: float = 0.0
    keyword_boost: float = 0.0
    future_cost: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("num_beams", self.num_beams, least=2)
        check_number("length_penalty", self.length_penalty, lambda value: -10 <= value <= 10, "from -10 to 10")
        check_number("ctc_weight", self.ctc_weight, lambda value: 0 <= value < 1, "from 0 to below 1")
        for name, reason in _BY_EAR.items():
            check_number(name, getattr(self, name), lambda value: 0 <= value < math.inf, "0 nats or more")
            if getattr(self, name) and not self.ctc_weight:
                raise OptionError(
                    f"{name} is {getattr(self, name)!r} and ctc_weight 0: {reason}, so ctc_weight has to be above 0 "
                    "(0.3, say)"
                )


@dataclass(frozen=True)
class Edit:
    """How to edit: `editing_steps` passes, each of them over what the one before has made of the hypothesis.

    A row that a pass leaves as it was is finished: another pass would leave it so as well.
    """

    editing_steps: int = 1

    def __post_init__(self) -> None:
        check_whole("editing_steps", self.editing_steps)


@dataclass(frozen=True)
class CTC:
    """No language model: what the encoder spells, by its `ctc_head` "bpe" or "characters"; None is bpe where it is."""

    ctc_head: str | None = None

    def __post_init__(self) -> None:
        if self.ctc_head not in (None, "bpe", "characters"):
            raise OptionError(f"ctc_head is {self.ctc_head!r}: it must be 'bpe', 'characters' or None")


Decoder: TypeAlias = Greedy | Speculative | Sampling | BeamSearch | Edit | CTC


def token_budget(options: Budget, n_audio: int, expected_labels: int = 0) -> int:
    """New tokens a reply may have: `n_audio` audio embeddings in its prompt, `expected_labels` on the best CTC path."""
    if options.max_new_tokens is not None:
        return options.max_new_tokens
    by_audio = -(-options.max_new_tokens_per_30s * max(n_audio, EMBEDDINGS_PER_30_S) // EMBEDDINGS_PER_30_S)
    return max(by_audio, math.ceil(TOKENS_PER_LABEL * expected_labels))


def check_whole(name: str, value: object, least: int = 1) -> None:
    """OptionError where `value` is no whole number, or is below `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{name} is {value!r}: it must be a whole number, at least {least}")


def check_number(name: str, value: object, is_allowed: Callable[[float], bool], allowed: str) -> None:
    """OptionError, saying what is allowed, where `value` is no number or is not allowed."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not is_allowed(value):
        raise OptionError(f"{name} is {value!r}: it must be {allowed}")


def _is_share(value: float) -> bool:
    return 0 < value <= 1
