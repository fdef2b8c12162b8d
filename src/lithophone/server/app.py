"""The application: routes, errors, keys, measures, and what lives as long as the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import lithophone
from lithophone.server import asr_webservice, chat, client_secrets, openapi, pages, realtime, reference, transcriptions
from lithophone.server.auth import OPEN_PATHS, Keys
from lithophone.server.errors import ApiError, add_error_handlers
from lithophone.server.fetch import Fetcher
from lithophone.server.jobs import Jobs
from lithophone.server.metrics import CONTENT_TYPE, Metrics
from lithophone.server.models import Models
from lithophone.server.settings import Settings
from lithophone.server.uploads import Uploads
from lithophone.server.wyoming import WyomingServer

STATUS = openapi.record({"status": openapi.text()}, {"version": openapi.text()})
HEALTH = openapi.operation("The process answers", openapi.as_json(STATUS), (), id="health")
READY = openapi.operation("Whether requests are accepted", openapi.as_json(STATUS), (), id="ready")
READY["openapi_extra"]["responses"]["503"] = openapi.answer("Not yet, or no more.", openapi.as_json(STATUS))
MODELS = openapi.operation("Served models", openapi.as_json(openapi.ref("Models")), (401,), id="models")
MODEL = openapi.operation("A served model", openapi.as_json(openapi.ref("Model")), (401, 404), id="model")
METRICS = openapi.operation(
    "Measures in the text format of Prometheus", {"text/plain": openapi.text()}, (401,), id="metrics"
)

logger = logging.getLogger(__name__)


def create_app(settings: Settings, models: Models | None = None, keys: Keys | None = None) -> FastAPI:
    """The ASGI application; `keys` are those of the settings unless given. Raises OptionError for unreadable keys."""
    metrics, keys = Metrics(), keys or Keys.of(settings)
    jobs = Jobs(settings, models or Models(settings), metrics)
    app = FastAPI(
        title="lithophone", version=lithophone.__version__, lifespan=lambda app: _life(app, jobs),
        docs_url=None, redoc_url=None,
        description="Speech recognition and translation with the Granite Speech models, by OpenAI's contract.",
    )  # fmt: skip
    app.openapi = lambda: openapi.document(app, open_paths=OPEN_PATHS)  # type: ignore[method-assign]
    app.state.jobs, app.state.keys = jobs, keys
    app.state.fetcher = Fetcher(settings)
    app.include_router(transcriptions.router, tags=["audio"])
    app.include_router(chat.router, tags=["chat"])
    app.include_router(asr_webservice.router, tags=["whisper"])
    app.include_router(client_secrets.router, tags=["realtime"])
    app.include_router(pages.router)
    app.include_router(reference.router)
    app.include_router(realtime.router)
    _add_service_routes(app, jobs)
    app.add_middleware(Uploads, jobs=jobs)
    app.add_middleware(Guard, keys=keys, metrics=metrics)
    if settings.cors_origin:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors_origin, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["x-request-id"],
        )  # fmt: skip
    add_error_handlers(app)
    return app


@contextlib.asynccontextmanager
async def _life(app: FastAPI, jobs: Jobs) -> AsyncIterator[None]:
    """Start the decoder process and the default model; at the end, finish what was accepted."""
    app.state.ready = False

    def begin() -> None:
        jobs.media.start()
        if not jobs.settings.lazy:
            with jobs.models.using(jobs.models.names[0]):
                pass

    await asyncio.to_thread(begin)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(jobs.close)
        stack.push_async_callback(jobs.drain)
        if jobs.settings.wyoming_port is not None:
            app.state.wyoming = await stack.enter_async_context(WyomingServer(jobs))
        app.state.ready = True
        try:
            yield
        finally:
            app.state.ready = False


def _add_service_routes(app: FastAPI, jobs: Jobs) -> None:
    def described(name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": jobs.models.created, "owned_by": "lithophone"}

    @app.get("/v1/models", tags=["models"], **MODELS)
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [described(name) for name in jobs.models.names]})

    @app.get("/v1/models/{name:path}", tags=["models"], **MODEL)
    async def model(name: str) -> JSONResponse:
        return JSONResponse(described(jobs.models.name_of(name)))

    @app.get("/health", tags=["service"], **HEALTH)
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok", "version": lithophone.__version__})

    @app.get("/ready", tags=["service"], **READY)
    async def ready() -> JSONResponse:
        accepts = app.state.ready and not jobs.closed
        return JSONResponse({"status": "ready" if accepts else "not ready"}, 200 if accepts else 503)

    for path, route in (("/health", health), ("/ready", ready)):  # load balancers ask so
        app.add_api_route(path, route, methods=["HEAD"], include_in_schema=False)

    @app.get("/metrics", tags=["service"], response_class=Response, **METRICS)
    async def metrics(request: Request) -> Response:
        return Response(jobs.measured(), media_type=CONTENT_TYPE)


class Guard:
    """ASGI middleware: API keys, and the measures of every answer."""

    def __init__(self, app: ASGIApp, keys: Keys, metrics: Metrics) -> None:
        self.app, self.keys, self.metrics = app, keys, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self.keys.check_request(scope)
            await self.app(scope, receive, counted)
        except ApiError as error:
            await error.response()(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # unknown paths would be labels without end
            self.metrics.requests.labels(route, status).inc()
            self.metrics.latency.labels(route).observe(time.perf_counter() - began)
