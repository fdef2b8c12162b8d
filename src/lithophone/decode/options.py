"""Options: one frozen dataclass per decoder, and the budget of new tokens. Every number has a finite range."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from lithophone.errors import OptionError

EMBEDDINGS_PER_30_S = 300
"""Audio embeddings come at 10 Hz."""

MAX_BEAMS = 100
MAX_EDITING_STEPS = 100
MAX_NATS = 100.0
"""Beyond these an option is a mistake, or a folder of a model that means harm."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e6
"""Where float32 still tells logits from each other."""

MAX_SEED = 2**64 - 1
MAX_WHOLE = 2**31 - 1
"""Of every whole number but a seed: sizes of tensors are counted in it."""

TOKENS_PER_LABEL = 1.25
"""New tokens a reply may have for each character on the best CTC path: Japanese has 1.04 of them, English 0.5."""


@dataclass(frozen=True)
class Budget:
    """Budget of new tokens of every decoder that reads a prompt; a reply that reaches it is not finished.

    `max_new_tokens` where that is given, else `max_new_tokens_per_30s`, scaled up for audio longer than 30 s, or more
    where the encoder's best path has more labels than that leaves room for (`token_budget`).
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

    With `tau_slm` None a draft token is accepted where it is the most probable one, and the reply is that of `Greedy`;
    else where its probability is at least `tau_slm`. A draft whose frames have an entropy of at most `tau_ctc` nats
    may be the reply unverified (`speculative.confident`).
    """

    tau_ctc: float | None = None
    tau_slm: float | None = None
    lookahead: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau_ctc is not None:
            check_number("tau_ctc", self.tau_ctc, _is_nats, f"from 0 to {MAX_NATS:g} nats, or None")
        if self.tau_slm is not None:
            check_number("tau_slm", self.tau_slm, _is_share, "above 0 and at most 1, or None")
        check_whole("lookahead", self.lookahead)


@dataclass(frozen=True, kw_only=True)
class Sampling(Budget):
    """Tokens drawn at random: logits divided by `temperature`, the `top_k` best of them, of those the `top_p` mass.

    A reply depends on its prompt and on `seed`, never on its batch.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(
            "temperature",
            self.temperature,
            lambda value: MIN_TEMPERATURE <= value <= MAX_TEMPERATURE,
            f"from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}; at 0 sampling is greedy decoding, decode='greedy'",
        )
        check_number("top_p", self.top_p, _is_share, "above 0 and at most 1")
        if self.top_k is not None:
            check_whole("top_k", self.top_k)
        check_whole("seed", self.seed, least=0, most=MAX_SEED)


_NEED_CTC = {
    "keyword_boost": "words are boosted where the encoder's characters resemble them",
    "future_cost": "what is still to come is read off the encoder's characters",
}
"""Options of beams that need the encoder's CTC posteriors, and why."""


@dataclass(frozen=True, kw_only=True)
class BeamSearch(Budget):
    """The best of `num_beams` hypotheses, by the sum of log-probabilities over `length ** length_penalty`.

    With a `ctc_weight` w the log-probability of a hypothesis is (1 - w) times that of the language model plus w times
    that of the encoder's CTC head (joint decoding). Then `keyword_boost` nats are added for each letter of a keyword,
    and running hypotheses are charged `future_cost` nats for each label of the best CTC path that they lack.
    """

    num_beams: int = 2
    length_penalty: float = 1.0
    ctc_weight: float = 0.0
    keyword_boost: float = 0.0
    future_cost: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("num_beams", self.num_beams, least=2, most=MAX_BEAMS)
        check_number("length_penalty", self.length_penalty, lambda value: -10 <= value <= 10, "from -10 to 10")
        check_number("ctc_weight", self.ctc_weight, lambda value: 0 <= value < 1, "from 0 to below 1")
        for name, reason in _NEED_CTC.items():
            check_number(name, getattr(self, name), _is_nats, f"from 0 to {MAX_NATS:g} nats")
            if getattr(self, name) and not self.ctc_weight:
                raise OptionError(
                    f"{name} is {getattr(self, name)!r} and ctc_weight 0: {reason}, so ctc_weight has to be above 0 "
                    "(0.3, say)"
                )


@dataclass(frozen=True)
class Edit:
    """Non-autoregressive editing: `editing_steps` passes, each over the hypothesis that the one before gave.

    A hypothesis that a pass does not change is finished.
    """

    editing_steps: int = 1

    def __post_init__(self) -> None:
        check_whole("editing_steps", self.editing_steps, most=MAX_EDITING_STEPS)


@dataclass(frozen=True)
class CTC:
    """CTC greedy decoding, by the head "bpe" or "characters"; None is bpe where the model has that head."""

    ctc_head: str | None = None

    def __post_init__(self) -> None:
        if self.ctc_head is not None and self.ctc_head not in ("bpe", "characters"):
            raise OptionError(f"ctc_head is {shown(self.ctc_head)}: it must be 'bpe', 'characters' or None")


Decoder: TypeAlias = Greedy | Speculative | Sampling | BeamSearch | Edit | CTC


def token_budget(options: Budget, n_audio: int, expected_labels: int = 0) -> int:
    """New tokens a reply may have: `n_audio` audio embeddings in its prompt, `expected_labels` on the best CTC path."""
    if options.max_new_tokens is not None:
        return options.max_new_tokens
    by_audio = -(-options.max_new_tokens_per_30s * max(n_audio, EMBEDDINGS_PER_30_S) // EMBEDDINGS_PER_30_S)
    return max(by_audio, math.ceil(TOKENS_PER_LABEL * expected_labels))


def check_whole(name: str, value: object, least: int = 1, most: int = MAX_WHOLE) -> None:
    """OptionError where `value` is no whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise OptionError(f"{name} is {shown(value)}: it must be a whole number, at least {least} and at most {most}")


def check_number(name: str, value: object, is_allowed: Callable[[float], bool], allowed: str) -> None:
    """OptionError, saying what is allowed, where `value` is no finite number or is not allowed."""
    if not _is_finite(value) or not is_allowed(value):
        raise OptionError(f"{name} is {shown(value)}: it must be {allowed}")


def shown(value: object) -> str:
    """The value as error messages show it: at most 80 characters."""
    try:
        text = repr(value)
    except ValueError:  # whole numbers of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def _is_finite(value: object) -> TypeGuard[float]:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # whole numbers beyond the largest float
        return False


def _is_share(value: float) -> bool:
    return 0 < value <= 1


def _is_nats(value: float) -> bool:
    return 0 <= value <= MAX_NATS
