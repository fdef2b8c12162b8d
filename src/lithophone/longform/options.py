"""What can be asked of a transcription: one frozen dataclass, where every default is written once.

The command line and the Python interface both read their defaults here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from lithophone.config import ModelType
from lithophone.errors import OptionError
from lithophone.longform.segment import MIN_LIMIT_S
from lithophone.prompts import Task, clean_keywords, default_task, language_code, task_named

DECODERS = ("greedy", "ctc")


@dataclass(frozen=True)
class TranscribeOptions:
    """How to transcribe. A value that is not allowed raises OptionError when the options are made.

    `punctuate` None means: as far as the model can. `language` is what is spoken and `to` what to translate into, as
    codes or English names. `word_timestamps` gives every word its start and end, from the encoder's own characters.
    `max_new_tokens` None is the family's own budget, 200 tokens per 30 s. `limit_s` is the length in seconds that no
    window exceeds, `batch_size` how many windows are decoded together. `decode` is "greedy", by the language model, or
    "ctc": what the encoder spells by itself, much sooner, raw and less well.
    """

    task: str = "transcribe"
    language: str | None = None
    to: str | None = None
    punctuate: bool | None = None
    keywords: tuple[str, ...] = ()
    batch_size: int = 8
    max_new_tokens: int | None = None
    decode: str = "greedy"
    word_timestamps: bool = False
    limit_s: float = 30.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "keywords", clean_keywords(self.keywords))
        _check_whole("batch_size", self.batch_size)
        if self.max_new_tokens is not None:
            _check_whole("max_new_tokens", self.max_new_tokens)
        if not self.limit_s >= MIN_LIMIT_S:
            raise OptionError(f"limit_s is {self.limit_s!r}: a window needs at least {MIN_LIMIT_S:g} s, 30 are usual")
        if self.task != "translate" and self.to is not None:
            raise OptionError(f"to={self.to!r} goes with task 'translate', and the task is {self.task!r}")
        if self.decode not in DECODERS:
            raise OptionError(f"unknown decoder {self.decode!r}; there are {', '.join(DECODERS)}")
        if self.decode == "ctc" and (self.task != "transcribe" or self.punctuate or self.keywords):
            raise OptionError("decode='ctc' has no language model: it gives raw transcripts, and takes no keywords")
        if self.task == "translate" and self.word_timestamps:
            raise OptionError("word_timestamps needs the words that were said: it does not go with task 'translate'")
        self.task_for("granite_speech")

    def task_for(self, model_type: ModelType) -> Task:
        """The task in the words of `prompts`, with what was left open decided by the kind of model."""
        asked: dict[str, Any] = {"language": self.language, "keywords": self.keywords}
        if self.task in ("transcribe", "translate"):
            default = default_task(model_type).punctuate
            asked["punctuate"] = default if self.punctuate is None else self.punctuate
        if self.to is not None:
            asked["to"] = self.to
        return task_named(self.task, **asked)

    @property
    def text_language(self) -> str | None:
        """Code of the language the transcript is written in, where it is known."""
        name = self.language if self.to is None else self.to
        return None if name is None else language_code(name)


def options_with(options: TranscribeOptions | None, changes: dict[str, Any]) -> TranscribeOptions:
    """`options`, or the defaults, with single values changed; OptionError for a name that is no option."""
    known = [field.name for field in dataclasses.fields(TranscribeOptions)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise OptionError(f"unknown option {', '.join(unknown)}; there are {', '.join(known)}")
    return dataclasses.replace(options or TranscribeOptions(), **changes)


def _check_whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise OptionError(f"{name} is {value!r}: it must be a whole number, at least 1")
