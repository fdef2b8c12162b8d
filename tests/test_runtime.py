"""Process settings: kept memory, and the precision of training by the processor."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lithophone.runtime import training_dtype

PROGRAM = """
import sys
from lithophone.runtime import keep_freed_memory

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

before = resident_mib()
kept = sys.argv[1] == "keep" and keep_freed_memory()
blocks = [bytearray(b"x") * (64 << 20) for _ in range(2)]
del blocks
print(int(kept), resident_mib() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
@pytest.mark.parametrize("asked", ["keep", "leave"])
def test_what_is_freed_is_kept_when_asked_for(asked: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, asked], capture_output=True, text=True, check=True)
    kept, grown_mib = done.stdout.split()
    assert bool(int(kept)) == (float(grown_mib) > 100)
    assert asked == "keep" or kept == "0"


@pytest.mark.parametrize(
    ("capability", "device", "expected"),
    [
        ("AVX2", "cpu", torch.float32),
        ("DEFAULT", "cpu", torch.float32),
        ("AVX512", "cpu", torch.bfloat16),
        ("AVX2", "meta", torch.bfloat16),
    ],
)
def test_training_computes_in_bfloat16_where_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, capability: str, device: str, expected: torch.dtype
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    assert training_dtype(None, torch.device(device)) is expected
    assert training_dtype("float32", torch.device(device)) is torch.float32
    assert training_dtype("bfloat16", torch.device(device)) is torch.bfloat16
