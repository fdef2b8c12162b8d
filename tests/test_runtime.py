"""Freed memory stays with the process once it has asked for that."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
