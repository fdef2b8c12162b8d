"""300 folders made of the bundled model's by changing one thing: an error of ours, or a working model, within 20 s.

Each is loaded and used by a process of its own that is watched: what it starts, writes, or reads outside the folder.
"""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lithophone.hub import DEFAULT_MODEL, bundled_models
from tests.mutations import mutated

N = 300
LIMIT_S = 20.0
WORKER = """
import json, sys, warnings
import numpy as np
import lithophone
from lithophone.errors import LithophoneError

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
sound = rng.normal(0, 0.1, 16_000).astype(np.float32)
seen, root = [], None

def watch(event, args):
    if root is None:
        return
    if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename",
                 "os.mkdir", "socket.connect", "shutil.rmtree", "os.chmod"):
        seen.append([event, repr(args)[:200]])
    if event == "open" and isinstance(args[0], str):
        writes = isinstance(args[1], str) and set(args[1]) & set("wax+")
        if writes or "/elsewhere/" in args[0] or args[0].startswith("/etc"):
            seen.append([event, repr(args)[:200]])

def use(folder):
    model = lithophone.load(folder)
    model.transcribe(sound, 16_000, punctuate=False)

use(sys.argv[1])
sys.addaudithook(watch)
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    root, outcome = line.strip(), "works"
    try:
        use(root)
    except LithophoneError as error:
        outcome = f"{type(error).__name__}: {error}"
    except BaseException as error:
        outcome = f"TRACEBACK {type(error).__name__}: {error}"
    root = None
    print(json.dumps([outcome, seen]), flush=True)
    seen = []
"""


class Worker:
    """A process that uses one folder after the other."""

    def __init__(self, source: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(source)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.answer(300.0) == "ready"

    def use(self, folder: Path) -> object:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        return self.answer(LIMIT_S)

    def answer(self, limit_s: float) -> object:
        """What it says; None where it says nothing in time, or is gone."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], limit_s)[0]:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.full
@pytest.mark.skipif(sys.platform == "win32", reason="waits for a pipe with a limit of time")
def test_no_changed_folder_gives_a_traceback_hangs_or_reaches_out(tmp_path: Path) -> None:
    source, mark = bundled_models()[DEFAULT_MODEL], tmp_path / "mark"
    copied = tmp_path / "source"
    shutil.copytree(source, copied)
    worker, wrong, works = Worker(copied), [], 0
    for seed in range(N):
        folder = tmp_path / f"{seed}" / "model"
        folder.parent.mkdir()
        change = mutated(copied, folder, seed, mark)
        answer = worker.use(folder)
        if not isinstance(answer, list):
            wrong.append(f"{change}: no answer in {LIMIT_S} s")
            worker.end()
            worker = Worker(copied)
        elif answer[0].startswith("TRACEBACK") or answer[1]:
            wrong.append(f"{change}: {answer}")
        else:
            works += answer[0] == "works"
        shutil.rmtree(folder.parent)
    worker.end()
    assert wrong == []
    assert not mark.exists()
    assert 0 < works < N / 2
