"""`lithophone batch --ray`: two processes on this machine, by Ray Data, with a tiny model."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from lithophone.batch.run import CHUNK, FAILURES
from tests.batch.outputs import outputs
from tests.conftest import DEMO
from tests.scale.processes import descendants, name_of, wait_until

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        not (importlib.util.find_spec("ray") and importlib.util.find_spec("pyarrow")),
        reason="Ray Data is not installed: pip install 'lithophone[ray]'",
    ),
]

N = 5 * CHUNK // 2


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short recordings in three chunks; one is no recording."""
    folder = tmp_path_factory.mktemp("talks")
    samples, rate_hz = soundfile.read(DEMO, dtype="float32")
    lines = []
    for i in range(N):
        soundfile.write(folder / f"{i:02d}.wav", samples[: rate_hz * (2 + i % 4)], rate_hz)
        lines.append({"audio": f"{i:02d}.wav", "id": f"{i % 3}/{i:02d}", "lang": ("en", "de")[i % 2]})
    (folder / "broken.wav").write_bytes(b"no recording")
    lines.insert(40, {"audio": "broken.wav"})
    path = folder / "talks.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


@contextlib.contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets have short paths
    environment = {
        **os.environ, "RAY_TMPDIR": str(folder), "HOME": str(folder), "OMP_NUM_THREADS": "1",
        "RAY_memory_monitor_refresh_ms": "0",
    }  # fmt: skip
    command = [sys.executable, "-m", "lithophone", "batch", *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        left = descendants(process.pid)
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def options(model: Path, out: Path) -> tuple[object, ...]:
    return (
        "-o",
        out,
        "-f",
        "json",
        "--model",
        model,
        "--decode",
        "greedy",
        "--max-new-tokens",
        6,
        "--word-timestamps",
    )


@pytest.fixture(scope="module")
def alone(spelling_folder: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of one process without Ray."""
    out = tmp_path_factory.mktemp("alone")
    with started(manifest, *options(spelling_folder, out)) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    return out


def test_outputs_are_those_without_ray(spelling_folder: Path, manifest: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(manifest, *options(spelling_folder, out), "--ray", "--workers", 2) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert len(outputs(out)) == N + 1, errors
    assert outputs(out) == outputs(alone)
    [failed] = map(json.loads, (out / FAILURES).read_text(encoding="utf-8").splitlines())
    assert (failed["id"], failed["attempts"]) == ("broken", 1)
    assert f"{N} recordings" in errors


def test_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(
    spelling_folder: Path, manifest: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def at_work(parent: int) -> list[int]:
        """Actors that have a chunk, as Ray names their processes."""
        return [pid for pid in descendants(parent) if "TranscribingActor)).submit" in name_of(pid)]

    with started(manifest, *options(spelling_folder, out), "--ray", "--workers", 2) as process:
        wait_until(lambda: len(list(out.rglob("*.json"))) >= 5 or process.poll() is not None)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        wait_until(lambda: bool(at_work(process.pid)) or process.poll() is not None)
        [victim, *_] = at_work(process.pid)
        os.kill(victim, signal.SIGKILL)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert "are tried again" in errors
    assert outputs(out).keys() == outputs(alone).keys()
    texts = {name: json.loads(data)["segments"] for name, data in outputs(out).items() if name.endswith(".json")}
    for name, segments in texts.items():
        expected = json.loads(outputs(alone)[name])["segments"]
        assert [one["text"] for one in segments] == [one["text"] for one in expected]
    reported = [line for line in errors.splitlines() if f" of {N + 1}: " in line]
    assert len(reported) == len({line.partition(": ")[2] for line in reported}) == N


@pytest.mark.parametrize(
    ("address", "message"), [("10.0.0.1:6379", "the Ray cluster at 10.0.0.1:6379 cannot be reached"), (None, "started")]
)
def test_a_cluster_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, address: str | None, message: str
) -> None:
    from lithophone.scale import connection

    def refused(**_: object) -> None:
        raise ConnectionError("no GCS")

    monkeypatch.setattr(connection.ray, "init", refused)
    with pytest.raises(connection.ClusterError, match=rf"{message}.*\(ConnectionError: no GCS\)"):
        connection.connect(address, "test", 1)
