"""What can be asked of a transcription: one frozen dataclass, where every default is written once.

The command line and the Python interface both read names, defaults and help from here.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

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
"""Every decoder by its name. Which of them a model can do, `pipeline/request.py` knows."""

T = TypeVar("T")


def _option(default: T, help: str) -> T:
    """A field with what the command line says about it."""
    made: T = field(default=default, metadata={"help": help})
    return made


@dataclass(frozen=True)
class TranscribeOptions:
    """How to transcribe. A value that is not allowed raises OptionError when the options are made.

    Every field says in its help what it is. Those of a single decoder are refused where `decode` does not name it.
    """

    task: str = _option("transcribe", "transcribe or translate.")
    language: str | None = _option(None, "What is spoken: en, fr, de, es, pt, ja.")
    to: str | None = _option(None, "What to translate into.")
    punctuate: bool | None = _option(None, "Punctuation and capitals, or neither (default: as the model can).")
    keywords: tuple[str, ...] = _option((), "Words to expect, separated by commas.")
    word_timestamps: bool = _option(False, "Give every word its start, end and confidence.")
    batch_size: int = _option(8, "Windows decoded together.")
    limit_s: float = _option(30.0, "Length in seconds that no window exceeds.")
    max_new_tokens: int | None = _option(None, "Tokens of a reply at most (default: 200 per 30 s, as the family's).")
    foreign_penalty: float | None = _option(
        None,
        "Nats off letters that the language given is not spelled with, in the encoder (default: the model's "
        "generation_config.json, else 0).",
    )
    decode: str | None = _option(
        None,
        f"{', '.join(DECODERS)} (default: the beams of the model's generation_config.json, else greedy's words, by "
        "speculative where the model has drafts; ctc is the encoder alone).",
    )
    tau_ctc: float | None = _option(
        Speculative.tau_ctc, "speculative: entropy in nats up to which the encoder's own text is the reply."
    )
    tau_slm: float | None = _option(
        Speculative.tau_slm, "speculative: probability at which a drafted token stands (default: only the best one)."
    )
    lookahead: int = _option(Speculative.lookahead, "speculative: drafted tokens verified in a pass.")
    num_beams: int = _option(BeamSearch.num_beams, "beam: hypotheses kept.")
    length_penalty: float = _option(BeamSearch.length_penalty, "beam: power of the length that scores are divided by.")
    ctc_weight: float = _option(
        BeamSearch.ctc_weight, "beam: share, 0 to below 1, of the encoder's characters in the score of a hypothesis."
    )
    keyword_boost: float = _option(
        BeamSearch.keyword_boost, "beam: nats for every letter of a keyword in a hypothesis; needs a ctc_weight."
    )
    future_cost: float = _option(
        BeamSearch.future_cost,
        "beam: nats that every letter which the encoder heard behind a hypothesis will cost it; needs a ctc_weight.",
    )
    temperature: float = _option(Sampling.temperature, "sample: what logits are divided by.")
    top_p: float = _option(Sampling.top_p, "sample: probability mass to draw from.")
    top_k: int | None = _option(Sampling.top_k, "sample: number of tokens to draw from.")
    seed: int = _option(Sampling.seed, "sample: the same seed gives the same words.")
    editing_steps: int = _option(Edit.editing_steps, "edit: passes over the hypothesis.")
    ctc_head: str | None = _option(CTC.ctc_head, "ctc: bpe or characters (default: bpe where there is such a head).")

    def __post_init__(self) -> None:
        object.__setattr__(self, "keywords", clean_keywords(self.keywords))
        check_whole("batch_size", self.batch_size)
        if self.max_new_tokens is not None:
            check_whole("max_new_tokens", self.max_new_tokens)
        if not self.limit_s >= MIN_LIMIT_S:
            raise OptionError(f"limit_s is {self.limit_s!r}: a window needs at least {MIN_LIMIT_S:g} s, 30 are usual")
        if self.foreign_penalty is not None:
            check_number("foreign_penalty", self.foreign_penalty, lambda nats: 0 <= nats < math.inf, "0 nats or more")
        if self.task != "translate" and self.to is not None:
            raise OptionError(f"to={self.to!r} goes with task 'translate', and the task is {self.task!r}")
        if self.task == "translate" and self.word_timestamps:
            raise OptionError("word_timestamps needs the words that were said: it does not go with task 'translate'")
        self.task_for("granite_speech")
        self._check_decoder()

    def task_for(self, variant: Variant | ModelType) -> Task:
        """The task in the words of `prompts`, with what was left open decided by the kind of model."""
        asked: dict[str, Any] = {"language": self.language, "keywords": self.keywords}
        if self.task in ("transcribe", "translate"):
            default = default_task(variant).punctuate
            asked["punctuate"] = default if self.punctuate is None else self.punctuate
        if self.to is not None:
            asked["to"] = self.to
        return task_named(self.task, **asked)

    def decoder(self, name: str, max_new_tokens: int | None = None) -> Decoder:
        """The decoder of that name with its options; `max_new_tokens` is the budget where none was asked for."""
        kind = DECODERS[name]
        values = {key: getattr(self, key) for key in _fields(kind) & _fields(TranscribeOptions)}
        if "max_new_tokens" in values:
            values["max_new_tokens"] = self.max_new_tokens or max_new_tokens
        return kind(**values)

    @property
    def text_language(self) -> str | None:
        """Code of the language the transcript is written in, where it is known."""
        name = self.language if self.to is None else self.to
        return None if name is None else language_code(name)

    def _check_decoder(self) -> None:
        if self.decode is not None and self.decode not in DECODERS:
            raise OptionError(f"unknown decoder {self.decode!r}; there are {', '.join(DECODERS)}")
        mine = _fields(DECODERS[self.decode]) if self.decode else frozenset({"max_new_tokens"})
        for name in self._changed() & _decoder_fields() - mine:
            owner = next(decoder for decoder, kind in DECODERS.items() if name in _fields(kind))
            raise OptionError(f"{name} goes with decode={owner!r}, and decode is {self.decode!r}")
        if self.decode:
            self.decoder(self.decode)
        if self.decode in ("ctc", "edit") and (self.task != "transcribe" or self.punctuate or self.keywords):
            raise OptionError(
                f"decode={self.decode!r} takes no prompt: it gives raw transcripts, and takes no keywords"
            )
        task = self.task_for("granite_speech")
        if self.tau_ctc is not None and not (isinstance(task, Transcribe) and not task.punctuate and not task.keywords):
            raise OptionError("tau_ctc lets the encoder's raw text through: it needs punctuate=False and no keywords")

    def _changed(self) -> frozenset[str]:
        """Names of the options that are not as they are by default."""
        return frozenset(f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default)


def options_with(options: TranscribeOptions | None, changes: dict[str, Any]) -> TranscribeOptions:
    """`options`, or the defaults, with single values changed; OptionError for a name that is no option."""
    known = [field.name for field in dataclasses.fields(TranscribeOptions)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise OptionError(f"unknown option {', '.join(unknown)}; there are {', '.join(known)}")
    return dataclasses.replace(options or TranscribeOptions(), **changes)


def _fields(kind: type[Any]) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(kind))


def _decoder_fields() -> frozenset[str]:
    return frozenset[str]().union(*map(_fields, DECODERS.values()))
