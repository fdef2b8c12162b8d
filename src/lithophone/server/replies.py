"""Transcripts as OpenAI's replies, whole or as server-sent events."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Collection
from typing import Any

from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.responses import Response

from lithophone.errors import LithophoneError
from lithophone.formats import render, verbose_dict
from lithophone.languages import UNSPACED_LANGUAGES, base_language
from lithophone.pipeline.assembly import Event, RecordingDone, WindowDone
from lithophone.server.errors import ApiError, internal_error
from lithophone.transcript import Segment, Transcript, Word

RESPONSE_FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
TEXT_TYPES = {
    "text": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "tsv": "text/tab-separated-values",
}
DONE = "data: [DONE]\n\n"


def reply(
    transcript: Transcript, response_format: str, granularities: Collection[str], *, logprobs: bool = False
) -> Response:
    """The transcript in one of RESPONSE_FORMATS."""
    if response_format == "verbose_json":
        return JSONResponse(_verbose(transcript, granularities))
    if response_format == "diarized_json":
        return JSONResponse(_diarized(transcript))
    if response_format == "json":
        return JSONResponse(_json(transcript, logprobs))
    text = f"{transcript.text}\n" if response_format == "text" else render(response_format, transcript)
    return PlainTextResponse(text, media_type=TEXT_TYPES[response_format])


def _json(transcript: Transcript, logprobs: bool) -> dict[str, Any]:
    return {"text": transcript.text, **_known(transcript, logprobs)}


def _known(transcript: Transcript, logprobs: bool) -> dict[str, Any]:
    """Fields that both a reply and the last event of a stream have."""
    known: dict[str, Any] = {"usage": _usage(transcript)}
    if transcript.language:
        known["languages"] = [{"code": transcript.language}]
    if logprobs:
        known["logprobs"] = [_logprob(word) for word in transcript.words]
    if transcript.warnings:
        known["warnings"] = [warning.to_dict() for warning in transcript.warnings]
    return known


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration_s)}


def _logprob(word: Word) -> dict[str, Any]:
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


# --- server-sent events


async def sse(
    events: AsyncIterator[Event],
    language: str | None,
    response_format: str = "json",
    granularities: Collection[str] = (),
    *,
    logprobs: bool = False,
) -> AsyncIterator[str]:
    """`transcript.text.delta` for each window, `transcript.text.done`; deltas joined are the text.

    diarized_json and verbose_json have `transcript.text.segment` before the deltas; with verbose_json, `done` has the
    fields of that reply as well. language: of the text.
    """
    has_segments = response_format in ("diarized_json", "verbose_json")
    separator, number = "", 0
    try:
        async for event in events:
            if isinstance(event, WindowDone):
                for segment in event.segments:
                    if has_segments:
                        yield _data(_speaker_segment(number, segment))
                    if segment.text:
                        yield _data(_delta(segment, separator, logprobs))
                        separator = "" if base_language(language) in UNSPACED_LANGUAGES else " "
                    number += 1
            elif isinstance(event, RecordingDone) and isinstance(event.result, Transcript):
                verbose = _verbose(event.result, granularities) if response_format == "verbose_json" else {}
                done = {"type": "transcript.text.done", "text": event.result.text}
                yield _data({**verbose, **done, **_known(event.result, logprobs)})
    except ApiError as error:
        yield _data(error.body())
    except LithophoneError as error:
        yield _data(ApiError(500, str(error)).body())
    except Exception:
        yield _data(internal_error().body())
        raise
    yield DONE


def _delta(segment: Segment, separator: str, logprobs: bool) -> dict[str, Any]:
    delta = {"type": "transcript.text.delta", "delta": separator + segment.text}
    return {**delta, "logprobs": [_logprob(word) for word in segment.words]} if logprobs else delta


def _data(document: dict[str, Any]) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"
