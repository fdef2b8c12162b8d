"""Process settings: kept memory, and the precision of training by the processor."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lithophone.runtime import training_dtype

PROGRAM = """
import sys
import threading
from lithophone.memory import keep_freed_memory

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

before = resident_mib()
kept = sys.argv[1] == "keep" and keep_freed_memory()
if sys.argv[2] == "threads":
    together = threading.Barrier(8)
    one_by_one = threading.Lock()

    def work():
        together.wait()
        with one_by_one:
            blocks = [bytearray(b"x") * (1 << 20) for _ in range(32)]
            del blocks
        together.wait()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
else:
    blocks = [bytearray(b"x") * (64 << 20) for _ in range(2)]
    del blocks
print(int(kept), resident_mib() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
@pytest.mark.parametrize("asked", ["keep", "leave"])
def test_what_is_freed_is_kept_when_asked_for(asked: str) -> None:
    kept, grown_mib = measured(asked, "blocks")
    assert kept == (grown_mib > 100)
    assert asked == "keep" or not kept


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_threads_share_what_is_kept() -> None:
    kept, grown_mib = measured("keep", "threads")
    assert kept == (30 < grown_mib < 100)


def measured(asked: str, what: str) -> tuple[bool, float]:
    """Whether memory is kept, and MiB that the process has grown by."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, asked, what], capture_output=True, text=True, check=True)
    kept, grown_mib = done.stdout.split()
    return bool(int(kept)), float(grown_mib)


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
