"""CPU threads of a command: how many, and that they sleep while they wait.

OpenMP's threads spin while they wait for each other by default. Beside other work the thread that is waited for may not
be running, and the others burn its core: the demo took 51 s in place of 8 s on two busy cores.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Environment variables by which a user sets how threads wait."""

SMALL_MODEL = 100_000_000
"""Parameters below which products are too small to gain from a second thread."""


def let_threads_sleep() -> None:
    """Make OpenMP's threads sleep while they wait, unless the user has set it. Works before torch is imported only."""
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def limit_threads(asked: int | None) -> None:
    """Set the number of threads asked for, before they are started."""
    if asked is not None:
        import torch

        torch.set_num_threads(asked)


def settle_threads(asked: int | None, network: Module) -> None:
    """One thread for a small model on a CPU, where neither --threads nor OMP_NUM_THREADS says another number."""
    if asked is None and "OMP_NUM_THREADS" not in os.environ and _is_small(network):
        import torch

        torch.set_num_threads(1)


def _is_small(network: Module) -> bool:
    return sum(parameter.numel() for parameter in network.parameters()) < SMALL_MODEL
