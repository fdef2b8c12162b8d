"""A transcript as a file: txt, srt, vtt, tsv, json, verbose_json.

The first five are laid out as openai/whisper writes them, `verbose_json` as OpenAI's transcription API answers. Pure
functions from Transcript to str; the caller writes the file, as UTF-8.

Words with times, which a transcript has where they were asked for, are lists in json and verbose_json. In srt the cue
is repeated with each word underlined while it is said, as whisper's `--highlight_words` does; in vtt words have times
inside the cue, which players without karaoke skip. The other formats, and segments without words, stay plain.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from lithophone.languages import TABLE, base_language
from lithophone.transcript import Segment, Transcript, TranscriptWarning, Word


def to_txt(transcript: Transcript) -> str:
    """One line per segment."""
    return "".join(f"{cue}\n" for _, cue in _cues(transcript))


def to_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues, `00:00:01,000 --> 00:00:02,500`; a cue for every word where words are timed."""
    timed = (cue for segment, text in _cues(transcript) for cue in _word_cues(segment, _without_arrow(text)))
    return "".join(
        f"{number}\n{_srt_time(start_s)} --> {_srt_time(end_s)}\n{text}\n\n"
        for number, (start_s, end_s, text) in enumerate(timed, start=1)
    )


def to_vtt(transcript: Transcript) -> str:
    """WebVTT: `00:01.000 --> 00:02.500`, with hours from the first hour on; `<00:01.500>` before timed words."""
    cues = (
        f"{vtt_time(segment.start_s)} --> {vtt_time(segment.end_s)}\n{_stamped(segment, _without_arrow(text))}\n\n"
        for segment, text in _cues(transcript)
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
            "language": _api_name(transcript.language),
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


def _placed(segment: Segment, cue: str) -> Iterator[tuple[Word, int, int]]:
    """The words of a segment and where each stands in the cue; what a cue cannot show, as an arrow, is left out."""
    at = len(_with_speaker("", segment.speaker))
    for word in segment.words:
        start = cue.find(word.text, at)
        if start >= 0:
            at = start + len(word.text)
            yield word, start, at


def _word_cues(segment: Segment, cue: str) -> list[tuple[float, float, str]]:
    """Start, end and text of the cue, or of one after the other with each word underlined while it is said."""
    cues = []
    last_s = segment.start_s
    for word, start, end in _placed(segment, cue):
        if _lasts(last_s, word.start_s):
            cues.append((last_s, word.start_s, cue))
        if _lasts(word.start_s, word.end_s):
            cues.append((word.start_s, word.end_s, f"{cue[:start]}<u>{cue[start:end]}</u>{cue[end:]}"))
        last_s = word.end_s
    if _lasts(last_s, segment.end_s):
        cues.append((last_s, segment.end_s, cue))
    return cues or [(segment.start_s, segment.end_s, cue)]


def _stamped(segment: Segment, cue: str) -> str:
    """The cue with the start of every word in front of it; stamps rise, and lie inside the cue."""
    stamped, at, last_s = "", 0, segment.start_s
    for word, start, _ in _placed(segment, cue):
        if _lasts(last_s, word.start_s) and _lasts(word.start_s, min(word.end_s, segment.end_s)):
            stamped += f"{cue[at:start]}<{vtt_time(word.start_s)}>"
            at, last_s = start, word.start_s
    return stamped + cue[at:]


# --- times


def _milliseconds(time_s: float) -> int:
    assert time_s >= 0, f"times start at 0, this one is {time_s} s"
    return round(time_s * 1000)


def _lasts(start_s: float, end_s: float) -> bool:
    """Whether anything is left of the stretch when its times are written."""
    return _milliseconds(start_s) < _milliseconds(end_s)


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
    if segment.confidence is not None:
        values["probability"] = round(segment.confidence, 4)
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


def _api_name(language: str | None) -> str:
    """OpenAI's API answers with names where everybody else has codes."""
    known = TABLE.get(base_language(language))
    return known.api_name if known else language or "unknown"
