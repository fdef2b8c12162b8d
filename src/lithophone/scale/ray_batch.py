"""A batch on Ray Data: chunks of recordings are rows, and actors with a loaded model map them to outcomes.

An actor that ends is started again; the chunk it had is attempted again by `batch/run.py`, recording by recording.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray
import ray.data
import ray.exceptions

from lithophone.batch.job import Job
from lithophone.batch.recording import Recording, decoded, encoded
from lithophone.batch.worker import Outcome, Worker
from lithophone.scale.compute import Compute
from lithophone.scale.connection import ClusterError, connect, gpus_of_a_process

NAMESPACE = "lithophone-batch"

DRIVER_CPUS = 1
"""Of a cluster that we start: for tasks of Ray Data that read rows."""


class TranscribingActor:
    """A process with a model."""

    def __init__(self, job: Job, compute: Compute) -> None:
        from lithophone.memory import keep_freed_memory

        keep_freed_memory()
        self._worker = Worker(job, compute.load(job.model))

    def __call__(self, row: dict[str, Any]) -> list[dict[str, str]]:
        """The outcomes of a chunk."""
        return [{"outcome": outcome.to_json()} for outcome in self._worker.outcomes([decoded(row["chunk"])])]


class RayWorkers:
    """`n` actors on a cluster; `workers` None: one for every GPU, or without any one for every machine."""

    def __init__(self, job: Job, compute: Compute, workers: int | None) -> None:
        self._cpus = min(compute.cpus, _most_cpus())  # an actor that fits on no machine would never start
        self._gpus = gpus_of_a_process(compute.device)
        self._job, self._compute = job, replace(compute, share=self._cpus)
        self.n = workers or _places(self._gpus)

    def outcomes(self, chunks: Sequence[Sequence[Recording]]) -> Iterator[Outcome]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # a chunk whose actor ended has no outcomes
        try:
            for row in self._mapped([{"chunk": encoded(list(chunk))} for chunk in chunks]).iter_rows():
                yield Outcome.from_json(row["outcome"])
        except ray.exceptions.RayError as error:
            raise ClusterError(f"Ray failed, run the command again for what is missing ({error})") from error

    def _mapped(self, rows: list[dict[str, str]]) -> Any:
        """The outcomes of rows, each of which is a block and a task."""
        pool = ray.data.ActorPoolStrategy(size=min(self.n, len(rows)), max_tasks_in_flight_per_actor=1)
        given = ray.data.from_items(rows, override_num_blocks=len(rows))
        with warnings.catch_warnings():
            # By default a chunk that ends its actor is given to others for ever; there is no newer name for this.
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            return given.flat_map(
                TranscribingActor, fn_constructor_args=(self._job, self._compute), compute=pool,
                num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=-1, max_task_retries=0,
            )  # fmt: skip


def _most_cpus() -> int:
    """Of a machine of the cluster."""
    return max(1, *(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]))


def _places(gpus: int) -> int:
    if gpus:
        return int(ray.cluster_resources()["GPU"])
    return sum(bool(node["Alive"]) for node in ray.nodes())


@contextlib.contextmanager
def on_ray(job: Job, compute: Compute, workers: int | None, address: str | None) -> Iterator[RayWorkers]:
    """Workers on the cluster at `address`, or on this machine."""
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)  # the command has its own lines
    connect(address, NAMESPACE, compute.cpus * (workers or 1) + DRIVER_CPUS)
    try:
        yield RayWorkers(job, compute, workers)
    finally:
        ray.shutdown()
