"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: OpenAI's contract, and the command line's options.

Sources: types of the `openai` package 3.57; JSON bodies with `input_audio` as Open WebUI sends them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from lithophone.pipeline.assembly import Event
from lithophone.pipeline.options import TranscribeOptions
from lithophone.server.disconnect import unless_gone
from lithophone.server.errors import ApiError
from lithophone.server.forms import Form, Upload, decoded_base64, read_form, read_json
from lithophone.server.jobs import Job, Jobs
from lithophone.server.options import (
    OPTION_TYPES,
    check_known,
    choice,
    keywords_of_prompt,
    language_of,
    options_of,
    temperature_of,
    typed,
)
from lithophone.server.replies import RESPONSE_FORMATS, reply, sse

router = APIRouter()

FIELDS = {
    "model": "A served model, or one of OpenAI's names for the default.",
    "language": "Language spoken: en, fr, de, es, pt, ja; region tags count.",
    "languages": "Languages that may be spoken; only one of them is of use here.",
    "prompt": "Terms to expect, with commas between them; of other texts the names are taken.",
    "hotwords": "As keywords.",
    "to_language": "As to.",
    "response_format": ", ".join(RESPONSE_FORMATS) + ".",
    "temperature": "Above 0: a sampled transcript.",
    "timestamp_granularities": "word, segment, or both; with verbose_json.",
    "include": "logprobs: of words, with json.",
    "stream": "Server-sent events, window by window.",
}
"""Fields beside those of TranscribeOptions."""

GRANULARITIES, INCLUDED = ("word", "segment"), ("logprobs",)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A request, read and checked."""

    job: Job
    response_format: str
    granularities: tuple[str, ...]
    logprobs: bool
    stream: bool


def _schema(kind: str) -> dict[str, Any]:
    """OpenAPI's description of the form."""
    help_texts = {field.name: field.metadata["help"] for field in dataclasses.fields(TranscribeOptions)}
    texts = {name: {"type": "string", "description": text} for name, text in {**help_texts, **FIELDS}.items()}
    properties = {"file": {"type": "string", "format": "binary", "description": "A recording."}, **texts}
    properties["response_format"]["enum"] = list(RESPONSE_FORMATS)
    content = {"multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": properties}}}
    return {"summary": kind, "requestBody": {"required": True, "content": content}}


@router.post("/v1/audio/transcriptions", openapi_extra=_schema("Transcribe a recording"))
async def transcriptions(request: Request) -> Response:
    return await _answered(request, {})


@router.post("/v1/audio/translations", openapi_extra=_schema("Translate a recording into English, or `to`"))
async def translations(request: Request) -> Response:
    return await _answered(request, {"task": "translate", "to": "en"})


async def _answered(request: Request, defaults: dict[str, str]) -> Response:
    jobs: Jobs = request.app.state.jobs
    form = await _form(request, jobs.settings.max_upload_mb)
    asked = _asked(jobs, form, defaults)
    if asked.stream:
        return await _streamed(request, jobs, asked)
    transcript = await unless_gone(request, jobs.transcript(asked.job))
    return reply(transcript, asked.response_format, asked.granularities, logprobs=asked.logprobs)


async def _streamed(request: Request, jobs: Jobs, asked: _Asked) -> Response:
    """Waits for the first event, so that what fails at once has a status of its own."""
    events = jobs.events(asked.job)
    try:
        first = await unless_gone(request, _first(events))
    except BaseException:
        await events.aclose()
        raise
    options = asked.job.options
    texts = sse(
        _chained(first, events), options.text_language, asked.response_format, asked.granularities,
        logprobs=asked.logprobs,
    )  # fmt: skip
    return StreamingResponse(
        _closing(texts, events), media_type="text/event-stream", headers={"cache-control": "no-cache"}
    )


async def _first(events: AsyncIterator[Event]) -> Event:
    return await anext(events)


async def _chained(first: Event, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield first
    async for event in events:
        yield event


async def _closing(texts: AsyncIterator[str], events: AsyncGenerator[Event, None]) -> AsyncIterator[str]:
    """Ends the work as well where the client goes away."""
    async with contextlib.aclosing(events):
        async for text in texts:
            yield text


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
    return Form({name: _texts(value) for name, value in fields.items() if value not in (None, "")}, {"file": [upload]})


def _texts(value: Any) -> list[str]:
    """A JSON value as a form has it."""
    return [
        str(one).lower() if isinstance(one, bool) else str(one)
        for one in (value if isinstance(value, list) else [value])
    ]


def _asked(jobs: Jobs, form: Form, defaults: dict[str, str]) -> _Asked:
    check_known(form.fields, FIELDS)
    check_known(form.files, ("file",))
    fields = form.fields
    response_format = choice(fields, "response_format", RESPONSE_FORMATS, "json")
    granularities = _choices(fields, "timestamp_granularities", GRANULARITIES)
    logprobs = bool(_choices(fields, "include", INCLUDED)) and response_format == "json"
    timed = "word" in granularities and response_format == "verbose_json"
    model = jobs.models.name_of(fields.get("model", [None])[-1])
    file = form.file("file")
    options = _options(fields, defaults, timed=timed or logprobs, diarized=response_format == "diarized_json")
    stream = typed("stream", fields.get("stream", ["false"]), bool)
    return _Asked(Job(file.data, file.name, model, options), response_format, granularities, logprobs, stream)


def _options(
    fields: dict[str, list[str]], defaults: dict[str, str], *, timed: bool, diarized: bool
) -> TranscribeOptions:
    given: dict[str, Any] = dict(defaults) | {name: None for name in defaults if name in fields}
    language = language_of(fields)
    if "to_language" in fields:
        given |= {"task": "translate", "to": fields["to_language"][-1]}
    if diarized:
        given["task"] = "speakers"
    keywords = typed("keywords", fields.get("keywords", []) + fields.get("hotwords", []), tuple[str, ...])
    keywords += keywords_of_prompt(" ".join(fields.get("prompt", [])))
    temperature = temperature_of(fields)
    if temperature and "decode" not in fields:
        given |= {"decode": "sample", "temperature": temperature}
    left = {name: texts for name, texts in fields.items() if name in OPTION_TYPES and name not in _SETTLED}
    return options_of(left, **given, language=language, keywords=keywords or None, word_timestamps=timed or None)


_SETTLED = {"language", "keywords", "temperature"}


def _choices(fields: dict[str, list[str]], name: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    values = tuple(part.strip() for text in fields.get(name, []) for part in text.split(","))
    for value in values:
        choice({name: [value]}, name, allowed, "")
    return values
