"""A cluster of Ray: one that runs, or one of this machine alone."""

from __future__ import annotations

import os

import ray

STORE_BYTES = 200_000_000
"""Shared memory of a cluster that we start: pieces of bodies on their way."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to others
    "RAY_worker_niceness": "0",  # by default workers yield to every other process
}
"""Settings of Ray, unless the user has set them."""


def connect(address: str | None, namespace: str, cpus: int) -> None:
    """Connect to the cluster at `address`; None starts one with `cpus` on this machine."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is not None:
        ray.init(address=address, namespace=namespace)
    else:
        ray.init(
            address="local", namespace=namespace, include_dashboard=False, object_store_memory=STORE_BYTES,
            num_cpus=cpus,
            _node_ip_address="127.0.0.1",  # the cluster has no other machines
        )  # fmt: skip


def gpus_of_a_process(device: str | None) -> int:
    """GPUs of a process with a model: one, where the cluster has any and none other is asked for."""
    wanted = device is None or device.startswith("cuda")
    return int(wanted and ray.cluster_resources().get("GPU", 0) > 0)
