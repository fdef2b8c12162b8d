"""CPU threads of a command: their number, and how they wait.

OpenMP's threads spin by default while they wait, and burn a core that other work needs: the demo took 51 s in place of
8 s on two busy cores. On an idle machine threads that spin for the length of the small operations between two products
are a fifth faster than threads that sleep at once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lithophone.runtime import usable_cpus

if TYPE_CHECKING:
    from torch.nn import Module

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Environment variables that set how threads wait."""


MODEL_COMMANDS = ("transcribe", "evaluate", "detect-language", "listen")
"""Commands whose process alone computes; others share the cores with processes or requests of their own."""
SPINS = 4000
"""Rounds, of about 50 us together, that threads of libgomp wait before they sleep, where other cores are idle."""
LOAD = Path("/proc/loadavg")
LOOKS, LOOK_S = 5, 0.001
"""Other programs of a command line start or end with it, and run for some milliseconds."""


def settle_waiting(command: str = "") -> None:
    """Make OpenMP's threads sleep while they wait, unless the user has set it; call before torch is imported.

    Those of `MODEL_COMMANDS` spin for `SPINS` rounds first, where Linux says that the machine is idle.
    """
    if any(name in os.environ for name in WAITING):
        return
    if command in MODEL_COMMANDS and _is_idle():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    else:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _is_idle() -> bool:
    """Whether fewer than a quarter of the cores have work, this process aside; False where Linux does not tell."""
    try:
        return 4 * min(_others_running(i) for i in range(LOOKS)) < usable_cpus()
    except (OSError, ValueError, IndexError):
        return False


def _others_running(look: int) -> int:
    """Threads of other processes that run or wait for a core, now."""
    time.sleep(LOOK_S if look else 0.0)
    return int(LOAD.read_text(encoding="ascii").split()[3].partition("/")[0]) - 1


def limit_threads(asked: int | None) -> None:
    if asked is not None:
        import torch

        torch.set_num_threads(asked)


def settle_threads(asked: int | None, network: Module) -> None:
    """One thread for a small model, unless --threads or OMP_NUM_THREADS is given."""
    if asked is not None or "OMP_NUM_THREADS" in os.environ:
        return
    import torch

    from lithophone.checkpoint import is_small

    if is_small(network):
        torch.set_num_threads(1)
