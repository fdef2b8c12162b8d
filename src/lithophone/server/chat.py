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
from lithophone.server.chat_reply import Completion
from lithophone.server.chat_request import ChatRequest, chat_request
from lithophone.server.disconnect import unless_gone
from lithophone.server.errors import ApiError
from lithophone.server.forms import read_json
from lithophone.server.jobs import Job, Jobs
from lithophone.server.models import Models
from lithophone.server.streaming import event_stream

router = APIRouter()

TEXT_PART = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": {"type": "string", "description": "What to do: see the manual."}},
}
INPUT_AUDIO = {
    "type": "object",
    "required": ["type", "input_audio"],
    "properties": {
        "type": {"const": "input_audio"},
        "input_audio": {
            "type": "object",
            "required": ["data"],
            "properties": {"data": {"type": "string", "format": "byte"}, "format": {"type": "string"}},
        },
    },
}
AUDIO_URL = {
    "type": "object",
    "required": ["type", "audio_url"],
    "properties": {
        "type": {"const": "audio_url"},
        "audio_url": {"type": "object", "required": ["url"], "properties": {"url": {"type": "string"}}},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "model": {"type": "string"},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "properties": {
                    "role": {"enum": ["system", "user", "assistant"]},
                    "content": {
                        "oneOf": [
                            {"type": "string"},
                            {"type": "array", "items": {"oneOf": [TEXT_PART, INPUT_AUDIO, AUDIO_URL]}},
                        ]
                    },
                },
            },
        },
        "stream": {"type": "boolean"},
        "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
        "max_completion_tokens": {"type": "integer", "minimum": 1},
        "max_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "top_k": {"type": "integer", "minimum": -1},
        "seed": {"type": "integer", "minimum": 0},
        "logprobs": {"type": "boolean"},
    },
}
DESCRIBED = {
    "summary": "Transcribe or translate the recording of a chat",
    "requestBody": {"required": True, "content": {"application/json": {"schema": SCHEMA}}},
}


@router.post("/v1/chat/completions", openapi_extra=DESCRIBED)
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
