"""Instructions of chat requests -> options of TranscribeOptions. The inverse of `text.prompts.instruction`.

An unfamiliar instruction transcribes, as the family's models do; it never reaches the model itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from lithophone.errors import OptionError
from lithophone.languages import LANGUAGES, SOURCE_LANGUAGES, TABLE
from lithophone.model.config import VARIANTS, Variant
from lithophone.text.prompts import SpeakerTurns, Task, Transcribe, Translate, WordTimes, instruction
from lithophone.text.tokenizer import AUDIO_TOKEN

KEYWORDS = re.compile(r"\bkeywords?\s*:", re.IGNORECASE)

FURTHER = {"Pouvez-vous reconnaître le contenu de la parole ?": {"task": "transcribe", "punctuate": False}}
"""Instructions of the model card of 4.1-2b that this library does not write."""


def options_of_instruction(text: str) -> dict[str, Any]:
    """Options that the text asks for: `task`, `punctuate`, `to`, `language`, and `keywords` of a list in it.

    Case, spaces and punctuation do not count.
    """
    asked, keywords = without_keywords(text.replace(AUDIO_TOKEN, " "))
    options = dict(_known().get(_normal(asked), {}))
    return {**options, "keywords": keywords} if keywords else options


def without_keywords(text: str) -> tuple[str, tuple[str, ...]]:
    """The text before `Keywords: a, b`, and the keywords."""
    found = KEYWORDS.search(text)
    if found is None:
        return text, ()
    parts = (" ".join(part.split()) for part in re.split(r"[,\n]", text[found.end() :]))
    return text[: found.start()], tuple(part for part in parts if part)


@cache
def _known() -> dict[str, dict[str, Any]]:
    """Options by normalised instruction. Of tasks with one instruction the first counts, without punctuation."""
    known = {_normal(text): options for text, options in FURTHER.items()}
    for variant in VARIANTS:
        for task in _tasks(variant):
            for keywords in ((), ("keyword",)):
                _add(known, task(keywords), variant)
    return known


def _tasks(variant: Variant) -> Iterator[Any]:
    """Functions from keywords to tasks. Only prompts of 5.0 name the language spoken."""
    yield lambda keywords: SpeakerTurns(keywords)
    yield lambda keywords: WordTimes(keywords)
    for punctuate in (False, True):
        for to in LANGUAGES:
            yield lambda keywords, to=to, punctuate=punctuate: Translate(to, punctuate, keywords)
        for language in (None, *SOURCE_LANGUAGES) if variant == "granite_speech_5" else (None,):
            yield lambda keywords, language=language, punctuate=punctuate: Transcribe(punctuate, keywords, language)


def _add(known: dict[str, dict[str, Any]], task: Task, variant: Variant) -> None:
    try:
        text, _ = without_keywords(instruction(task, variant))
    except OptionError:  # the variant lacks the task
        return
    options = _options(task)
    known.setdefault(_normal(text), options)
    if isinstance(task, Translate):  # OpenAI's name: Chinese
        known.setdefault(_normal(text.replace(LANGUAGES[task.to], TABLE[task.to].api_name)), options)


def _options(task: Task) -> dict[str, Any]:
    if isinstance(task, Translate):
        return {"task": "translate", "to": task.to, "punctuate": task.punctuate}
    if isinstance(task, Transcribe):
        language = {"language": task.language} if task.language else {}
        return {"task": "transcribe", "punctuate": task.punctuate, **language}
    return {"task": "speakers" if isinstance(task, SpeakerTurns) else "word-times"}


def _normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
