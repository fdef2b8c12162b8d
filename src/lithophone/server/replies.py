"""Transcripts as OpenAI's replies, whole or as server-sent events."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection
from typing import Any

from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.responses import Response

from lithophone.formats import DEFAULT_CUES, CueOptions, render, verbose_dict
from lithophone.languages import UNSPACED_LANGUAGES, base_language
from lithophone.pipeline.assembly import Event, RecordingDone, WindowDone
from lithophone.server.guardian import Judged
from lithophone.transcript import Segment, Transcript, Word

RESPONSE_FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
TEXT_TYPES = {
    "text": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
}


def reply(
    done: RecordingDone,
    response_format: str,
    granularities: Collection[str],
    cues: CueOptions = DEFAULT_CUES,
    *,
    logprobs: bool = False,
) -> Response:
    """The transcript in one of RESPONSE_FORMATS. Formats of text have no place for a Guardian's verdict."""
    transcript = done.result
    assert isinstance(transcript, Transcript), "errors are raised"
    if response_format == "verbose_json":
        return JSONResponse({**_verbose(transcript, granularities), **verdict_of(done)})
    if response_format == "diarized_json":
        return JSONResponse({**_diarized(transcript), **verdict_of(done)})
    if response_format == "json":
        return JSONResponse({**_json(transcript, logprobs), **verdict_of(done)})
    text = f"{transcript.text}\n" if response_format == "text" else render(response_format, transcript, cues)
    return PlainTextResponse(text, media_type=TEXT_TYPES[response_format])


def _json(transcript: Transcript, logprobs: bool) -> dict[str, Any]:
    return {"text": transcript.text, **_known(transcript, logprobs)}


def _known(transcript: Transcript, logprobs: bool) -> dict[str, Any]:
    """Fields that both a reply and the last event of a stream have."""
    known: dict[str, Any] = {"usage": _usage(transcript)}
    if transcript.language:
        known["languages"] = [{"code": transcript.language}]
    if transcript.language_probability is not None:
        known["language_probability"] = round(transcript.language_probability, 3)
    if logprobs:
        known["logprobs"] = [logprob(word) for word in transcript.words]
    if transcript.warnings:
        known["warnings"] = [warning.to_dict() for warning in transcript.warnings]
    return known


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration_s)}


def logprob(word: Word) -> dict[str, Any]:
    """A word in the place of a token: its confidence is that of all its characters."""
    logprob = math.log(max(word.confidence if word.confidence is not None else 1.0, 1e-6))
    return {"token": word.text, "bytes": list(word.text.encode()), "logprob": round(logprob, 4)}


def _verbose(transcript: Transcript, granularities: Collection[str]) -> dict[str, Any]:
    """Segments unless words alone are asked for."""
    document = verbose_dict(transcript)
    if "word" in granularities:
        document.setdefault("words", [])
        if "segment" not in granularities:
            del document["segments"]
    else:
        document.pop("words", None)
    if transcript.warnings:
        document["warnings"] = [warning.to_dict() for warning in transcript.warnings]
    return {**document, "usage": _usage(transcript)}


def _diarized(transcript: Transcript) -> dict[str, Any]:
    return {
        "task": "transcribe",
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text,
        "segments": [_speaker_segment(number, segment) for number, segment in enumerate(transcript.segments)],
        "usage": _usage(transcript),
    }


def _speaker_segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{number}",
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "speaker": speaker_letter(segment.speaker),
        "text": segment.text,
    }


def speaker_letter(speaker: str | None) -> str:
    """Speaker 1 -> A, as OpenAI names them; other names stay."""
    number = (speaker or "1").rpartition(" ")[2]
    return chr(64 + int(number)) if number.isdecimal() and 1 <= int(number) <= 26 else str(speaker)


# --- as a stream


async def stream(
    events: AsyncIterator[Event],
    response_format: str = "json",
    granularities: Collection[str] = (),
    *,
    logprobs: bool = False,
) -> AsyncIterator[dict[str, Any]]:
    """`transcript.text.delta` for each window, `transcript.text.done`; deltas joined are the text.

    diarized_json and verbose_json have `transcript.text.segment` before the deltas; with verbose_json, `done` has the
    fields of that reply as well.
    """
    has_segments = response_format in ("diarized_json", "verbose_json")
    separator, number = "", 0
    async for event in events:
        if isinstance(event, WindowDone):
            for segment in event.segments:
                if has_segments:
                    yield _speaker_segment(number, segment)
                if segment.text:
                    yield _delta(segment, separator, logprobs)
                    separator = separator_of(event.language)
                number += 1
        elif isinstance(event, RecordingDone) and isinstance(event.result, Transcript):
            verbose = _verbose(event.result, granularities) if response_format == "verbose_json" else {}
            done = {"type": "transcript.text.done", "text": event.result.text}
            yield {**verbose, **done, **_known(event.result, logprobs), **verdict_of(event)}


def separator_of(language: str | None) -> str:
    """Between segments of a text in that language."""
    return "" if base_language(language) in UNSPACED_LANGUAGES else " "


def verdict_of(done: RecordingDone) -> dict[str, Any]:
    """The field `guardian`, where a Guardian judged the transcript."""
    return {"guardian": done.verdict.to_dict()} if isinstance(done, Judged) else {}


def _delta(segment: Segment, separator: str, logprobs: bool) -> dict[str, Any]:
    delta = {"type": "transcript.text.delta", "delta": separator + segment.text}
    return {**delta, "logprobs": [logprob(word) for word in segment.words]} if logprobs else delta
