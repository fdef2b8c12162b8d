"""Transcription options: one frozen dataclass, read by the command line and by Python.

A field of a decoder that is None was not given. Its value then comes from the checkpoint's `generation_config.json`,
and last from the default of the decoder's own dataclass (`pipeline/request.py`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from lithophone.audio.segmenter import MIN_LIMIT_S
from lithophone.decode.options import (
    CTC,
    BeamSearch,
    Decoder,
    Edit,
    Greedy,
    Sampling,
    Speculative,
    check_number,
    check_whole,
)
from lithophone.errors import OptionError
from lithophone.model.config import ModelType, Variant
from lithophone.text.prompts import Task, Transcribe, clean_keywords, default_task, language_code, task_named

DECODERS: dict[str, type[Decoder]] = {
    "greedy": Greedy, "speculative": Speculative, "beam": BeamSearch, "sample": Sampling, "edit": Edit, "ctc": CTC,
}  # fmt: skip
"""Every decoder by its name. `pipeline/request.py` knows which of them a model has."""

T = TypeVar("T")


def _option(default: T, help: str) -> T:
    """A field with its help text."""
    made: T = field(default=default, metadata={"help": help})
    return made


def _beam(name: str, help: str) -> Any:
    """A field of BeamSearch, whose default the checkpoint may set."""
    default = getattr(BeamSearch, name)
    return _option(None, f"beam: {help} (default: the model's generation_config.json, else {default:g}).")


@dataclass(frozen=True)
class TranscribeOptions:
    """How to transcribe. Raises OptionError for a value that is not allowed.

    Every field has a help text in its metadata. Fields of one decoder are refused with another.
    """

    task: str = _option("transcribe", "transcribe or translate; plus models: speakers or word-times as well.")
    language: str | None = _option(None, "Language spoken: en, fr, de, es, pt, ja (region tags such as pt-BR count).")
    to: str | None = _option(None, "Language to translate into.")
    punctuate: bool | None = _option(None, "Punctuation and capitals, or neither (default: the model's).")
    keywords: tuple[str, ...] = _option((), "Words to expect, separated by commas.")
    word_timestamps: bool = _option(False, "Give every word its start, end and confidence.")
    batch_size: int = _option(8, "Windows decoded together.")
    limit_s: float = _option(30.0, "Longest window in seconds.")
    max_new_tokens: int | None = _option(None, "Tokens of a reply at most (default: 200 per 30 s, more if needed).")
    foreign_penalty: float | None = _option(
        None,
        "Nats off the encoder's logits of letters that `language` is not spelled with (default: the model's "
        "generation_config.json, else 0).",
    )
    decode: str | None = _option(
        None,
        f"{', '.join(DECODERS)} (default: the beams of the model's generation_config.json, else speculative where the "
        "model has CTC drafts, else greedy; ctc is the encoder alone).",
    )
    tau_ctc: float | None = _option(
        None, "speculative: entropy in nats up to which the encoder's text is the reply (default: never)."
    )
    tau_slm: float | None = _option(
        None, "speculative: probability at which a drafted token is accepted (default: only the best token is)."
    )
    lookahead: int | None = _option(
        None, f"speculative: drafted tokens verified in a pass (default: {Speculative.lookahead})."
    )
    num_beams: int | None = _beam("num_beams", "hypotheses kept")
    length_penalty: float | None = _beam("length_penalty", "power of the length that scores are divided by")
    ctc_weight: float | None = _beam("ctc_weight", "weight, 0 to below 1, of the CTC prefix score")
    keyword_boost: float | None = _beam("keyword_boost", "nats per letter of a keyword; needs a ctc_weight")
    future_cost: float | None = _beam("future_cost", "nats per CTC label yet to be decoded; needs a ctc_weight")
    temperature: float | None = _option(None, f"sample: divisor of the logits (default: {Sampling.temperature:g}).")
    top_p: float | None = _option(None, f"sample: probability mass to draw from (default: {Sampling.top_p:g}).")
    top_k: int | None = _option(None, "sample: number of tokens to draw from (default: all).")
    seed: int | None = _option(None, f"sample: seed of the random numbers (default: {Sampling.seed}).")
    editing_steps: int | None = _option(None, f"edit: passes over the hypothesis (default: {Edit.editing_steps}).")
    ctc_head: str | None = _option(None, "ctc: bpe or characters (default: bpe where the model has it).")

    def __post_init__(self) -> None:
        for name, kinds in _kinds().items():
            _check_kind(name, getattr(self, name), kinds)
        object.__setattr__(self, "keywords", clean_keywords(_words(self.keywords)))
        check_whole("batch_size", self.batch_size)
        check_number("limit_s", self.limit_s, _is_length, f"finite and at least {MIN_LIMIT_S:g} s; 30 are usual")
        if self.max_new_tokens is not None:
            check_whole("max_new_tokens", self.max_new_tokens)
        if self.foreign_penalty is not None:
            check_number("foreign_penalty", self.foreign_penalty, lambda nats: 0 <= nats < math.inf, "0 nats or more")
        if self.task != "translate" and self.to is not None:
            raise OptionError(f"to={self.to!r} goes with task 'translate', and the task is {self.task!r}")
        if self.task == "translate" and self.word_timestamps:
            raise OptionError("word_timestamps needs the words that were said: it does not go with task 'translate'")
        self.task_for("granite_speech")
        self._check_decoder()

    def task_for(self, variant: Variant | ModelType, raw_languages: Sequence[str] = ()) -> Task:
        """The task; what is not given depends on the kind of model and the languages that it transcribes raw."""
        asked: dict[str, Any] = {"language": self.language, "keywords": self.keywords}
        if self.task in ("transcribe", "translate"):
            raw = self.task == "transcribe" and self.text_language in raw_languages
            default = default_task(variant).punctuate and not raw
            asked["punctuate"] = default if self.punctuate is None else self.punctuate
        if self.to is not None:
            asked["to"] = self.to
        return task_named(self.task, **asked)

    def given(self, kind: type[Decoder]) -> dict[str, Any]:
        """The options of a decoder that were given, by name; `max_new_tokens` is not one of a decoder alone."""
        names = fields_of(kind) & fields_of(TranscribeOptions) - {"max_new_tokens"}
        return {name: getattr(self, name) for name in sorted(names) if getattr(self, name) is not None}

    def check_owner(self, name: str, chosen: str) -> None:
        """OptionError where an option of another decoder than the one called `name` was given; `chosen` names it."""
        mine = self.given(DECODERS[name])
        for owner, kind in DECODERS.items():
            for option in self.given(kind):
                if option not in mine:
                    raise OptionError(f"{option} goes with decode={owner!r}, and {chosen}")
        if self.max_new_tokens is not None and "max_new_tokens" not in fields_of(DECODERS[name]):
            raise OptionError(f"max_new_tokens goes with decode='greedy' and others of a language model, and {chosen}")

    @property
    def text_language(self) -> str | None:
        """Code of the language the transcript is written in, where it is known."""
        name = self.language if self.to is None else self.to
        return None if name is None else language_code(name)

    def _check_decoder(self) -> None:
        if self.decode is not None and self.decode not in DECODERS:
            raise OptionError(f"unknown decoder {self.decode!r}; there are {', '.join(DECODERS)}")
        for kind in DECODERS.values():
            # Whether there is a ctc_weight the checkpoint has a say in: here each value is checked by itself.
            kind(**({"ctc_weight": 0.5} if kind is BeamSearch else {}) | self.given(kind))
        if self.decode:
            self.check_owner(self.decode, f"decode is {self.decode!r}")
        if self.decode in ("ctc", "edit") and (self.task != "transcribe" or self.punctuate or self.keywords):
            raise OptionError(
                f"decode={self.decode!r} takes no prompt: it gives raw transcripts, and takes no keywords"
            )
        task = self.task_for("granite_speech")
        if self.tau_ctc is not None and not (isinstance(task, Transcribe) and not task.punctuate and not task.keywords):
            raise OptionError("tau_ctc lets the encoder's raw text through: it needs punctuate=False and no keywords")


def options_with(options: TranscribeOptions | None, changes: dict[str, Any]) -> TranscribeOptions:
    """`options`, or the defaults, with single values changed; OptionError for a name that is no option."""
    known = [field.name for field in dataclasses.fields(TranscribeOptions)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise OptionError(f"unknown option {', '.join(unknown)}; there are {', '.join(known)}")
    if options is not None and not isinstance(options, TranscribeOptions):
        raise OptionError(f"options is {options!r}: it must be TranscribeOptions; single options go by their names")
    return dataclasses.replace(options or TranscribeOptions(), **changes)


def _is_length(seconds: float) -> bool:
    return MIN_LIMIT_S <= seconds < math.inf


def fields_of(kind: type[Any]) -> frozenset[str]:
    """Names of a dataclass's fields."""
    return frozenset(f.name for f in dataclasses.fields(kind))


@cache
def _kinds() -> dict[str, tuple[type, ...]]:
    """The types that each field takes; a number may be whole."""
    hints = get_type_hints(TranscribeOptions)
    kinds = {name: get_args(hint) or (hint,) for name, hint in hints.items() if name != "keywords"}
    return {name: (*some, int) if float in some else some for name, some in kinds.items()}


_KIND_NAMES = {str: "text", bool: "True or False", int: "a whole number", float: "a number", type(None): "None"}


def _check_kind(name: str, value: object, kinds: tuple[type, ...]) -> None:
    """OptionError where a value is of another type than its field's."""
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        shown = [title for kind, title in _KIND_NAMES.items() if kind in kinds and not (kind is int and float in kinds)]
        raise OptionError(f"{name} is {value!r}: it must be {' or '.join(shown)}")


def _words(keywords: object) -> Iterable[str]:
    """Keywords as a tuple; OptionError for anything but words."""
    if isinstance(keywords, str | bytes) or not isinstance(keywords, Iterable):
        kind = "one string" if isinstance(keywords, str) else type(keywords).__name__
        raise OptionError(f"keywords is {keywords!r}: it must be a list of words, not {kind}")
    words = tuple(keywords)
    for word in words:
        if not isinstance(word, str):
            raise OptionError(f"keywords holds {word!r}: every keyword must be text")
    return words
