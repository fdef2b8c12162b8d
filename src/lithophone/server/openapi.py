"""The OpenAPI document: fields that routes take, bodies and statuses that they answer with."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from typing import Any, Union, get_args, get_origin

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from lithophone.formats import CueOptions
from lithophone.pipeline.options import DECODERS, TIMESTAMPS, TranscribeOptions
from lithophone.server.options import COMMON, CUE_TYPES, IGNORED, OPTION_TYPES

Schema = dict[str, Any]

# --- schemas


def text(description: str = "", **given: Any) -> Schema:
    return {"type": "string", **_described(description), **given}


def flag(description: str = "") -> Schema:
    return {"type": "boolean", **_described(description)}


def number(description: str = "", **given: Any) -> Schema:
    return {"type": "number", **_described(description), **given}


def whole(description: str = "", **given: Any) -> Schema:
    return {"type": "integer", **_described(description), **given}


def several(items: Schema, description: str = "", **given: Any) -> Schema:
    return {"type": "array", "items": items, **_described(description), **given}


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, **given: Any) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}, **given}


def nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _described(description: str) -> Schema:
    return {"description": description} if description else {}


# --- fields of requests

RECORDING = text("A recording, of any format.", format="binary")
FIELDS = {
    "model": text("A served model, or one of OpenAI's names for the default."),
    "language": text("Language spoken: en, fr, de, es, pt, ja; region tags count; auto: detected from the speech."),
    "languages": several(text(), "Languages that may be spoken; only one of them is of use here."),
    "prompt": text("Terms to expect, with commas between them; of other texts the names are taken."),
    "initial_prompt": text("As prompt."),
    "hotwords": several(text(), "As keywords."),
    "to_language": text("As task translate with to."),
    "temperature": number("Above 0: a sampled transcript.", minimum=0, maximum=2),
    "use_beam_search": flag("As decode beam."),
}
"""COMMON by name."""
assert tuple(FIELDS) == COMMON, "every field is described"

_ALLOWED: dict[str, tuple[str, ...]] = {
    "task": ("transcribe", "translate", "speakers", "word-times"),
    "decode": tuple(DECODERS),
    "ctc_head": ("bpe", "characters"),
    "timestamps": TIMESTAMPS,
}
WITHOUT_EFFECT = "Accepted, without effect."


def option_fields() -> dict[str, Schema]:
    """Fields of TranscribeOptions, with their help texts."""
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(TranscribeOptions)}
    return {name: FIELDS.get(name, _option(name, text, OPTION_TYPES[name])) for name, text in helps.items()}


def cue_fields() -> dict[str, Schema]:
    """Fields of CueOptions, of routes that answer with subtitles."""
    return {f.name: _option(f.name, f.metadata["help"], CUE_TYPES[f.name]) for f in dataclasses.fields(CueOptions)}


def _option(name: str, description: str, kind: Any) -> Schema:
    if get_origin(kind) is tuple:
        return several(text(), description)
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    makers: dict[Any, Any] = {bool: flag, int: whole, float: number, str: text}
    made: Schema = makers[next(one for one in kinds if one is not type(None))](description)
    return {**made, **({"enum": list(_ALLOWED[name])} if name in _ALLOWED else {})}


def fields_with(own: Mapping[str, Schema], ignored: Iterable[str] = ()) -> dict[str, Schema]:
    """A route's own fields, those of all routes, and those without effect."""
    return {**{name: text(WITHOUT_EFFECT) for name in sorted({*IGNORED, *ignored})}, **option_fields(), **FIELDS, **own}


def form(file: str, fields: Mapping[str, Schema]) -> Schema:
    """A multipart form with one recording; lists are `name[]`, as OpenAI's clients send them."""
    named = {f"{name}[]" if schema.get("type") == "array" else name: schema for name, schema in fields.items()}
    return {"multipart/form-data": record({file: RECORDING}, named, additionalProperties=False)}


def body(schemas: Mapping[str, Schema]) -> Schema:
    """A request's body, by media type."""
    return {"required": True, "content": _content(schemas)}


def query(fields: Mapping[str, Schema]) -> list[Schema]:
    """Query parameters."""
    return [
        {"name": name, "in": "query", "schema": {key: value for key, value in schema.items() if key != "description"}}
        | _described(schema.get("description", ""))
        for name, schema in fields.items()
    ]


# --- answers

EVENT = record({"data": text("JSON; [DONE] at the end.")})
"""A server-sent event."""

SECONDS = number("Seconds.")
USAGE = record({"type": text(enum=["duration"]), "seconds": whole("Of the recording, rounded up.")})
WARNING = record({"code": text(), "message": text(), "start": SECONDS, "end": SECONDS})
FINDINGS = {"warnings": several(ref("Warning")), "guardian": ref("Verdict")}
"""Fields beside those of OpenAI."""
PROBABILITY = number(minimum=0, maximum=1)
PROBABILITIES: Schema = {"type": "object", "additionalProperties": PROBABILITY}
"""By code of a language."""
WORD = record(
    {"word": text(), "start": SECONDS, "end": SECONDS}, {"probability": number(minimum=0, maximum=1), "speaker": text()}
)
SEGMENT = record(
    {
        "id": whole(), "seek": whole(), "start": SECONDS, "end": SECONDS, "text": text(), "tokens": several(whole()),
        "temperature": number(), "avg_logprob": number(), "compression_ratio": number(), "no_speech_prob": number(),
    },
    {"speaker": text()},
)  # fmt: skip
SPEAKER_SEGMENT = record(
    {
        "type": text(enum=["transcript.text.segment"]), "id": text(), "start": SECONDS, "end": SECONDS,
        "speaker": text(), "text": text(),
    }
)  # fmt: skip
LOGPROB = record({"token": text(), "bytes": several(whole()), "logprob": number(maximum=0)})
MODEL = record({"id": text(), "object": text(enum=["model"]), "created": whole(), "owned_by": text()})
TOKENS = record(
    {
        "prompt_tokens": whole(), "completion_tokens": whole(), "total_tokens": whole(),
        "prompt_tokens_details": record({"audio_tokens": whole(), "cached_tokens": whole()}),
    }
)  # fmt: skip
MESSAGE = record({"role": text(enum=["assistant"]), "content": text(), "refusal": {"type": "null"}})
CHOICE = record(
    {
        "index": whole(), "message": MESSAGE, "finish_reason": text(enum=["stop", "length"]),
        "logprobs": {"type": ["object", "null"]},
    }
)  # fmt: skip
COMPONENTS: dict[str, Schema] = {
    "Error": record(
        {
            "error": record(
                {
                    "message": text(), "type": text(), "param": nullable(text("The field that is wrong.")),
                    "code": nullable(text("Stable name of the error.")),
                }
            )
        }
    ),
    "Transcription": record(
        {"text": text(), "usage": ref("Usage")},
        {
            "languages": several(record({"code": text()})), "language_probability": PROBABILITY,
            "logprobs": several(ref("Logprob")), **FINDINGS,
        },
    ),
    "TranscriptionVerbose": record(
        {"task": text(), "language": text(), "duration": SECONDS, "text": text(), "usage": ref("Usage")},
        {
            "segments": several(ref("Segment")), "words": several(ref("Word")), "detected_language": text(),
            "detected_language_probability": PROBABILITY, "language_probabilities": PROBABILITIES, **FINDINGS,
        },
    ),
    "TranscriptionDiarized": record(
        {
            "task": text(), "duration": SECONDS, "text": text(), "segments": several(ref("SpeakerSegment")),
            "usage": ref("Usage"),
        },
        FINDINGS,
    ),
    "ChatCompletion": record(
        {
            "id": text(), "object": text(enum=["chat.completion"]), "created": whole(), "model": text(),
            "choices": several(CHOICE, minItems=1, maxItems=1), "usage": ref("Tokens"),
        },
        FINDINGS,
    ),
    "DetectedLanguage": record(
        {
            "detected_language": text("Its name, or unknown."), "language_code": nullable(text()),
            "confidence": nullable(PROBABILITY), "language_probabilities": PROBABILITIES,
        }
    ),
    "Model": MODEL,
    "Models": record({"object": text(enum=["list"]), "data": several(ref("Model"))}),
    "Segment": SEGMENT,
    "SpeakerSegment": SPEAKER_SEGMENT,
    "Word": WORD,
    "Usage": USAGE,
    "Tokens": TOKENS,
    "Logprob": LOGPROB,
    "Warning": WARNING,
    "Verdict": record(
        {"risk": text(), "flagged": {"type": ["boolean", "null"]}, "prompt": nullable(text()),
         "transcript": nullable(text())}
    ),
}  # fmt: skip

ERRORS = {
    400: "A field or the recording is wrong, or is refused.",
    401: "No API key, or one that is not accepted.",
    404: "The model is not served here.",
    408: "The body did not come in time.",
    413: "The body or the recording is beyond the limits.",
    415: "Neither a form nor JSON.",
    429: "Too many requests wait.",
    500: "A fault of the server or the model.",
    503: "The server shuts down, or the Guardian gives no verdict.",
    504: "The recording takes too long.",
}
ON_RECORDINGS = (400, 401, 404, 408, 413, 415, 429, 500, 503, 504)
"""Errors of routes that transcribe."""

REQUEST_ID = {"x-request-id": {"schema": text(), "description": "Finds the request in the log."}}
RETRY = {"x-should-retry": {"schema": text(enum=["true", "false"]), "description": "Whether that can succeed later."}}
AFTER = {"retry-after": {"schema": text(pattern="^[1-9][0-9]*$"), "description": "Seconds."}}


def operation(
    summary: str, replies: Mapping[str, Schema], errors: Iterable[int], *, id: str, **given: Any
) -> dict[str, Any]:
    """Arguments of a route's decorator: replies by media type, statuses of errors, and more of the operation."""
    answers: dict[str, Any] = {"200": answer("The reply.", replies)}
    for status in errors:
        answers[str(status)] = answer(ERRORS[status], as_json(ref("Error")), RETRY)
        if status in (429, 503):
            answers[str(status)]["headers"] |= AFTER
    return {"summary": summary, "operation_id": id, "openapi_extra": {"responses": answers, **given}}


def answer(description: str, replies: Mapping[str, Schema], headers: Mapping[str, Any] | None = None) -> Schema:
    return {
        "description": description, "headers": {**REQUEST_ID, **(headers or {})}, "content": _content(replies),
    }  # fmt: skip


def as_json(schema: Schema) -> dict[str, Schema]:
    return {"application/json": schema}


def _content(schemas: Mapping[str, Schema]) -> Schema:
    return {kind: {"schema": schema} for kind, schema in schemas.items()}


def document(app: FastAPI, *, open_paths: Iterable[str]) -> dict[str, Any]:
    """The document of the application's routes; all but `open_paths` may need an API key."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        made["components"] = {
            "schemas": COMPONENTS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "Where there are keys."}},
        }
        for path, operations in made["paths"].items():
            for described in operations.values():
                described["responses"].pop("422", None)  # FastAPI's; here it is 400
                if path not in open_paths:
                    described["security"] = [{"key": []}, {}]
        app.openapi_schema = made
    return app.openapi_schema
