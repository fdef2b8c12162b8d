"""The language of a recording, detected from its first speech.

first windows -> encoder, without language conditioning -> best paths of its CTC head -> py3langid -> guess

The language model is not asked: texts of its decoders show no more than the characters (`docs/experiments.md`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import torch

from lithophone.audio.samples import RATE_HZ
from lithophone.audio.segmenter import Window
from lithophone.checkpoint import Checkpoint
from lithophone.errors import CancelledError, LithophoneError, OptionError
from lithophone.languages import LANGUAGES, PLUS_SOURCE_LANGUAGES, SOURCE_LANGUAGES
from lithophone.pipeline.engine import Engine, Pending
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.request import Request, ctc_heads, frames_of, resolve_request
from lithophone.pipeline.utterance import Utterance
from lithophone.text.language_identification import language_probabilities
from lithophone.transcript import LanguageGuess

SPEECH_S = 20.0
"""Seconds of speech that are listened to, or less where the recording has less."""

TEMPERATURE = 4.0
"""Divisor of the log probabilities of py3langid, which is too sure of misspelt text.

The best of eight where 19 to 39 % of the characters are wrong (`docs/experiments.md`).
"""


def languages_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Codes of the languages that the model understands."""
    is_plus = checkpoint.config.variant == "granite_speech_plus"
    return PLUS_SOURCE_LANGUAGES if is_plus else SOURCE_LANGUAGES


def language_request(checkpoint: Checkpoint, batch_size: int = TranscribeOptions.batch_size) -> Request:
    """The request that has the encoder spell windows without a language. Raises OptionError where it cannot."""
    heads = ctc_heads(checkpoint)
    if not heads:
        raise OptionError(
            "language='auto' needs a CTC head, which this model's encoder does not have: name the language"
        )
    head = "characters" if "characters" in heads else heads[0]
    return resolve_request(checkpoint, TranscribeOptions(decode="ctc", ctc_head=head, batch_size=batch_size))


class LanguageSearch:
    """The first speech of a recording, waiting for the encoder.

    Reads windows up to `SPEECH_S` of speech at once. `windows` gives them again, then the others. Raises PromptError
    where speech exceeds the model's positions.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine, request: Request, windows: Iterator[Window]) -> None:
        self._checkpoint, self._engine = checkpoint, engine
        self._held: deque[Window] = deque()
        self._rest = windows
        self.error: LithophoneError | None = None
        """Of the recording, met within its first speech."""
        self.is_whole = False
        """Whether all of the recording is held."""
        self._pending: list[Pending] = []
        self._read()
        try:
            self._submit(request)
        except LithophoneError:
            self.cancel()
            raise

    def _read(self) -> None:
        held = 0
        try:
            while held < SPEECH_S * RATE_HZ:
                window = next(self._rest, None)
                if window is None:
                    self.is_whole = True
                    return
                self._held.append(window)
                held += len(window.samples)
        except LithophoneError as error:
            self.error, self.is_whole = error, True

    def _submit(self, request: Request) -> None:
        left = round(SPEECH_S * RATE_HZ)
        for window in self._held:
            samples = window.samples[:left]
            left -= len(samples)
            if frames_of(self._checkpoint, len(samples)):
                utterance = Utterance(torch.from_numpy(samples), window.start, request)
                self._pending.append(self._engine.submit(utterance))

    def windows(self) -> Iterator[Window]:
        """All windows of the recording; raises its error where it came."""
        while self._held:
            yield self._held.popleft()
        if self.error is not None:
            raise self.error
        yield from self._rest

    def guess(self, cancelled: threading.Event | None = None) -> LanguageGuess:
        """The language, when the encoder has spelt the speech. Raises CancelledError where `cancelled` is set."""
        try:
            while not all(pending.done for pending in self._pending):
                if cancelled is not None and cancelled.is_set():
                    raise CancelledError("the caller cancelled the transcription")
                self._engine.step()
        except BaseException:
            self.cancel()
            raise
        texts = [pending.result.parsed.text for pending in self._pending if pending.result is not None]
        return guess_of(" ".join(texts), languages_of(self._checkpoint))

    @property
    def compute_s(self) -> float:
        """Seconds of the model so far."""
        return sum(pending.compute_s for pending in self._pending)

    def cancel(self) -> None:
        for pending in self._pending:
            self._engine.cancel(pending)


class SpokenLanguages:
    """Searches of one call, and the requests that follow from them."""

    def __init__(self, checkpoint: Checkpoint, engine: Engine, cancelled: threading.Event) -> None:
        self._checkpoint, self._engine, self._cancelled = checkpoint, engine, cancelled
        self._requests: dict[tuple[TranscribeOptions, str | None], Request] = {}

    def search(self, windows: Iterator[Window], batch_size: int) -> LanguageSearch:
        request = language_request(self._checkpoint, batch_size)
        return LanguageSearch(self._checkpoint, self._engine, request, windows)

    def guess(self, search: LanguageSearch) -> LanguageGuess:
        return search.guess(self._cancelled)

    def request(self, options: TranscribeOptions, guess: LanguageGuess) -> Request:
        """The request as if the language had been given. Raises OptionError where the options do not go with it."""
        key = options, guess.language
        if key not in self._requests:
            try:
                self._requests[key] = resolve_request(self._checkpoint, replace(options, language=guess.language))
            except OptionError as error:
                assert guess.language is not None, "options without a language are checked"
                name = LANGUAGES[guess.language]
                message = f"the speech is {name}, by language='auto' with probability {guess.probability:.2f}: {error}"
                raise OptionError(message) from error
        return self._requests[key]


def guess_of(text: str, languages: tuple[str, ...]) -> LanguageGuess:
    """The language of the encoder's text; none where it has no letters."""
    if not any(character.isalpha() for character in text):
        return LanguageGuess({})
    return LanguageGuess(language_probabilities(text, languages, temperature=TEMPERATURE))
