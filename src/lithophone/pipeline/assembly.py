"""Results of windows -> transcripts, as a stream of events. Runs no model, reads no file.

WindowDone(source, segments, ...) ... RecordingDone(source, transcript or error), recording by recording, in order
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, TypeAlias, TypeVar

from lithophone.audio.cuts import Cut, stretch_of
from lithophone.diarization.linking import with_speakers
from lithophone.diarization.relinking import relinked
from lithophone.errors import LithophoneError
from lithophone.pipeline.quality import RENUMBERED, no_speech, segments_of, unsure_language, warnings_of
from lithophone.pipeline.request import Request
from lithophone.pipeline.utterance import WindowResult
from lithophone.transcript import LanguageGuess, Segment, Transcript, TranscriptWarning, Word

Timed = TypeVar("Timed", Segment, Word)


@dataclass(frozen=True)
class WindowDone:
    """A transcribed window; times are those of the recording."""

    source: Any
    """As the caller gave it."""
    segments: tuple[Segment, ...]
    warnings: tuple[TranscriptWarning, ...]
    end_s: float
    duration_s: float | None
    """Of the recording; None while unknown."""
    compute_s: float = 0.0
    """The window's share of the time of the model."""
    is_known: bool = False
    """Whether a journal had it."""
    language: str | None = None
    """Code of the text's language, as that of the transcript."""


@dataclass(frozen=True)
class RecordingDone:
    """A recording is transcribed or has failed."""

    source: Any
    result: Transcript | LithophoneError
    warnings: tuple[TranscriptWarning, ...] = ()
    """Of the recording, without those of its windows."""
    compute_s: float = 0.0
    """Sum of its windows, and of telling its language."""
    is_known: bool = False
    """Whether a journal had all of it."""


Event: TypeAlias = WindowDone | RecordingDone


@dataclass(eq=False)
class Assembly:
    """Windows of one recording, in order."""

    source: Any
    request: Request
    dtype: str | None = None
    activation_bits: int | None = None
    """As in `Transcript`."""
    guess: LanguageGuess | None = None
    """Of the language, where it was detected."""
    guess_s: float = 0.0
    """Time of the model for it."""
    windows: list[WindowDone] = field(default_factory=list)
    attributed: WindowDone | None = None
    """All segments with their speakers, where these are found by voice."""

    def add(self, result: WindowResult, duration_s: float | None, compute_s: float = 0.0) -> WindowDone:
        segments, warnings = segments_in_time(result), warnings_of(result)
        return self.add_done(WindowDone(self.source, segments, warnings, result.end_s, duration_s, compute_s))

    def add_done(self, done: WindowDone) -> WindowDone:
        self.windows.append(replace(done, language=self.request.text_language))
        return self.windows[-1]

    def set_language(self, guess: LanguageGuess, request: Request, compute_s: float = 0.0) -> None:
        """The language of the speech, and the request that follows from it; before the first window."""
        assert not self.windows, "all windows have one language"
        self.guess, self.request, self.guess_s = guess, request, compute_s

    def shown(self, done: WindowDone) -> WindowDone:
        """The event of a window: without segments where their speakers are known at the end of the recording alone."""
        return done if self.request.speakers is None else replace(done, segments=(), warnings=self._open(done))

    def _open(self, done: WindowDone) -> tuple[TranscriptWarning, ...]:
        """Warnings of a window, without those that linking by voice answers."""
        linked = self.request.speakers is not None
        return tuple(warning for warning in done.warnings if not (linked and warning.code == RENUMBERED))

    def attribute(self, turns: Sequence[Segment], duration_s: float, warnings: Iterable[str]) -> WindowDone:
        """The event of all segments, with the speakers of turns."""
        if self.request.continues:
            parts = relinked([[s for window in part for s in window.segments] for part in self._numbered()], turns)
            segments = tuple(segment for part in parts for segment in part)
        else:
            segments = tuple(with_speakers((s for window in self.windows for s in window.segments), turns))
        if not self.request.word_times:
            segments = tuple(replace(segment, words=()) for segment in segments)
        found = tuple(TranscriptWarning("speakers", message, 0.0, duration_s) for message in warnings)
        language = self.request.text_language
        self.attributed = WindowDone(self.source, segments, found, duration_s, duration_s, language=language)
        return self.attributed

    def _numbered(self) -> list[list[WindowDone]]:
        """Windows that number their speakers together."""
        parts: list[list[WindowDone]] = []
        for window in self.windows:
            if not parts or any(warning.code == RENUMBERED for warning in window.warnings):
                parts.append([])
            parts[-1].append(window)
        return parts

    def finish(
        self, duration_s: float, reader_warnings: Iterable[str] = (), *, is_known: bool = False
    ) -> RecordingDone:
        """The event of the recording; `reader_warnings` come first."""
        damaged = tuple(TranscriptWarning("damaged", message, 0.0, duration_s) for message in reader_warnings)
        whole = damaged if self.windows else (*damaged, no_speech(duration_s))
        whole += () if self.guess is None else unsure_language(self.guess, duration_s)
        last = self.attributed
        transcript = Transcript(
            segments=tuple(segment for one in ([last] if last else self.windows) for segment in one.segments),
            duration_s=duration_s,
            language=self.request.text_language,
            task=self.request.task_name,
            warnings=(
                *whole,
                *(warning for window in self.windows for warning in self._open(window)),
                *(last.warnings if last else ()),
            ),
            language_guess=self.guess if self.guess is not None and self.guess.language else None,
            dtype=self.dtype,
            activation_bits=self.activation_bits,
        )
        compute_s = self.guess_s + sum(window.compute_s for window in self.windows)
        return RecordingDone(self.source, transcript, whole, compute_s, is_known)


def segments_in_time(result: WindowResult) -> tuple[Segment, ...]:
    """Segments of a window with times of the recording."""
    whole = segments_of(result.parsed, result.duration_s)
    return tuple(shift(part, result) for segment in whole for part in _split(segment, result.cuts))


def _split(segment: Segment, cuts: Sequence[Cut]) -> Iterator[Segment]:
    """A timed segment, in the time of its window, in parts between the silences that were left out."""
    if not cuts or not segment.words:
        yield segment
        return
    for _, group in groupby(segment.words, key=lambda word: stretch_of(word.start_s, cuts)):
        words = tuple(group)
        text = " ".join(word.text for word in words)
        yield Segment(text, words[0].start_s, words[-1].end_s, words, segment.speaker)


def shift(segment: Segment, result: WindowResult) -> Segment:
    """The segment of a window with times of the recording, at most the window's end."""

    def moved(part: Timed) -> Timed:
        start_s, end_s = result.in_recording(part.start_s, part.end_s)
        return replace(part, start_s=start_s, end_s=end_s)

    return replace(moved(segment), words=tuple(moved(word) for word in segment.words))


def results_of(events: Iterable[Event]) -> Iterator[tuple[Any, Transcript | LithophoneError]]:
    """Source and result of every recording."""
    return ((event.source, event.result) for event in events if isinstance(event, RecordingDone))
