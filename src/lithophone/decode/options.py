"""Decoder options, one frozen dataclass each, and the budget of new tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias, TypeGuard

from lithophone.errors import OptionError

EMBEDDINGS_PER_30_S = 300
"""Audio embeddings come at 10 Hz."""

MAX_BEAMS = 100
MAX_EDITING_STEPS = 100
MAX_NATS = 100.0

MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e6
"""Range in which float32 logits stay distinct."""

MAX_SEED = 2**64 - 1
MAX_WHOLE = 2**31 - 1
"""For all but seeds: tensor sizes are counted in it."""

TOKENS_PER_LABEL = 1.25
"""Budget per character of the best CTC path; measured: Japanese 1.04, English 0.5."""


@dataclass(frozen=True)
class Budget:
    """Budget of new tokens: `max_new_tokens`, or else `max_new_tokens_per_30s` scaled by `token_budget`.

    A reply that reaches it is not `finished`.
    """

    max_new_tokens: int | None = None
    max_new_tokens_per_30s: int = 200

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None:
            check_whole("max_new_tokens", self.max_new_tokens)
        check_whole("max_new_tokens_per_30s", self.max_new_tokens_per_30s)


NEED_CTC = {
    "keyword_boost": "words are boosted where the encoder's characters resemble them",
    "future_cost": "what is still to come is read off the encoder's characters",
}
"""Settings of `JointSearch` that need a `ctc_weight`, and why."""


@dataclass(frozen=True)
class JointSearch(Budget):
    """Search by log probabilities, jointly with CTC where `ctc_weight` is above 0.

    Joint score: (1 - `ctc_weight`) LM + `ctc_weight` CTC, plus `keyword_boost` nats per keyword label, less
    `future_cost` nats per label of the best CTC path that a running hypothesis lacks.
    """

    ctc_weight: float = field(default=0.0, kw_only=True)
    keyword_boost: float = field(default=0.0, kw_only=True)
    future_cost: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("ctc_weight", self.ctc_weight, lambda value: 0 <= value < 1, "from 0 to below 1")
        for name, reason in NEED_CTC.items():
            check_nats(name, getattr(self, name))
            if getattr(self, name) and not self.ctc_weight:
                raise OptionError(
                    f"{name} is {getattr(self, name)!r} and ctc_weight 0: {reason}, so ctc_weight has to be above 0 "
                    "(0.3, say)"
                )


@dataclass(frozen=True)
class Greedy(JointSearch):
    """The best token at every step: the most probable one, or that of the best joint score."""

    num_beams: ClassVar[int] = 1
    length_penalty: ClassVar[float] = 1.0


@dataclass(frozen=True, kw_only=True)
class Speculative(Budget):
    """A CTC draft verified by the language model, in the first pass all of it, then `lookahead` tokens a pass.

    `tau_slm`: least probability of an accepted draft token; None: it must be the most probable one, and the reply
    equals `Greedy`. A draft whose frames have at most `tau_ctc` nats of entropy may stay unverified
    (`speculative.confident`). At 2,048 channels the rows of 14 tokens and one more are as many as torch computes on one
    thread between two products; a pass of 17 takes a third more.
    """

    tau_ctc: float | None = None
    tau_slm: float | None = None
    lookahead: int = 14

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau_ctc is not None:
            check_nats("tau_ctc", self.tau_ctc, ", or None")
        if self.tau_slm is not None:
            check_number("tau_slm", self.tau_slm, _is_share, "above 0 and at most 1, or None")
        check_whole("lookahead", self.lookahead)


@dataclass(frozen=True, kw_only=True)
class Sampling(Budget):
    """Sampling from logits / `temperature`, cut to the `top_k` best and of those to the `top_p` mass.

    The reply depends on prompt and `seed`, not on the batch.
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


@dataclass(frozen=True, kw_only=True)
class BeamSearch(JointSearch):
    """The best of `num_beams` hypotheses by score over `length ** length_penalty`."""

    num_beams: int = 2
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("num_beams", self.num_beams, least=2, most=MAX_BEAMS)
        check_number("length_penalty", self.length_penalty, lambda value: -10 <= value <= 10, "from -10 to 10")


@dataclass(frozen=True)
class Edit:
    """Non-autoregressive editing: at most `editing_steps` passes, until one changes nothing."""

    editing_steps: int = 1

    def __post_init__(self) -> None:
        check_whole("editing_steps", self.editing_steps, most=MAX_EDITING_STEPS)


@dataclass(frozen=True)
class CTC:
    """CTC greedy decoding by the head "bpe" or "characters"; None: bpe where there is one."""

    ctc_head: str | None = None

    def __post_init__(self) -> None:
        if self.ctc_head is not None and self.ctc_head not in ("bpe", "characters"):
            raise OptionError(f"ctc_head is {shown(self.ctc_head)}: it must be 'bpe', 'characters' or None")


Decoder: TypeAlias = Greedy | Speculative | Sampling | BeamSearch | Edit | CTC


def token_budget(options: Budget, n_audio: int, expected_labels: int = 0) -> int:
    """New tokens for `n_audio` audio embeddings and `expected_labels` on the best CTC path.

    `max_new_tokens_per_30s` grows with audio beyond 30 s, and to `TOKENS_PER_LABEL` a label where that is more.
    """
    if options.max_new_tokens is not None:
        return options.max_new_tokens
    by_audio = -(-options.max_new_tokens_per_30s * max(n_audio, EMBEDDINGS_PER_30_S) // EMBEDDINGS_PER_30_S)
    return max(by_audio, math.ceil(TOKENS_PER_LABEL * expected_labels))


def check_whole(name: str, value: object, least: int = 1, most: int = MAX_WHOLE) -> None:
    """Raise OptionError unless `value` is a whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise OptionError(f"{name} is {shown(value)}: it must be a whole number, at least {least} and at most {most}")


def check_number(name: str, value: object, is_allowed: Callable[[float], bool], allowed: str) -> None:
    """Raise OptionError, naming what is `allowed`, unless `value` is finite and allowed."""
    if not _is_finite(value) or not is_allowed(value):
        raise OptionError(f"{name} is {shown(value)}: it must be {allowed}")


def shown(value: object) -> str:
    """`repr` for error messages, at most 80 characters."""
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


def check_nats(name: str, value: object, more: str = "") -> None:
    """OptionError unless a weight or penalty in nats is usual; `more` is allowed as well."""
    check_number(name, value, _is_nats, f"from 0 to {MAX_NATS:g} nats{more}")


def _is_nats(value: float) -> bool:
    return 0 <= value <= MAX_NATS
