"""Tasks, their prompts, and the parsing of replies.

Prompts of the model cards of 4.1-2b and 4.1-2b-plus; for granite-speech-5.0-2b, of mlx-audio 0.6.2.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from lithophone.errors import OptionError, PromptError
from lithophone.languages import LANGUAGES, PAIRS, PLUS_SOURCE_LANGUAGES, SOURCE_LANGUAGES, base_language
from lithophone.model.config import VARIANTS, ModelType, Variant
from lithophone.text.replies import ParsedReply, parse_text, parse_translation, parse_turns, parse_word_times
from lithophone.text.tokenizer import AUDIO_TOKEN, Tokenizer

PLUS_SYSTEM = (
    "Knowledge Cutoff Date: April 2024.\n"
    "Today's Date: December 19, 2024.\n"
    "You are Granite, developed by IBM. You are a helpful AI assistant"
)
"""System turn of plus, dated as in training: another date is another prompt."""

HINT = "The speech is in {language}. Transcribe it exactly; do not translate. "
"""Precedes the instruction of 5.0 if the language is given."""

RAW = "can you transcribe the speech into a written format?"
PUNCTUATED = "transcribe the speech with proper punctuation and capitalization."
KEYWORDS = "transcribe the speech to text."
SPEAKERS = (
    "Speaker attribution: Transcribe and denote who is speaking by adding [Speaker 1]: and [Speaker 2]: tags before "
    "speaker turns."
)
WORD_TIMES = (
    "Timestamps: Transcribe the speech. After each word, add a timestamp tag showing the end time in centiseconds, "
    "e.g. hello [T:45] world [T:82]"
)


@dataclass(frozen=True)
class Transcribe:
    """Speech to text in the language spoken.

    `punctuate`: punctuation and capitals (not plus); ignored with `keywords` before 5.0, which have one prompt.
    `language`, of the speech, biases the encoder and is in the prompt of 5.0.
    """

    punctuate: bool = True
    keywords: tuple[str, ...] = ()
    language: str | None = None

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class Translate:
    """Speech to text in the language `to`, a code or English name (base models only)."""

    to: str
    punctuate: bool = Transcribe.punctuate
    keywords: tuple[str, ...] = ()
    language: str | None = None
    """Of the speech, if known; untrained pairs are refused."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "to", language_code(self.to))
        _settle(self)
        if self.language is not None and (self.language, self.to) not in PAIRS:
            raise OptionError(f"no translation from {self.language} to {self.to}; there are {_pairs_text()}")


@dataclass(frozen=True)
class SpeakerTurns:
    """Speech to text with a `[Speaker N]:` tag per turn (plus only)."""

    keywords: tuple[str, ...] = ()
    language: str | None = None

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class WordTimes:
    """Speech to text with a `[T:N]` tag, the end in centiseconds, after every word (plus only)."""

    keywords: tuple[str, ...] = ()
    language: str | None = None

    def __post_init__(self) -> None:
        _settle(self)


Task: TypeAlias = Transcribe | Translate | SpeakerTurns | WordTimes

TASKS: dict[str, type[Task]] = {
    "transcribe": Transcribe, "translate": Translate, "speakers": SpeakerTurns, "word-times": WordTimes,
}  # fmt: skip
"""Task names in commands and requests."""


def _settle(task: Task) -> None:
    object.__setattr__(task, "keywords", clean_keywords(task.keywords))
    object.__setattr__(task, "language", source_code(task.language))


def default_task(variant: Variant | ModelType) -> Transcribe:
    """Transcription, punctuated unless the model is plus."""
    return Transcribe(punctuate=variant in ("granite_speech", "granite_speech_5"))


def task_named(name: str, **options: Any) -> Task:
    """Raises OptionError for an unknown name or option."""
    if name not in TASKS:
        raise OptionError(f"unknown task {name!r}; allowed are {', '.join(TASKS)}")
    fields = {field.name: field for field in dataclasses.fields(TASKS[name])}
    unknown = sorted(set(options) - set(fields))
    if unknown:
        raise OptionError(f"task {name!r} has no option {', '.join(unknown)}; it has {', '.join(fields)}")
    if name == "translate" and "to" not in options:
        raise OptionError(f"task 'translate' needs the option 'to', one of {', '.join(LANGUAGES)}")
    return TASKS[name](**options)


def language_code(name: str, allowed: Iterable[str] = tuple(LANGUAGES)) -> str:
    """`"FR"`, `"fr-CA"`, `"fr_CA"`, `"French"` -> `"fr"`. Raises OptionError, naming those `allowed`, for others."""
    wanted = str(name).strip().lower()
    for code, title in LANGUAGES.items():
        if code == base_language(wanted) or wanted == title.lower():
            return code
    raise OptionError(f"unknown language {name!r}; allowed are {_languages_text(allowed)}")


def source_code(name: str | None) -> str | None:
    """`language_code` of the speech; None if unknown."""
    code = None if name is None else language_code(name, SOURCE_LANGUAGES)
    if code is not None and code not in SOURCE_LANGUAGES:
        raise OptionError(f"no {LANGUAGES[code]} speech is understood, only {_languages_text(SOURCE_LANGUAGES)}")
    return code


def clean_keywords(keywords: Iterable[str]) -> tuple[str, ...]:
    """Keywords stripped, without empties and repeats, in order. Raises OptionError for a comma, the separator."""
    if isinstance(keywords, str):
        raise OptionError(f"keywords must be a list of words, not one string: {keywords!r}")
    cleaned = dict.fromkeys(" ".join(str(keyword).split()) for keyword in keywords)
    with_comma = [keyword for keyword in cleaned if "," in keyword]
    if with_comma:
        raise OptionError(f"keywords are joined by commas, so none may be inside one: {with_comma}")
    return tuple(keyword for keyword in cleaned if keyword)


def _languages_text(codes: Iterable[str]) -> str:
    return ", ".join(f"{code} ({LANGUAGES[code]})" for code in codes)


def _pairs_text() -> str:
    return ", ".join(f"{source}-{target}" for source, target in sorted(PAIRS))


def instruction(task: Task, variant: Variant | ModelType) -> str:
    """The instruction after the audio. Raises OptionError if the model lacks the task."""
    _check_ability(task, variant)
    words = {"granite_speech": _base_words, "granite_speech_5": _words_of_5, "granite_speech_plus": _plus_words}
    asked = words[variant](task)
    return f"{asked} Keywords: {', '.join(task.keywords)}" if task.keywords else asked


def _base_words(task: Task) -> str:
    if isinstance(task, Translate):
        return f"translate the speech to {LANGUAGES[task.to]}{_style(task.punctuate and not task.keywords)}."
    assert isinstance(task, Transcribe)
    if task.keywords:
        return KEYWORDS
    return PUNCTUATED if task.punctuate else RAW


def _words_of_5(task: Task) -> str:
    """Punctuation combines with keywords, and the language is named."""
    if isinstance(task, Translate):
        return f"Translate the speech to {LANGUAGES[task.to]}{_style(task.punctuate)}."
    assert isinstance(task, Transcribe)
    hint = "" if task.language is None else HINT.format(language=LANGUAGES[task.language])
    plain = KEYWORDS if task.keywords else RAW
    return hint + (PUNCTUATED if task.punctuate else plain)


def _style(punctuate: bool) -> str:
    return " with proper punctuation and capitalization" if punctuate else ""


def _plus_words(task: Task) -> str:
    return {SpeakerTurns: SPEAKERS, WordTimes: WORD_TIMES}.get(type(task), RAW)


def _check_ability(task: Task, variant: Variant | ModelType) -> None:
    if variant not in VARIANTS:
        raise OptionError(f"unknown kind of model {variant!r}; prompts are known of {', '.join(VARIANTS)}")
    if variant != "granite_speech_plus":
        if isinstance(task, SpeakerTurns | WordTimes):
            lack = "speakers" if isinstance(task, SpeakerTurns) else "word times"
            raise OptionError(f"a {variant} model gives no {lack}: use a granite_speech_plus model")
        return
    if isinstance(task, Translate):
        raise OptionError("a granite_speech_plus model does not translate: use a granite_speech model")
    if isinstance(task, Transcribe) and task.punctuate:
        raise OptionError("a granite_speech_plus model does not punctuate: ask with punctuate=False")
    if task.language is not None and task.language not in PLUS_SOURCE_LANGUAGES:
        allowed = _languages_text(PLUS_SOURCE_LANGUAGES)
        raise OptionError(f"a granite_speech_plus model knows no {LANGUAGES[task.language]}; allowed are {allowed}")


def prompt_text(task: Task, tokenizer: Tokenizer, variant: Variant | ModelType) -> str:
    """The prompt up to the reply, with one `<|audio|>`, by the checkpoint's chat template or the family's text."""
    words = instruction(task, variant)
    foreign = [token for token in tokenizer.special_tokens if token in words]
    if foreign:
        raise OptionError(f"keywords must not hold the model's special tokens, seen: {', '.join(foreign)}")
    content = f"{AUDIO_TOKEN} {words}" if variant == "granite_speech_plus" else f"{AUDIO_TOKEN}{words}"
    system = [{"role": "system", "content": PLUS_SYSTEM}] if variant == "granite_speech_plus" else []
    messages = [*system, {"role": "user", "content": content}]
    return _plain_template(messages) if tokenizer.chat_template is None else tokenizer.render(messages)


def _plain_template(messages: list[dict[str, str]]) -> str:
    if len(messages) == 1:
        return f"USER: {messages[0]['content']}\n ASSISTANT:"
    turns = [f"<|start_of_role|>{m['role']}<|end_of_role|>{m['content']}<|end_of_text|>\n" for m in messages]
    return "".join(turns) + "<|start_of_role|>assistant<|end_of_role|>"


def build_prompt(
    task: Task, tokenizer: Tokenizer, variant: Variant | ModelType, n_audio: int, prefix_text: str = ""
) -> list[int]:
    """Ids of the prompt, with `n_audio` slots for audio embeddings.

    `prefix_text` follows the assistant header verbatim, for the model to continue (incremental decoding).
    Raises OptionError if the model lacks the task, PromptError unless the template has one audio slot.
    """
    foreign = [token for token in tokenizer.special_tokens if token in prefix_text]
    if foreign:
        raise OptionError(f"prefix_text must not hold the model's special tokens, seen: {', '.join(foreign)}")
    ids = tokenizer.encode(prompt_text(task, tokenizer, variant) + prefix_text)
    slot = tokenizer.audio_id
    if n_audio < 1 or ids.count(slot) != 1:
        raise PromptError(f"a prompt needs 1 {AUDIO_TOKEN} and 1 or more embeddings: {ids.count(slot)} and {n_audio}")
    at = ids.index(slot)
    return [*ids[:at], *[slot] * n_audio, *ids[at + 1 :]]


def max_new_tokens(task: Task, variant: Variant | ModelType) -> int | None:
    """Token budget of plus; None for others, whose budget grows with the recording."""
    if variant != "granite_speech_plus":
        return None
    return 10_000 if isinstance(task, WordTimes) else 2_000


def longest_window_s(task: Task, variant: Variant | ModelType) -> float:
    """Longest window that plus was trained for; infinite for others."""
    if variant != "granite_speech_plus":
        return math.inf
    return 210.0 if isinstance(task, WordTimes) else 540.0


def parse_reply(
    task: Task,
    text: str,
    duration_s: float | None = None,
    variant: Variant | ModelType = "granite_speech",
    speaker: str | None = None,
) -> ParsedReply:
    """`duration_s` of the window bounds word times; a plus model may write tags that the task did not ask for.

    `speaker` is that of the words before the first tag.
    """
    if isinstance(task, WordTimes):
        return parse_word_times(text, duration_s)
    if isinstance(task, SpeakerTurns):
        return parse_turns(text, speaker)
    if isinstance(task, Translate):
        return parse_translation(text)
    return parse_text(text, tagged=variant == "granite_speech_plus")
