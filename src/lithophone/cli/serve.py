"""`lithophone serve`: the HTTP server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lithophone.cli import terminal
from lithophone.cli.options import takes
from lithophone.cli.threads import limit_threads, settle_threads
from lithophone.server.settings import Settings, environment_names

if TYPE_CHECKING:
    from lithophone.pipeline.transcriber import Transcriber


@terminal.with_exit_status
@takes("settings", Settings, variables=environment_names())
def serve(
    device: terminal.Device = None,
    dtype: terminal.Dtype = None,
    threads: terminal.Threads = None,
    *,
    settings: Settings,
) -> None:
    """Serve OpenAI's audio API; options may be environment variables, such as LITHOPHONE_PORT.

    SIGTERM and Ctrl-C finish the accepted requests.
    """
    if settings.is_scaled:
        with terminal.needs("ray"):
            from lithophone.scale.cluster import serve_replicas
            from lithophone.scale.compute import Compute, share_of_cpus

        serve_replicas(settings, Compute(device, dtype, threads, share_of_cpus(settings.replicas)))
        return
    with terminal.needs("serve"):
        import uvicorn

        from lithophone.server.app import create_app
        from lithophone.server.logs import without_queries
        from lithophone.server.models import Models

    def loaded(name: str) -> Transcriber:
        from lithophone.pipeline.transcriber import load

        transcriber = load(name, device, dtype)
        settle_threads(threads, transcriber.checkpoint.network)
        return transcriber

    limit_threads(threads)
    without_queries()
    app = create_app(settings, Models(settings, loaded))
    uvicorn.run(
        app, host=settings.host, port=settings.port, timeout_graceful_shutdown=round(settings.drain_s) + 1,
        ws="websockets-sansio",
    )  # fmt: skip
