"""The server on Ray: a deployment of Ray Serve for the replicas, and an actor for the front.

Ray Serve places replicas, checks their health, starts others for those that end, and picks one for each call. Its own
HTTP proxy is not used: it answers 500 where a replica ends, and reads bodies ahead of the application without a bound.
"""

from __future__ import annotations

import dataclasses
import signal
import threading
from pathlib import Path
from typing import Any

import ray
from ray import exceptions, serve
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lithophone.errors import LithophoneError
from lithophone.hub import resolve
from lithophone.scale.compute import Compute, settings_of_replica
from lithophone.scale.connection import connect, gpus_of_a_process
from lithophone.scale.front import bound_socket
from lithophone.scale.ray_actors import NAME, FrontActor, ServedReplica
from lithophone.server.auth import Keys
from lithophone.server.settings import Settings

CALLS_BESIDE = 64
"""Calls of a replica besides recordings and live sessions, such as those of the page."""

WAITING_CALLS = 100_000
"""Calls of replicas that wait at the front for a message: one for each request under way."""


class ReplicaError(LithophoneError):
    """Replicas that cannot be started."""


def serve_replicas(settings: Settings, compute: Compute) -> None:
    """Serve until SIGTERM or SIGINT, and finish what was accepted.

    Raises OSError where the address is taken, DownloadError for the model, ReplicaError.
    """
    _check(settings)
    _connect(settings, compute)
    try:
        front = _front_actor()
        _result(front.listen.remote(settings.host, settings.port))
        serve.start(proxy_location="Disabled")
        _deploy(settings, compute)
        _wait(front, _absolute(settings))
    finally:
        _disconnect(settings)


def _check(settings: Settings) -> None:
    """Fail before Ray is started."""
    bound_socket(settings.host, settings.port).close()
    Keys.of(settings)
    if settings.ray_address is None and not settings.lazy:
        resolve(next(iter(settings.folders.values())))  # downloads it, once for all replicas


def _deploy(settings: Settings, compute: Compute) -> None:
    try:
        serve.run(_application(settings, compute), name=NAME, route_prefix=None)
    except RuntimeError as error:
        raise ReplicaError(f"the replicas cannot be started, as the lines above say ({error})") from error


def _connect(settings: Settings, compute: Compute) -> None:
    connect(settings.ray_address, NAME, compute.cpus * settings.replicas)


def _disconnect(settings: Settings) -> None:
    if settings.ray_address is None:
        serve.shutdown()
    else:
        serve.delete(NAME)
    ray.shutdown()


def _application(settings: Settings, compute: Compute) -> serve.Application:
    calls = settings.max_running + settings.max_waiting + settings.max_live + CALLS_BESIDE
    deployment: Any = serve.deployment(ServedReplica, name="Replica").options(
        num_replicas=settings.replicas,
        max_ongoing_requests=calls,
        ray_actor_options={"num_cpus": compute.cpus, "num_gpus": gpus_of_a_process(compute.device)},
        graceful_shutdown_timeout_s=settings.drain_s + 10,
        logging_config={"enable_access_log": False},
    )
    bound: serve.Application = deployment.bind(settings_of_replica(settings), compute, Keys.of(settings).unchecked())
    return bound


def _front_actor() -> Any:
    """On this machine; started again if it ends."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(FrontActor)
    return actor.options(
        num_cpus=0, max_concurrency=WAITING_CALLS, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
    ).remote()


def _absolute(settings: Settings) -> Settings:
    """The front has another working folder on a cluster that runs already."""
    if settings.api_key_file is None:
        return settings
    return dataclasses.replace(settings, api_key_file=str(Path(settings.api_key_file).absolute()))


def _wait(front: Any, settings: Settings) -> None:
    """Until a signal; then let the front finish. Raises what ends the front."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    running = front.run.remote(settings)
    while not asked.wait(0.5):
        if ray.wait([running], timeout=0)[0]:
            break
    else:
        ray.get(front.drain.remote())
    _result(running)


def _result(reference: Any) -> Any:
    """Of a call; errors as they were raised."""
    try:
        return ray.get(reference)
    except exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, Exception) else error from None
