"""Formats without cues: txt, tsv, json, and verbose_json (OpenAI's API)."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from typing import Any

from lithophone.formats.cues import DEFAULT_CUES, CueOptions, label_of
from lithophone.formats.spans import milliseconds
from lithophone.formats.turns import one_line, segments_of, written
from lithophone.languages import TABLE, base_language
from lithophone.transcript import LanguageGuess, Segment, Transcript, Word

DIGITS = {"probability": 4, "avg_logprob": 4, "compression_ratio": 4}
"""Decimals of floats; others have three."""


def to_txt(transcript: Transcript, _: CueOptions = DEFAULT_CUES) -> str:
    """One line per segment."""
    return "".join(f"{text}\n" for _, text in _texts(transcript))


def to_tsv(transcript: Transcript, _: CueOptions = DEFAULT_CUES) -> str:
    """Columns start, end (milliseconds), text."""
    rows = (
        f"{milliseconds(segment.start_s)}\t{milliseconds(segment.end_s)}\t{one_line(written(text))}\n"
        for segment, text in _texts(transcript)
    )
    return "start\tend\ttext\n" + "".join(rows)


def to_json(transcript: Transcript, _: CueOptions = DEFAULT_CUES) -> str:
    """`Transcript.to_dict`, times to the millisecond; read by `from_dict`."""
    return _dumps(transcript.to_dict())


def to_verbose_json(transcript: Transcript, _: CueOptions = DEFAULT_CUES) -> str:
    """OpenAI's `response_format=verbose_json`, with every field its clients expect.

    Fields without counterpart are neutral: `tokens` empty, `temperature` and `no_speech_prob` 0, an unknown language
    "unknown". `avg_logprob` is from word confidences, else 0.
    """
    return _dumps(verbose_dict(transcript))


def verbose_dict(transcript: Transcript) -> dict[str, Any]:
    """The document of `to_verbose_json`."""
    words = {"words": [word.to_dict() for word in transcript.words]} if transcript.words else {}
    document: dict[str, Any] = _rounded(
        {
            "task": transcript.task,
            "language": api_name(transcript.language),
            "duration": transcript.duration_s,
            "text": transcript.text,
            "segments": [_api_segment_dict(number, segment) for number, segment in enumerate(transcript.segments)],
            **words,
            **_detected(transcript.language_guess),
        }
    )
    return document


def _detected(guess: LanguageGuess | None) -> dict[str, Any]:
    """Fields of whisper.cpp, where the language was detected from the speech."""
    if guess is None:
        return {}
    return {
        "detected_language": api_name(guess.language), "detected_language_probability": guess.probability,
        "language_probabilities": dict(guess.probabilities),
    }  # fmt: skip


def _texts(transcript: Transcript) -> Iterator[tuple[Segment, str]]:
    """Segments with text, and text with speaker, without blank lines."""
    for segment in segments_of(transcript):
        lines = [line.strip() for line in segment.text.splitlines() if line.strip()]
        if lines:
            yield segment, label_of(segment.speaker) + "\n".join(lines)


# --- json


def _dumps(values: dict[str, Any]) -> str:
    return json.dumps(_rounded(values), ensure_ascii=False)


def _rounded(value: Any, digits: int = 3) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one, DIGITS.get(name, 3)) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one, digits) for one in value]
    return round(value, digits) if isinstance(value, float) else value


def _api_segment_dict(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": round(segment.start_s * 100),
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": _mean_log_confidence(segment.words),
        "compression_ratio": _compression_ratio(segment.text),
        "no_speech_prob": 0.0,
        **({} if segment.speaker is None else {"speaker": segment.speaker}),
    }


def _mean_log_confidence(words: tuple[Word, ...]) -> float:
    logs = [math.log(max(word.confidence, 1e-6)) for word in words if word.confidence is not None]
    return sum(logs) / len(logs) if logs else 0.0


def _compression_ratio(text: str) -> float:
    """Bytes / compressed bytes, whisper's measure of repetition."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def api_name(language: str | None) -> str:
    """A language in OpenAI's API, which uses names, not codes."""
    known = TABLE.get(base_language(language))
    return known.api_name if known else language or "unknown"
