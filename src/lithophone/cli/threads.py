"""CPU threads of a command: their number, and passive waiting.

OpenMP's threads spin by default while they wait, and burn a core that other work needs: the demo took 51 s in place of
8 s on two busy cores.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lithophone.runtime import is_small

if TYPE_CHECKING:
    from torch.nn import Module

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Environment variables that set how threads wait."""


def let_threads_sleep() -> None:
    """Make OpenMP's threads sleep while they wait, unless the user has set it; call before torch is imported."""
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def limit_threads(asked: int | None) -> None:
    if asked is not None:
        import torch

        torch.set_num_threads(asked)


def settle_threads(asked: int | None, network: Module) -> None:
    """One thread for a small model, unless --threads or OMP_NUM_THREADS is given."""
    if asked is None and "OMP_NUM_THREADS" not in os.environ and is_small(network):
        import torch

        torch.set_num_threads(1)
