"""Results as JSON, with commit and machine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import torch


def save_results(path: Path, results: dict[str, Any], device: str = "cpu") -> None:
    """Write `results` after `commit`, which ends in `+` for a modified tree, and `machine`."""
    commit = _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "--", "src", "bench") else "")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"commit": commit, "machine": machine(device), **results}, indent=1) + "\n")


def machine(device: str) -> dict[str, Any]:
    """Device, CPU model, cores, threads, torch version."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
    return {
        "device": name, "cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }  # fmt: skip


def _cpu() -> str:
    """CPU name on Linux, and the instruction set torch uses."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()
