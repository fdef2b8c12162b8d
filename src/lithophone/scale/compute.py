"""What replicas compute with, and the settings they get."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lithophone.server.settings import Settings

if TYPE_CHECKING:
    from lithophone.pipeline.transcriber import Transcriber


@dataclass(frozen=True)
class Compute:
    """What a replica computes with."""

    device: str | None = None
    dtype: str | None = None
    threads: int | None = None
    """CPU threads that were asked for."""
    share: int = 1
    """CPU threads of a replica otherwise; a small model takes one."""

    @property
    def cpus(self) -> int:
        return self.threads or self.share

    def load(self, name_or_folder: str | Path) -> Transcriber:
        """A model in this process, which gets its CPU threads."""
        import torch

        from lithophone.checkpoint import is_small
        from lithophone.pipeline.transcriber import load

        torch.set_num_threads(self.cpus)
        transcriber = load(name_or_folder, self.device, self.dtype)
        if self.threads is None and is_small(transcriber.checkpoint.network):
            torch.set_num_threads(1)
        return transcriber


def settings_of_replica(settings: Settings) -> Settings:
    """Keys and origins are the front's."""
    return dataclasses.replace(
        settings, host="127.0.0.1", api_key=(), api_key_file=None, cors_origin=(), replicas=1, ray_address=None
    )


def share_of_cpus(replicas: int) -> int:
    """CPU threads of each of the replicas on this machine."""
    if "OMP_NUM_THREADS" in os.environ and os.environ["OMP_NUM_THREADS"].isdecimal():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    return max(1, (os.cpu_count() or 1) // replicas)
