"""The language of a recording, detected from its first speech.

first windows -> encoder, without language conditioning -> best paths of its CTC head -> py3langid -> guess

Where that guess is not sure, the language model transcribes the same windows, and its text is evidence as well:
`docs/experiments.md` has what that gains.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from lithophone.audio.samples import RATE_HZ
from lithophone.audio.segmenter import Window
from lithophone.checkpoint import Checkpoint
from lithophone.errors import CancelledError, LithophoneError, OptionError, PromptError
from lithophone.languages import LANGUAGES, PLUS_SOURCE_LANGUAGES, SOURCE_LANGUAGES
from lithophone.pipeline.engine import Engine, Pending
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.quality import SURE_LANGUAGE
from lithophone.pipeline.request import Request, ctc_heads, frames_of, possible_decoders, resolve_request
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


@dataclass(frozen=True)
class LanguageRequests:
    """How first speech becomes text, without a language."""

    spelled: Request
    """By the best path of a CTC head."""
    decoded: Request | None
    """By the language model, where the other text leaves doubt; None in a model without one."""


def language_requests(checkpoint: Checkpoint, batch_size: int = TranscribeOptions.batch_size) -> LanguageRequests:
    """Requests of first speech. Raises OptionError for a model without a CTC head."""
    heads = ctc_heads(checkpoint)
    if not heads:
        raise OptionError(
            "language='auto' needs a CTC head, which this model's encoder does not have: name the language"
        )
    head = "characters" if "characters" in heads else heads[0]
    spelled = resolve_request(checkpoint, TranscribeOptions(decode="ctc", ctc_head=head, batch_size=batch_size))
    if "greedy" not in possible_decoders(checkpoint):
        return LanguageRequests(spelled, None)
    options = TranscribeOptions(decode="greedy", punctuate=False, batch_size=batch_size)
    return LanguageRequests(spelled, resolve_request(checkpoint, options))


class LanguageSearch:
    """The first speech of a recording, waiting for the encoder.

    Reads windows up to `SPEECH_S` of speech at once. `windows` gives them again, then the others. Raises PromptError
    where speech exceeds the model's positions.
    """

    def __init__(
        self, checkpoint: Checkpoint, engine: Engine, requests: LanguageRequests, windows: Iterator[Window]
    ) -> None:
        self._checkpoint, self._engine, self._requests = checkpoint, engine, requests
        self._held: deque[Window] = deque()
        self._rest = windows
        self.error: LithophoneError | None = None
        """Of the recording, met within its first speech."""
        self.is_whole = False
        """Whether all of the recording is held."""
        self._submitted: list[Pending] = []
        self._read()
        try:
            self._spelled = self._submit(self._first_speech(requests.spelled))
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

    def _first_speech(self, request: Request) -> Iterator[Utterance]:
        left = round(SPEECH_S * RATE_HZ)
        for window in self._held:
            samples = window.samples[:left]
            left -= len(samples)
            if frames_of(self._checkpoint, len(samples)):
                yield Utterance(torch.from_numpy(samples), window.start, request)

    def _submit(self, utterances: Iterable[Utterance]) -> list[Pending]:
        before = len(self._submitted)
        for utterance in utterances:
            self._submitted.append(self._engine.submit(utterance))
        return self._submitted[before:]

    def windows(self) -> Iterator[Window]:
        """All windows of the recording; raises its error where it came."""
        while self._held:
            yield self._held.popleft()
        if self.error is not None:
            raise self.error
        yield from self._rest

    def guess(self, cancelled: threading.Event | None = None) -> LanguageGuess:
        """The language of the speech. Raises CancelledError where `cancelled` is set.

        Without positions for the language model's prompt the encoder's text decides.
        """
        try:
            guess = self._guess_from(self._spelled, cancelled)
            decoded = self._requests.decoded
            if decoded is None or guess.probability is None or guess.probability >= SURE_LANGUAGE:
                return guess
            try:
                submitted = self._submit(replace(pending.utterance, request=decoded) for pending in self._spelled)
            except PromptError:
                self.cancel()
                return guess
            return guess_of_both(guess, self._guess_from(submitted, cancelled))
        except BaseException:
            self.cancel()
            raise

    def _guess_from(self, submitted: Sequence[Pending], cancelled: threading.Event | None) -> LanguageGuess:
        while not all(pending.done for pending in submitted):
            if cancelled is not None and cancelled.is_set():
                raise CancelledError("the caller cancelled the transcription")
            self._engine.step()
        texts = [pending.result.parsed.text for pending in submitted if pending.result is not None]
        return guess_of(" ".join(texts), languages_of(self._checkpoint))

    @property
    def compute_s(self) -> float:
        """Seconds of the model so far."""
        return sum(pending.compute_s for pending in self._submitted)

    def cancel(self) -> None:
        for pending in self._submitted:
            self._engine.cancel(pending)


class SpokenLanguages:
    """Searches of one call, and the requests that follow from them."""

    def __init__(self, checkpoint: Checkpoint, engine: Engine, cancelled: threading.Event) -> None:
        self._checkpoint, self._engine, self._cancelled = checkpoint, engine, cancelled
        self._requests: dict[tuple[TranscribeOptions, str | None], Request] = {}

    def search(self, windows: Iterator[Window], batch_size: int) -> LanguageSearch:
        requests = language_requests(self._checkpoint, batch_size)
        return LanguageSearch(self._checkpoint, self._engine, requests, windows)

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


def guess_of_both(first: LanguageGuess, second: LanguageGuess) -> LanguageGuess:
    """The guess from two texts of the same speech, by the mean of their probabilities; the first if there is no second.

    Their product is right as often, but sure of what is wrong.
    """
    if second.language is None:
        return first
    means = {code: (first.probabilities[code] + second.probabilities[code]) / 2.0 for code in first.probabilities}
    return LanguageGuess({code: means[code] for code in sorted(means, key=means.__getitem__, reverse=True)})
