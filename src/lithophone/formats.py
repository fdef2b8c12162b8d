"""A transcript as a file: txt, srt, vtt, tsv, json, verbose_json.

The first five are laid out as openai/whisper writes them, `verbose_json` as OpenAI's transcription API answers. Pure
functions from Transcript to str; the caller writes the file, as UTF-8.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from lithophone.transcript import Segment, Transcript, TranscriptWarning, Word

LANGUAGE_NAMES = {
    "de": "german", "en": "english", "es": "spanish", "fr": "french", "it": "italian", "ja": "japanese",
    "pt": "portuguese", "zh": "chinese",
}  # fmt: skip
"""OpenAI's API answers with names where everybody else has codes."""


def to_txt(transcript: Transcript) -> str:
    """One line per segment."""
    return "".join(f"{cue}\n" for _, cue in _cues(transcript))


def to_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues, `00:00:01,000 --> 00:00:02,500`."""
    return "".join(
        f"{number}\n{_srt_time(segment.start_s)} --> {_srt_time(segment.end_s)}\n{_without_arrow(cue)}\n\n"
        for number, (segment, cue) in enumerate(_cues(transcript), start=1)
    )


def to_vtt(transcript: Transcript) -> str:
    """WebVTT: `00:01.000 --> 00:02.500`, with hours from the first hour on."""
    cues = (
        f"{vtt_time(segment.start_s)} --> {vtt_time(segment.end_s)}\n{_without_arrow(cue)}\n\n"
        for segment, cue in _cues(transcript)
    )
    return "WEBVTT\n\n" + "".join(cues)


def to_tsv(transcript: Transcript) -> str:
    """Columns start, end (whole milliseconds) and text."""
    rows = (
        f"{_milliseconds(segment.start_s)}\t{_milliseconds(segment.end_s)}\t{' '.join(cue.split())}\n"
        for segment, cue in _cues(transcript)
    )
    return "start\tend\ttext\n" + "".join(rows)


def to_json(transcript: Transcript) -> str:
    """`text`, `language`, `duration`, `segments` and `warnings`; times in seconds, to the millisecond."""
    return _dumps(
        {
            "text": transcript.text,
            "language": transcript.language,
            "duration": _seconds(transcript.duration_s),
            "segments": [_segment_dict(number, segment) for number, segment in enumerate(transcript.segments)],
            "warnings": [_warning_dict(warning) for warning in transcript.warnings],
        }
    )


def to_verbose_json(transcript: Transcript) -> str:
    """The answer of OpenAI's API to `response_format=verbose_json`, with every field its clients expect.

    What has no counterpart here is neutral: `tokens` is empty, `temperature` and `no_speech_prob` are 0, an unknown
    language is "unknown". `avg_logprob` comes from the confidence of the words, 0 where there is none.
    """
    words = {"words": [_word_dict(word) for word in transcript.words]} if transcript.words else {}
    return _dumps(
        {
            "task": transcript.task,
            "language": LANGUAGE_NAMES.get(transcript.language or "unknown", transcript.language or "unknown"),
            "duration": _seconds(transcript.duration_s),
            "text": transcript.text,
            "segments": [_api_segment_dict(number, segment) for number, segment in enumerate(transcript.segments)],
            **words,
        }
    )


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "json": to_json,
    "verbose_json": to_verbose_json,
}
"""Every format by the name that the command line and the server use."""


# --- cues


def _cues(transcript: Transcript) -> Iterator[tuple[Segment, str]]:
    """Segments with text to show; a blank line would end a cue, so blank lines inside are left out."""
    for segment in transcript.segments:
        lines = [line.strip() for line in segment.text.splitlines() if line.strip()]
        if lines:
            yield segment, _with_speaker("\n".join(lines), segment.speaker)


def _with_speaker(text: str, speaker: str | None) -> str:
    if speaker is None:
        return text
    name = f"Speaker {speaker}" if speaker.isdigit() else speaker
    return f"[{name}]: {text}"


def _without_arrow(text: str) -> str:
    """An arrow in the text would read as a line of times."""
    return text.replace("-->", "->")


# --- times


def _milliseconds(time_s: float) -> int:
    assert time_s >= 0, f"times start at 0, this one is {time_s} s"
    return round(time_s * 1000)


def _seconds(time_s: float) -> float:
    return round(time_s, 3)


def _clock(time_s: float) -> tuple[int, int, int, int]:
    """Hours, minutes, seconds, milliseconds."""
    seconds, milliseconds = divmod(_milliseconds(time_s), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return hours, minutes, seconds, milliseconds


def _srt_time(time_s: float) -> str:
    return "{:02d}:{:02d}:{:02d},{:03d}".format(*_clock(time_s))


def vtt_time(time_s: float) -> str:
    """`MM:SS.mmm`, with hours in front from the first hour on."""
    hours, *rest = _clock(time_s)
    return (f"{hours:02d}:" if hours else "") + "{:02d}:{:02d}.{:03d}".format(*rest)


# --- json


def _dumps(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False)


def _segment_dict(number: int, segment: Segment) -> dict[str, Any]:
    values: dict[str, Any] = {"id": number, **_span(segment), "text": segment.text}
    if segment.speaker is not None:
        values["speaker"] = segment.speaker
    if segment.words:
        values["words"] = [_word_dict(word) for word in segment.words]
    return values


def _word_dict(word: Word) -> dict[str, Any]:
    values: dict[str, Any] = {"word": word.text, **_span(word)}
    if word.confidence is not None:
        values["probability"] = round(word.confidence, 4)
    if word.speaker is not None:
        values["speaker"] = word.speaker
    return values


def _warning_dict(warning: TranscriptWarning) -> dict[str, Any]:
    return {"code": warning.code, "message": warning.message, **_span(warning)}


def _span(timed: Segment | Word | TranscriptWarning) -> dict[str, float]:
    return {"start": _seconds(timed.start_s), "end": _seconds(timed.end_s)}


def _api_segment_dict(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": round(segment.start_s * 100),
        **_span(segment),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": _mean_log_confidence(segment.words),
        "compression_ratio": _compression_ratio(segment.text),
        "no_speech_prob": 0.0,
    }


def _mean_log_confidence(words: tuple[Word, ...]) -> float:
    logs = [math.log(max(word.confidence, 1e-6)) for word in words if word.confidence is not None]
    return round(sum(logs) / len(logs), 4) if logs else 0.0


def _compression_ratio(text: str) -> float:
    """Bytes over compressed bytes, whisper's measure of a text that repeats itself."""
    data = text.encode()
    return round(len(data) / len(zlib.compress(data)), 4)
