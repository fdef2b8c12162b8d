"""A cluster of Ray: one that runs, or one of this machine alone."""

from __future__ import annotations

import os

import ray

from lithophone.errors import LithophoneError

STORE_BYTES = 200_000_000
"""Shared memory of a cluster that we start: pieces of bodies on their way."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to others
    "RAY_worker_niceness": "0",  # by default workers yield to every other process
}
"""Settings of Ray, unless the user has set them."""


class ClusterError(LithophoneError):
    """Clusters that cannot be started or reached, or fail."""


def connect(address: str | None, namespace: str, cpus: int) -> None:
    """Connect to the cluster at `address`; None starts one with `cpus` on this machine. Raises ClusterError."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        if address is not None:
            ray.init(address=address, namespace=namespace)
        else:
            ray.init(
                address="local", namespace=namespace, include_dashboard=False, object_store_memory=STORE_BYTES,
                num_cpus=cpus,
                _node_ip_address="127.0.0.1",  # the cluster has no other machines
            )  # fmt: skip
    except Exception as error:  # Ray raises many kinds
        what = "Ray cannot be started here" if address is None else f"the Ray cluster at {address} cannot be reached"
        raise ClusterError(f"{what} ({type(error).__name__}: {error}); `ray status` shows clusters that run") from error


def gpus_of_a_process(device: str | None) -> int:
    """GPUs of a process with a model: one, where the cluster has any and none other is asked for."""
    wanted = device is None or device.startswith("cuda")
    return int(wanted and ray.cluster_resources().get("GPU", 0) > 0)
