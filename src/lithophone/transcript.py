"""What a transcription is: words, segments, a transcript. Times are seconds from the start of the recording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lithophone.languages import UNSPACED_LANGUAGES, base_language


@dataclass(frozen=True)
class Word:
    """A word with its times; `confidence` in 0..1 where something is known of it (`ctc/confidence.py`)."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Segment:
    """A stretch of speech that was decoded in one piece."""

    text: str
    start_s: float
    end_s: float
    words: tuple[Word, ...] = ()
    speaker: str | None = None

    @property
    def confidence(self) -> float | None:
        """Mean confidence of the words, 0..1; None where no word has one."""
        known = [word.confidence for word in self.words if word.confidence is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class TranscriptWarning:
    """Something the reader of a transcript should know: `code` is stable, `message` is for people."""

    code: str
    message: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Transcript:
    """The result for one recording."""

    segments: tuple[Segment, ...]
    duration_s: float
    language: str | None = None
    task: str = "transcribe"
    warnings: tuple[TranscriptWarning, ...] = ()

    @property
    def text(self) -> str:
        """The segments' texts joined by spaces (by nothing where the language is written without spaces)."""
        return join_text((s.text for s in self.segments), self.language)

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for segment in self.segments for word in segment.words)


def join_text(parts: Iterable[str], language: str | None) -> str:
    """Join pieces of running text as the language writes it."""
    separator = "" if base_language(language) in UNSPACED_LANGUAGES else " "
    return separator.join(part for part in parts if part)
