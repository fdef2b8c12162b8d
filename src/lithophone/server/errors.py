"""Errors of the server, answered with OpenAI's body: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import logging
import uuid
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lithophone.errors import AudioError, LithophoneError, OptionError, PromptError

INVALID, SERVER = "invalid_request_error", "server_error"

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer with a status that is not 200.

    OpenAI's clients retry 408, 409, 429 and 5xx twice: `retry` says whether that can help.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = None,
        retry_after_s: float | None = None,
        retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.kind = kind or (SERVER if status >= 500 else INVALID)
        self.retry_after_s = retry_after_s
        self.retry = retry or retry_after_s is not None

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        headers = {"x-should-retry": "true" if self.retry else "false"}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after_s)))
        return headers

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers())


def api_error(error: LithophoneError, param: str | None = None) -> ApiError:
    """An error of the library as an answer: 400 for what the request asks or sends, else 500."""
    if isinstance(error, AudioError):
        return ApiError(400, str(error), code="invalid_audio", param=param or "file")
    if isinstance(error, OptionError | PromptError):
        return ApiError(400, str(error), code="unsupported_value", param=param)
    return ApiError(500, str(error), code="model_failed")


def client_gone() -> ApiError:
    """For the measures: nobody reads it."""
    return ApiError(499, "the client closed the connection", code="client_closed")


def internal_error() -> ApiError:
    """What a client is told of a fault of ours; the log has the traceback."""
    return ApiError(500, "the server failed on this request; its log says why", code="internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """OpenAI's error body for every failure, and `x-request-id` on every answer."""
    app.add_exception_handler(ApiError, lambda _, error: _answer(error))
    app.add_exception_handler(LithophoneError, lambda _, error: _answer(error))
    app.add_exception_handler(HTTPException, lambda _, error: _answer(error))
    app.add_exception_handler(RequestValidationError, lambda _, error: _answer(error))
    app.add_exception_handler(ClientDisconnect, lambda _, error: _answer(error))
    app.add_middleware(RequestIds)


def _answer(error: Exception) -> JSONResponse:
    if isinstance(error, ApiError):
        return error.response()
    if isinstance(error, LithophoneError):
        return api_error(error).response()
    if isinstance(error, ClientDisconnect):
        return client_gone().response()
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return ApiError(400, first["msg"], code="invalid_value", param=".".join(map(str, first["loc"][1:]))).response()
    assert isinstance(error, HTTPException), "handlers are registered for these kinds only"
    code = "not_found" if error.status_code == HTTPStatus.NOT_FOUND else None
    answer = ApiError(error.status_code, str(error.detail), code=code).response()
    answer.headers.update(error.headers or {})
    return answer


class RequestIds:
    """ASGI middleware: `x-request-id` on every answer that has none, and an answer where a fault of ours gave none."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number, started = uuid.uuid4().hex, False

        async def with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).setdefault("x-request-id", number)
            await send(message)

        try:
            await self.app(scope, receive, with_id)
        except Exception:
            logger.exception("request %s failed: %s %s", number, scope["method"], scope["path"])
            if not started:
                await internal_error().response()(scope, receive, with_id)
