"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: OpenAI's contract, and the command line's options.

Sources: types of the `openai` package 3.57; JSON bodies with `input_audio` as Open WebUI sends them.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from lithophone.formats import CueOptions
from lithophone.pipeline.assembly import Event
from lithophone.server import openapi
from lithophone.server.disconnect import unless_gone
from lithophone.server.errors import ApiError
from lithophone.server.forms import Form, Upload, decoded_base64, read_form, read_json
from lithophone.server.jobs import Job, Jobs
from lithophone.server.options import (
    check_known,
    choice,
    cue_options,
    flag,
    last,
    request_options,
    texts_of,
    words_of_user,
)
from lithophone.server.replies import RESPONSE_FORMATS, TEXT_TYPES, reply, stream
from lithophone.server.streaming import event_stream

router = APIRouter()

GRANULARITIES, INCLUDED = ("word", "segment"), ("logprobs",)
FIELDS = {
    "response_format": openapi.text(enum=list(RESPONSE_FORMATS)),
    "timestamp_granularities": openapi.several(openapi.text(enum=list(GRANULARITIES)), "With verbose_json."),
    "include": openapi.several(openapi.text(enum=list(INCLUDED)), "logprobs: of words, with json."),
    "stream": openapi.flag("Server-sent events, window by window."),
    **openapi.cue_fields(),
}
"""Fields beside those of all routes."""

REPLIES = {
    "application/json": {
        "anyOf": [openapi.ref(f"Transcription{kind}") for kind in ("", "Verbose", "Diarized")],
    },
    **{kind: openapi.text() for kind in TEXT_TYPES.values()},
    "text/event-stream": openapi.EVENT,
}


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A request, read and checked."""

    job: Job
    response_format: str
    granularities: tuple[str, ...]
    logprobs: bool
    stream: bool
    cues: CueOptions

    def streamed(self, events: AsyncIterator[Event]) -> AsyncIterator[dict[str, Any]]:
        return stream(events, self.response_format, self.granularities, logprobs=self.logprobs)


def _operation(name: str, summary: str) -> dict[str, Any]:
    fields = openapi.fields_with(FIELDS)
    audio = openapi.record({"data": openapi.text("base64", format="byte")}, {"format": openapi.text()})
    as_json = openapi.as_json(openapi.record({"input_audio": audio}, fields, additionalProperties=False))
    given = {"requestBody": openapi.body({**openapi.form("file", fields), **as_json})}
    return openapi.operation(summary, REPLIES, openapi.ON_RECORDINGS, id=name, **given)


@router.post("/v1/audio/transcriptions", response_class=Response, **_operation("transcribe", "Transcribe a recording"))
async def transcriptions(request: Request) -> Response:
    return await _answered(request, {})


@router.post(
    "/v1/audio/translations",
    response_class=Response,
    **_operation("translate", "Translate a recording into English, or `to`"),
)
async def translations(request: Request) -> Response:
    return await _answered(request, {"task": "translate", "to": "en"})


async def _answered(request: Request, defaults: dict[str, str]) -> Response:
    jobs: Jobs = request.app.state.jobs
    form = await _form(request, jobs.settings.max_upload_mb)
    asked = _asked(jobs, form, defaults)
    if asked.stream:
        return await event_stream(request, jobs.events(asked.job), asked.streamed)
    done = await unless_gone(request, jobs.done(asked.job))
    given = (done, asked.response_format, asked.granularities, asked.cues)
    return await asyncio.to_thread(reply, *given, logprobs=asked.logprobs)


async def _form(request: Request, max_mb: float) -> Form:
    """A form, or the JSON of Open WebUI: fields, and `input_audio` with base64 data."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        return await read_form(request, max_mb)
    fields = await read_json(request, max_mb)
    audio = fields.pop("input_audio", None)
    if not isinstance(audio, dict):
        raise ApiError(
            400, "input_audio is missing: send data and format, or a form", code="missing_file", param="file"
        )
    upload = Upload("the input_audio", decoded_base64(audio.get("data"), "input_audio.data"))
    return Form(texts_of(fields), {"file": [upload]})


def _asked(jobs: Jobs, form: Form, defaults: dict[str, str]) -> _Asked:
    check_known(form.fields, FIELDS)
    check_known(form.files, ("file",))
    fields = form.fields
    response_format = choice(fields, "response_format", RESPONSE_FORMATS, "json")
    granularities = _choices(fields, "timestamp_granularities", GRANULARITIES)
    logprobs = bool(_choices(fields, "include", INCLUDED)) and response_format == "json"
    timed = "word" in granularities and response_format == "verbose_json"
    model = jobs.models.name_of(last(fields, "model"))
    file = form.file("file")
    diarized = response_format == "diarized_json" and last(fields, "task") != "speakers"
    cues = cue_options(fields, response_format)
    timed = timed or logprobs or cues.highlight_words
    options = request_options(fields, defaults, diarize=diarized or None, word_timestamps=timed or None)
    job = Job(file.data, file.name, model, options, prompt=words_of_user(fields))
    return _Asked(job, response_format, granularities, logprobs, flag(fields, "stream"), cues)


def _choices(fields: dict[str, list[str]], name: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    values = tuple(part.strip() for text in fields.get(name, []) for part in text.split(","))
    for value in values:
        choice({name: [value]}, name, allowed, "")
    return values
