"""Client secrets for live sessions of browsers, which get no API key: `POST /v1/realtime/client_secrets`, and
`/v1/realtime/transcription_sessions` of the beta API. OpenAI's contract."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from lithophone.server import openapi
from lithophone.server.errors import ApiError
from lithophone.server.forms import read_json
from lithophone.server.openapi import nullable, record, several, text, whole
from lithophone.server.session import OLD_FORMATS, OLD_NAMES, SessionConfig

router = APIRouter()

BODY_MB = 0.1
LIFETIME_S, SHORTEST_S, LONGEST_S = 600, 10, 7200

EXPIRES = nullable(
    record({}, {"anchor": text(enum=["created_at"]), "seconds": whole(minimum=SHORTEST_S, maximum=LONGEST_S)})
)
OBJECT = {"type": ["object", "null"]}
SESSION = {
    "id": text(), "object": text(enum=["realtime.transcription_session"]), "expires_at": whole("Of the secret."),
    "include": several(text()),
}  # fmt: skip
SECRET = {"value": text("The key of the client."), "expires_at": whole("Seconds since 1970.")}
CREATED = record({**SECRET, "session": record({**SESSION, "type": text(enum=["transcription"]), "audio": OBJECT})})
CREATED_OLD = record(
    {
        **SESSION, "client_secret": record(SECRET), "modalities": several(text()), "turn_detection": OBJECT,
        "input_audio_format": text(), "input_audio_transcription": OBJECT, "input_audio_noise_reduction": OBJECT,
    }
)  # fmt: skip
ERRORS = (400, 401, 404, 408, 413)


def _operation(name: str, summary: str, fields: dict[str, Any], reply: openapi.Schema) -> dict[str, Any]:
    body = {"required": False, "content": openapi.body(openapi.as_json(record({}, fields)))["content"]}
    return openapi.operation(summary, openapi.as_json(reply), ERRORS, id=name, requestBody=body)


NEW = _operation(
    "client_secret", "A secret for live sessions", {"expires_after": EXPIRES, "session": OBJECT}, CREATED
)  # fmt: skip
OLD = _operation(
    "transcription_session", "As client_secrets, by the names of the beta API",
    {
        "client_secret": nullable(record({}, {"expires_at": EXPIRES, "expires_after": EXPIRES})),
        "input_audio_format": text(enum=list(OLD_FORMATS)), **{name: OBJECT for name in OLD_NAMES},
        "include": nullable(several(text())), "modalities": nullable(several(text())),
    },
    CREATED_OLD,
)  # fmt: skip


@router.post("/v1/realtime/client_secrets", **NEW)
async def client_secrets(request: Request) -> JSONResponse:
    body = await read_json(request, BODY_MB, default={})
    _check_names(body, ("expires_after", "session"))
    config = _config(request, _given(body, "session"))
    expires_at = _expires_at(body.get("expires_after"), "expires_after")
    session = {**config.described(), "expires_at": expires_at}
    return JSONResponse({**_secret(request, config, expires_at), "session": session})


@router.post("/v1/realtime/transcription_sessions", **OLD)
async def transcription_sessions(request: Request) -> JSONResponse:
    body = await read_json(request, BODY_MB, default={})
    _check_names(body, ("client_secret", "input_audio_format", *OLD_NAMES, "include", "modalities"))
    asked = _given(body, "client_secret")
    if not isinstance(asked, dict):
        raise _wrong("client_secret", "must be an object")
    body.pop("client_secret", None)
    name = next((name for name in ("expires_at", "expires_after") if asked.get(name) is not None), "expires_at")
    expires_at = _expires_at(asked.get(name), f"client_secret.{name}")
    config = _config(request, body, old_names=True)
    document = {
        "id": config.id, "object": "realtime.transcription_session", "expires_at": expires_at,
        "modalities": ["text"], "include": list(config.include), **config.described_by_old_names(),
    }  # fmt: skip
    return JSONResponse({**document, "client_secret": _secret(request, config, expires_at)})


def _given(body: dict[str, Any], name: str) -> Any:
    """An empty object where the field is absent or null."""
    value = body.get(name)
    return {} if value is None else value


def _config(request: Request, session: Any, *, old_names: bool = False) -> SessionConfig:
    """Checked as a session is. Raises ApiError."""
    config = SessionConfig.new(None).updated(session, old_names=old_names)
    request.app.state.jobs.models.name_of(config.model)
    return config


def _secret(request: Request, config: SessionConfig, expires_at: int) -> dict[str, Any]:
    session = {"audio": {"input": config.input}, "include": list(config.include)}
    return {"value": request.app.state.keys.client_secret(session, expires_at), "expires_at": expires_at}


def _expires_at(asked: Any, param: str) -> int:
    """Seconds since 1970. Raises ApiError."""
    asked = {} if asked is None else asked
    if not isinstance(asked, dict) or asked.get("anchor", "created_at") != "created_at":
        raise _wrong(param, "must be an object with seconds, and the anchor created_at")
    seconds = asked.get("seconds", LIFETIME_S)
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not SHORTEST_S <= seconds <= LONGEST_S:
        raise _wrong(f"{param}.seconds", f"must be a whole number from {SHORTEST_S} to {LONGEST_S}")
    return int(time.time()) + seconds


def _check_names(body: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in body:
        if name not in known:
            raise ApiError(400, f"unknown field {name!r:.100}", code="unknown_parameter", param=name[:100])


def _wrong(param: str, what: str) -> ApiError:
    return ApiError(400, f"{param} {what}", code="invalid_value", param=param)
