"""Transcription options: one frozen dataclass for the command line and Python.

A decoder field that is None comes from the checkpoint's `generation_config.json`, or else from the decoder's dataclass
(`pipeline/request.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from lithophone.audio.segmenter import LIMIT_S, MAX_LIMIT_S, MIN_LIMIT_S
from lithophone.decode.options import (
    CTC,
    BeamSearch,
    Decoder,
    Edit,
    Greedy,
    JointSearch,
    Sampling,
    Speculative,
    check_nats,
    check_number,
    check_whole,
)
from lithophone.diarization.clustering import SpeakerCount
from lithophone.errors import OptionError
from lithophone.model.config import ModelType, Variant
from lithophone.text.prompts import (
    Task,
    Transcribe,
    clean_keywords,
    default_task,
    language_code,
    source_code,
    task_named,
)

DECODERS: dict[str, type[Decoder]] = {
    "greedy": Greedy, "speculative": Speculative, "beam": BeamSearch, "sample": Sampling, "edit": Edit, "ctc": CTC,
}  # fmt: skip
"""Decoders by name; `pipeline/request.py` has those of a model."""

AUTO = "auto"
"""Value of `language`: a recording's language is detected from its speech (`pipeline/spoken_language.py`)."""

TIMESTAMPS = ("tags", "aligned")
"""Sources of word times."""

T = TypeVar("T")


def fields_of(kind: type[Any]) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(kind))


def _option(default: T, help: str) -> T:
    made: T = field(default=default, metadata={"help": help})
    return made


def _search(name: str, help: str) -> Any:
    """A field of BeamSearch, or of JointSearch, that the checkpoint may set."""
    default, owners = getattr(BeamSearch, name), "beam, greedy" if name in fields_of(JointSearch) else "beam"
    return _option(None, f"{owners}: {help} (default: the model's generation_config.json, else {default:g}).")


@dataclass(frozen=True)
class TranscribeOptions:
    """How to transcribe; help texts are in the fields' metadata.

    Raises OptionError for values that are not allowed, and for fields of another decoder.
    """

    task: str = _option("transcribe", "transcribe or translate; plus models: speakers or word-times as well.")
    language: str | None = _option(
        None,
        "Language spoken: en, fr, de, es, pt, ja (region tags such as pt-BR count), or auto, which detects it from the "
        "first speech of each recording (default: not given).",
    )
    to: str | None = _option(None, "Language to translate into.")
    punctuate: bool | None = _option(None, "Punctuation and capitals, or neither (default: the model's).")
    keywords: tuple[str, ...] = _option((), "Words to expect, separated by commas.")
    word_timestamps: bool = _option(False, "Give every word its start, end and confidence.")
    diarize: bool = _option(
        False, "Find the speakers by voice; with task speakers: keep their numbers (extra speakers)."
    )
    speakers: int | None = _option(None, "diarize: number of speakers (default: estimated).")
    min_speakers: int | None = _option(None, "diarize: least number of speakers (default: 1).")
    max_speakers: int | None = _option(None, "diarize: largest number of speakers (default: any).")
    batch_size: int = _option(8, "Windows decoded together.")
    timestamps: str | None = _option(
        None,
        "Source of word times: tags (task word-times, checked by the alignment) or aligned (default: tags where the "
        "task has them).",
    )
    limit_s: float | None = _option(
        None, f"Longest window in seconds (default: {LIMIT_S:g}; speakers: as long as the model allows)."
    )
    max_new_tokens: int | None = _option(
        None, "Maximum number of tokens per window (default: 200 per 30 s, more if needed)."
    )
    foreign_penalty: float | None = _option(
        None,
        "Logit penalty, in nats, on characters outside the language's alphabet (default: the model's "
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
    num_beams: int | None = _search("num_beams", "hypotheses kept")
    length_penalty: float | None = _search("length_penalty", "power of the length that scores are divided by")
    ctc_weight: float | None = _search("ctc_weight", "weight, 0 to below 1, of the CTC prefix score")
    keyword_boost: float | None = _search("keyword_boost", "nats per letter of a keyword; needs a ctc_weight")
    future_cost: float | None = _search("future_cost", "nats per CTC label yet to be decoded; needs a ctc_weight")
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
        if self.language is not None and self.language.strip().lower() == AUTO:
            object.__setattr__(self, "language", AUTO)
        check_whole("batch_size", self.batch_size)
        if self.limit_s is not None:
            usual = f"from {MIN_LIMIT_S:g} to {MAX_LIMIT_S:g} s; {LIMIT_S:g} are usual"
            check_number("limit_s", self.limit_s, _is_length, usual)
        if self.timestamps not in (None, *TIMESTAMPS):
            raise OptionError(f"unknown timestamps {self.timestamps!r}; there are {', '.join(TIMESTAMPS)}")
        if self.timestamps and not (self.word_timestamps or self.task in ("word-times", "speakers")):
            raise OptionError(
                f"timestamps={self.timestamps!r} is about word times: it goes with word_timestamps or task 'word-times'"
            )
        if self.max_new_tokens is not None:
            check_whole("max_new_tokens", self.max_new_tokens)
        if self.foreign_penalty is not None:
            check_nats("foreign_penalty", self.foreign_penalty)
        if self.task != "translate" and self.to is not None:
            raise OptionError(f"to={self.to!r} goes with task 'translate', and the task is {self.task!r}")
        if self.task == "translate" and self.word_timestamps:
            raise OptionError("word_timestamps needs the words that were said: it does not go with task 'translate'")
        self.task_for("granite_speech")
        self._check_speakers()
        self._check_decoder()

    def task_for(self, variant: Variant | ModelType, raw_languages: Sequence[str] = ()) -> Task:
        """The task; defaults depend on the model's variant and its `raw_languages`."""
        asked: dict[str, Any] = {"language": self.known_language, "keywords": self.keywords}
        if self.task in ("transcribe", "translate"):
            raw = self.task == "transcribe" and self.text_language in raw_languages
            default = default_task(variant).punctuate and not raw
            asked["punctuate"] = default if self.punctuate is None else self.punctuate
        if self.to is not None:
            asked["to"] = self.to
        return task_named(self.task, **asked)

    def given(self, kind: type[Decoder]) -> dict[str, Any]:
        """Given options of a decoder by name, without `max_new_tokens`, which several share."""
        names = fields_of(kind) & fields_of(TranscribeOptions) - {"max_new_tokens"}
        return {name: getattr(self, name) for name in sorted(names) if getattr(self, name) is not None}

    def check_owner(self, name: str, chosen: str) -> None:
        """OptionError for options of other decoders than `name`; `chosen` is the reason it is used."""
        mine = self.given(DECODERS[name])
        for kind in DECODERS.values():
            for option in self.given(kind):
                if option not in mine:
                    owners = " or ".join(repr(owner) for owner, other in DECODERS.items() if option in fields_of(other))
                    raise OptionError(f"{option} goes with decode={owners}, and {chosen}")
        if self.max_new_tokens is not None and "max_new_tokens" not in fields_of(DECODERS[name]):
            raise OptionError(f"max_new_tokens goes with decode='greedy' and others of a language model, and {chosen}")

    @property
    def detects_language(self) -> bool:
        """Whether the language of a recording is detected from its speech."""
        return self.language == AUTO

    @property
    def known_language(self) -> str | None:
        """`language` as given; None where it is not, or yet to be detected."""
        return None if self.detects_language else self.language

    @property
    def text_language(self) -> str | None:
        """Code of the transcript's language; None where unknown."""
        return source_code(self.known_language) if self.to is None else language_code(self.to)

    @property
    def speaker_count(self) -> SpeakerCount | None:
        """Bounds of the number of speakers to be found by their voices; None where speakers are not asked for."""
        if not self.diarize:
            return None
        return SpeakerCount(self.speakers or self.min_speakers or 1, self.speakers or self.max_speakers)

    def _check_speakers(self) -> None:
        """OptionError for numbers that are not allowed, or have no effect."""
        given = [name for name in ("speakers", "min_speakers", "max_speakers") if getattr(self, name) is not None]
        for name in given:
            check_whole(name, getattr(self, name))
        if given and not self.diarize:
            raise OptionError(f"{given[0]}={getattr(self, given[0])} goes with diarize")
        if self.speakers is not None and len(given) > 1:
            raise OptionError(f"speakers={self.speakers} is the number of speakers: leave out {', '.join(given[1:])}")
        if self.diarize and self.task not in ("transcribe", "speakers"):
            raise OptionError(
                f"diarize goes with task 'transcribe', and with 'speakers' to keep their numbers, not {self.task!r}"
            )
        if given and self.task == "speakers":
            raise OptionError(f"{given[0]}={getattr(self, given[0])} goes with task 'transcribe': tags name speakers")
        SpeakerCount(self.min_speakers or 1, self.max_speakers)

    def _check_decoder(self) -> None:
        if self.decode is not None and self.decode not in DECODERS:
            raise OptionError(f"unknown decoder {self.decode!r}; there are {', '.join(DECODERS)}")
        for kind in DECODERS.values():
            # The checkpoint may set ctc_weight: each value is checked by itself.
            kind(**({"ctc_weight": 0.5} if issubclass(kind, JointSearch) else {}) | self.given(kind))
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
    """`options` or the defaults, with `changes`; OptionError for an unknown name."""
    known = [field.name for field in dataclasses.fields(TranscribeOptions)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise OptionError(f"unknown option {', '.join(unknown)}; there are {', '.join(known)}")
    if options is not None and not isinstance(options, TranscribeOptions):
        raise OptionError(f"options is {options!r}: it must be TranscribeOptions; single options go by their names")
    return dataclasses.replace(options or TranscribeOptions(), **changes)


def _is_length(seconds: float) -> bool:
    return MIN_LIMIT_S <= seconds <= MAX_LIMIT_S


@cache
def _kinds() -> dict[str, tuple[type, ...]]:
    """Types of each field; int counts as float."""
    hints = get_type_hints(TranscribeOptions)
    kinds = {name: get_args(hint) or (hint,) for name, hint in hints.items() if name != "keywords"}
    return {name: (*some, int) if float in some else some for name, some in kinds.items()}


_KIND_NAMES = {str: "text", bool: "True or False", int: "a whole number", float: "a number", type(None): "None"}


def _check_kind(name: str, value: object, kinds: tuple[type, ...]) -> None:
    """OptionError where a value's type is not its field's."""
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        shown = [title for kind, title in _KIND_NAMES.items() if kind in kinds and not (kind is int and float in kinds)]
        raise OptionError(f"{name} is {value!r}: it must be {' or '.join(shown)}")


def _words(keywords: object) -> Iterable[str]:
    """Keywords as a tuple; OptionError unless they are strings."""
    if isinstance(keywords, str | bytes) or not isinstance(keywords, Iterable):
        kind = "one string" if isinstance(keywords, str) else type(keywords).__name__
        raise OptionError(f"keywords is {keywords!r}: it must be a list of words, not {kind}")
    words = tuple(keywords)
    for word in words:
        if not isinstance(word, str):
            raise OptionError(f"keywords holds {word!r}: every keyword must be text")
    return words
