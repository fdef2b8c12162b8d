"""Transcripts: words, segments, warnings. Times are seconds from the start of the recording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lithophone.languages import UNSPACED_LANGUAGES, base_language


@dataclass(frozen=True)
class Word:
    """`confidence` in 0..1, None if unknown (`ctc/confidence.py`)."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None
    speaker: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """`word`, `start`, `end`, and `probability`, `speaker` if known."""
        known = {"probability": self.confidence, "speaker": self.speaker}
        return {"word": self.text, "start": self.start_s, "end": self.end_s, **_known(known)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Word:
        """Inverse of `to_dict`; accepts `text` for `word`. Raises KeyError."""
        text = values["word"] if "word" in values else values["text"]
        return cls(text, values["start"], values["end"], values.get("probability"), values.get("speaker"))


@dataclass(frozen=True)
class Segment:
    """Text of a window, or of a speaker turn in it."""

    text: str
    start_s: float
    end_s: float
    words: tuple[Word, ...] = ()
    speaker: str | None = None

    @property
    def confidence(self) -> float | None:
        """Mean confidence of the words, 0..1; None without any."""
        known = [word.confidence for word in self.words if word.confidence is not None]
        return sum(known) / len(known) if known else None

    def to_dict(self) -> dict[str, Any]:
        """`start`, `end`, `text`, and `speaker`, mean `probability`, `words` if known."""
        known = {"speaker": self.speaker, "probability": self.confidence}
        words = {"words": [word.to_dict() for word in self.words]} if self.words else {}
        return {"start": self.start_s, "end": self.end_s, "text": self.text, **_known(known), **words}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Segment:
        """Inverse of `to_dict`. Raises KeyError."""
        words = tuple(map(Word.from_dict, values.get("words", ())))
        return cls(values["text"], values["start"], values["end"], words, values.get("speaker"))


@dataclass(frozen=True)
class TranscriptWarning:
    """`code` is stable (`pipeline/quality.py`), `message` for people."""

    code: str
    message: str
    start_s: float
    end_s: float

    def to_dict(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "start": self.start_s, "end": self.end_s}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TranscriptWarning:
        """Inverse of `to_dict`. Raises KeyError."""
        return cls(values["code"], values["message"], values["start"], values["end"])


@dataclass(frozen=True)
class LanguageGuess:
    """The language of speech, as a model detects it."""

    probabilities: Mapping[str, float] = field(hash=False)
    """By code, the likeliest first, for all languages that the model understands; empty without speech."""

    @property
    def language(self) -> str | None:
        """Code of the likeliest language; None without speech."""
        return next(iter(self.probabilities), None)

    @property
    def probability(self) -> float | None:
        """Of `language`, 0..1; None without speech."""
        return next(iter(self.probabilities.values()), None)


@dataclass(frozen=True)
class Transcript:
    """The result for one recording."""

    segments: tuple[Segment, ...]
    duration_s: float
    language: str | None = None
    """Code of the text's language, where it was given or detected."""
    task: str = "transcribe"
    warnings: tuple[TranscriptWarning, ...] = ()
    language_guess: LanguageGuess | None = None
    """Of the speech, where the option `language` was auto and there is speech."""
    dtype: str | None = None
    """Of the model's weights, as the option `dtype` names them."""
    activation_bits: int | None = None
    """Of int8 products: 8, or 7 on CPUs without VNNI."""

    @property
    def text(self) -> str:
        """Segment texts joined by spaces, without in unspaced languages."""
        return join_text((s.text for s in self.segments), self.language)

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def language_probability(self) -> float | None:
        """Of the language that was detected, 0..1; None where it was given, is unknown, or there is no speech."""
        return None if self.language_guess is None else self.language_guess.probability

    def to_dict(self) -> dict[str, Any]:
        """The document of `--output-format json`, unrounded."""
        guess = self.language_guess
        detected = {} if guess is None else {"language_probabilities": dict(guess.probabilities)}
        return {
            "text": self.text,
            "language": self.language,
            **_known({"language_probability": self.language_probability}),
            **detected,
            "task": self.task,
            "duration": self.duration_s,
            **_known({"dtype": self.dtype, "activation_bits": self.activation_bits}),
            "segments": [{"id": number, **segment.to_dict()} for number, segment in enumerate(self.segments)],
            "warnings": [warning.to_dict() for warning in self.warnings],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Transcript:
        """Inverse of `to_dict`. Raises KeyError."""
        guess = values.get("language_probabilities")
        return cls(
            tuple(map(Segment.from_dict, values["segments"])),
            values["duration"],
            values.get("language"),
            values.get("task", "transcribe"),
            tuple(map(TranscriptWarning.from_dict, values.get("warnings", ()))),
            None if guess is None else LanguageGuess(guess),
            values.get("dtype"),
            values.get("activation_bits"),
        )


def join_text(parts: Iterable[str], language: str | None) -> str:
    """Join texts with the language's separator."""
    separator = "" if base_language(language) in UNSPACED_LANGUAGES else " "
    return separator.join(part for part in parts if part)


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
