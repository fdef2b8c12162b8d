"""Sources that are being read, each with its request: of its options, or of the language detected from its speech."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

from lithophone.audio.segmenter import Window
from lithophone.errors import LithophoneError
from lithophone.pipeline.assembly import Assembly, RecordingDone
from lithophone.pipeline.journal import Record
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.request import Request
from lithophone.pipeline.sources import Reading
from lithophone.pipeline.spoken_language import LanguageSearch, SpokenLanguages


@dataclass(frozen=True)
class Asked:
    """Options, and the request without a language that is yet to be detected."""

    options: TranscribeOptions
    request: Request


@dataclass(frozen=True)
class Opened:
    """A source that is being read; `windows` is None for one that its journal has finished."""

    assembly: Assembly
    options: TranscribeOptions
    reading: Reading
    record: Record | None
    windows: Iterator[Window] | None
    search: LanguageSearch | None = None
    """Of its language, where it is to be detected and no journal has it."""


def with_languages(
    opened: Iterator[Opened | RecordingDone], languages: SpokenLanguages, n: int
) -> Generator[Opened | RecordingDone, None, None]:
    """The same, with their languages where these are to be detected.

    The first speech of up to `n` recordings is encoded together. One that goes on behind it is the last of them: until
    its other windows are taken no further recording is read.
    """
    waiting: deque[Opened | RecordingDone] = deque()
    try:
        for one in opened:
            waiting.append(_with_search(one, languages))
            search = _search_of(waiting[-1])
            if search is None or not search.is_whole or len(waiting) >= n:
                while waiting:
                    yield _with_language(waiting.popleft(), languages)
        while waiting:
            yield _with_language(waiting.popleft(), languages)
    finally:
        for search in map(_search_of, waiting):
            if search is not None:
                search.cancel()


def _search_of(one: Opened | RecordingDone) -> LanguageSearch | None:
    return one.search if isinstance(one, Opened) else None


def _with_search(one: Opened | RecordingDone, languages: SpokenLanguages) -> Opened | RecordingDone:
    """With its first speech before the encoder, where its language is to be detected."""
    if isinstance(one, RecordingDone) or not one.options.detects_language or one.windows is None:
        return one
    if one.record is not None and one.record.guess.language:
        return one
    try:
        search = languages.search(one.windows, one.options.batch_size)
    except LithophoneError as error:
        return RecordingDone(one.assembly.source, error)
    return replace(one, search=search, windows=search.windows())


def _with_language(one: Opened | RecordingDone, languages: SpokenLanguages) -> Opened | RecordingDone:
    """With its request for the language that was detected, now or in its journal."""
    if isinstance(one, RecordingDone) or not one.options.detects_language:
        return one
    guess, compute_s = None, 0.0
    if one.search is not None:
        guess, compute_s = languages.guess(one.search), one.search.compute_s
    elif one.record is not None:
        guess = one.record.guess
    assert guess is not None, "what is not in a journal is searched"
    try:
        one.assembly.set_language(guess, languages.request(one.options, guess), compute_s)
    except LithophoneError as error:
        return RecordingDone(one.assembly.source, error)
    if one.record is not None:
        one.record.guess = guess
    return one
