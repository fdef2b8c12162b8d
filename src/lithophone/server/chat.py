"""`POST /v1/chat/completions` with a recording: the contract of OpenAI and vLLM, whose instruction names the task."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from lithophone.pipeline.assembly import Event
from lithophone.pipeline.transcriber import Transcriber
from lithophone.server import openapi
from lithophone.server.chat_reply import Completion
from lithophone.server.chat_request import ACCEPTED, ROLES, ChatRequest, chat_request
from lithophone.server.disconnect import unless_gone
from lithophone.server.errors import ApiError
from lithophone.server.forms import read_json
from lithophone.server.jobs import Job, Jobs
from lithophone.server.models import Models
from lithophone.server.openapi import flag, nullable, record, several, text, whole
from lithophone.server.streaming import event_stream

router = APIRouter()

TEXT_PART = record({"type": {"const": "text"}, "text": text("What to do: see the manual.")})
INPUT_AUDIO = record(
    {"type": {"const": "input_audio"}, "input_audio": record({"data": text(format="byte")}, {"format": text()})}
)
AUDIO_URL = record({"type": {"const": "audio_url"}, "audio_url": record({"url": text("data: or https:")})})
CONTENT = {"anyOf": [text(), several({"anyOf": [TEXT_PART, INPUT_AUDIO, AUDIO_URL]}, minItems=1)]}
BODY = record(
    {"messages": several(record({"role": text(enum=list(ROLES)), "content": CONTENT}), minItems=1)},
    {
        **{name: {"description": openapi.WITHOUT_EFFECT} for name in sorted(ACCEPTED)},
        **{name: nullable(schema) for name, schema in openapi.option_fields().items()},
        "model": nullable(openapi.FIELDS["model"]),
        "stream": nullable(flag("A chunk for each window.")),
        "stream_options": nullable(record({}, {"include_usage": flag()})),
        "max_completion_tokens": nullable(whole("Of the whole reply.", minimum=1)),
        "max_tokens": nullable(whole("As max_completion_tokens.", minimum=1)),
        "temperature": nullable(openapi.FIELDS["temperature"]),
        "top_k": nullable(whole("With sampling; -1 and 0: all.", minimum=-1)),
        "use_beam_search": nullable(openapi.FIELDS["use_beam_search"]),
        "logprobs": nullable(flag("Of words.")),
        "n": nullable(whole(minimum=1, maximum=1)),
        "response_format": nullable(record({"type": text(enum=["text"])})),
        "modalities": nullable(several(text(enum=["text"]))),
    },
    additionalProperties=False,
)
OPERATION = openapi.operation(
    "Transcribe or translate the recording of a chat",
    {"application/json": openapi.ref("ChatCompletion"), "text/event-stream": openapi.EVENT},
    [status for status in openapi.ON_RECORDINGS if status != 415],
    id="chat",
    requestBody=openapi.body(openapi.as_json(BODY)),
)


@router.post("/v1/chat/completions", response_class=Response, **OPERATION)
async def chat_completions(request: Request) -> Response:
    jobs: Jobs = request.app.state.jobs
    asked = chat_request(await read_json(request, jobs.settings.max_upload_mb))
    model = jobs.models.name_of(asked.model)
    data = await unless_gone(request, asked.audio.read(request.app.state.fetcher))
    job = Job(data, f"the recording at {asked.audio.param}", model, asked.options, prompt=asked.words)
    events = _placed(jobs.events(job), asked)
    if asked.stream:
        return await event_stream(request, events, lambda chained: _chunks(jobs.models, asked, model, chained))
    return JSONResponse(await unless_gone(request, _document(jobs.models, asked, model, events)))


async def _document(
    models: Models, asked: ChatRequest, model: str, events: AsyncGenerator[Event, None]
) -> dict[str, Any]:
    completion: Completion | None = None
    async with contextlib.aclosing(events):
        async for event in events:
            completion = completion or await _completion(models, asked, model)
            completion.add(event)
    assert completion is not None, "every recording has a last event"
    return completion.document()


async def _chunks(
    models: Models, asked: ChatRequest, model: str, events: AsyncIterator[Event]
) -> AsyncIterator[dict[str, Any]]:
    completion = await _completion(models, asked, model)
    async for chunk in completion.chunks(events):
        yield chunk


async def _completion(models: Models, asked: ChatRequest, model: str) -> Completion:
    """Counts tokens with the model, which a first event shows to be loaded."""

    def transcriber() -> Transcriber:
        with models.using(model) as found:
            return found

    return Completion(asked, model, await asyncio.to_thread(transcriber))


async def _placed(events: AsyncGenerator[Event, None], asked: ChatRequest) -> AsyncGenerator[Event, None]:
    """The events; errors of the recording name its place in the body."""
    async with contextlib.aclosing(events):
        try:
            async for event in events:
                yield event
        except ApiError as error:
            if error.param == "file":
                error.param = asked.audio.param
            raise
