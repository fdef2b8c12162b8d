"""Two replicas on this machine, by Ray Serve, with the bundled model."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
import pytest
import soundfile
from websockets.sync.client import connect

import lithophone
from lithophone.server.settings import Settings
from tests.conftest import ROOT
from tests.scale.processes import PATIENCE_S, descendants, name_of, wait_until
from tests.server.running import running

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'lithophone[ray]'"
    ),
]

PATH = "/v1/audio/transcriptions"
DEMO = ROOT / "src" / "lithophone" / "assets" / "demo"
SHORT = ("demo", "de", "fr", "es")
KEY = "sk-of-the-test-5da1"
HEADERS = {"authorization": f"Bearer {KEY}"}
KEYWORD = "Zanzibarensis"


def long_recording() -> bytes:
    """A clip and 5 minutes of silence, as WAV."""
    samples, rate_hz = soundfile.read(DEMO / "demo.flac", dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([samples, np.zeros(300 * rate_hz, "int16")]), rate_hz, format="WAV")
    return file.getvalue()


CLIPS = {**{name: (DEMO / f"{name}.flac").read_bytes() for name in SHORT}, "long": long_recording()}


def post(url: str, name: str, **fields: str) -> httpx2.Response:
    language = {"language": name} if len(name) == 2 else {}
    fields = {"decode": "greedy", "keywords": KEYWORD, **language, **fields}
    return httpx2.post(
        f"{url}{PATH}", data=fields, files={"file": CLIPS[name]}, headers=HEADERS, timeout=PATIENCE_S
    )  # fmt: skip


@dataclass(frozen=True)
class Scaled:
    """A server in processes of its own."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    def post(self, name: str = "demo", **fields: str) -> httpx2.Response:
        return post(self.url, name, **fields)

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", headers=HEADERS, timeout=30)

    def measure(self, name: str) -> list[float]:
        """Of all replicas."""
        lines = self.get("/metrics").text.splitlines()
        return [float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))]

    def replicas(self) -> list[int]:
        return self.actors("ServeReplica")

    def actors(self, kind: str) -> list[int]:
        """Processes of Ray, those of this server alone."""
        return [pid for pid in descendants(self.process.pid) if name_of(pid).startswith(f"ray::{kind}")]


@contextlib.contextmanager
def scaled(*options: str) -> Iterator[Scaled]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets have short paths
    environment = {
        **os.environ, "RAY_TMPDIR": str(folder), "HOME": str(folder), "LITHOPHONE_API_KEY": KEY, "OMP_NUM_THREADS": "1",
        "RAY_memory_monitor_refresh_ms": "0",
    }  # fmt: skip
    command = [sys.executable, "-m", "lithophone", "serve", "--replicas", "2", "--port", str(port), *options]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        server = Scaled(f"http://127.0.0.1:{port}", process, folder)
        wait_until(lambda: process.poll() is not None or is_ready(server))
        assert process.poll() is None, (folder / "output").read_text(encoding="utf-8")
        yield server
    finally:
        process.terminate()
        started = descendants(process.pid)
        assert process.wait(timeout=PATIENCE_S) == 0
        wait_until(lambda: not any(name_of(pid) for pid in started))  # nothing is left behind
        shutil.rmtree(folder, ignore_errors=True)


def is_ready(server: Scaled) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return server.get("/ready").status_code == 200
    return False


@pytest.fixture(scope="module")
def server() -> Iterator[Scaled]:
    with scaled() as one:
        yield one


@pytest.fixture(scope="module")
def words() -> dict[str, str]:
    """Of every clip, by one process."""
    with running(Settings(), lithophone.load) as alone:
        replies = {name: post(alone.url, name) for name in CLIPS}
    return {name: reply.json()["text"] for name, reply in replies.items()}


def sent(threads: ThreadPoolExecutor, server: Scaled, count: int) -> list[tuple[str, Future[httpx2.Response]]]:
    names = [SHORT[n % len(SHORT)] for n in range(count)]
    return [(name, threads.submit(server.post, name)) for name in names]


def check(replies: list[tuple[str, Future[httpx2.Response]]], words: dict[str, str]) -> None:
    answers = [(name, one.result()) for name, one in replies]
    assert [one.status_code for _, one in answers] == [200] * len(answers)
    assert [(name, one.json()["text"]) for name, one in answers] == [(name, words[name]) for name, _ in answers]


# --- requests


def test_words_are_those_of_one_process_and_both_replicas_work(server: Scaled, words: dict[str, str]) -> None:
    with ThreadPoolExecutor(8) as threads:
        check(sent(threads, server, 8), words)
    assert len([count for count in server.measure("lithophone_audio_seconds_total") if count > 0]) == 2


def test_streams_come_as_events(server: Scaled, words: dict[str, str]) -> None:
    reply = server.post("demo", stream="true")
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert (json.loads(lines[-2])["text"], lines[-1]) == (words["demo"], "[DONE]")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "unknown"}, 404, "model_not_found"),
        ({"response_format": "docx"}, 400, "unsupported_value"),
        ({"lanugage": "de"}, 400, "unknown_parameter"),
    ],
)
def test_bad_requests_have_the_body_of_openai(server: Scaled, fields: dict[str, str], status: int, code: str) -> None:
    reply = server.post(**fields)
    error = reply.json()["error"]
    assert (reply.status_code, set(error)) == (status, {"message", "type", "param", "code"})
    assert error["code"] == code


def test_a_key_is_needed(server: Scaled) -> None:
    reply = httpx2.post(f"{server.url}{PATH}", files={"file": CLIPS["demo"]}, timeout=30)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "missing_api_key")


def test_a_recording_of_many_pieces_is_transcribed(server: Scaled, words: dict[str, str]) -> None:
    reply = server.post("long")
    assert len(CLIPS["long"]) > 9e6
    assert (reply.status_code, reply.json()["text"]) == (200, words["long"])


def test_a_client_that_goes_away_costs_nothing_more(server: Scaled) -> None:
    before = sum(server.measure("lithophone_cancelled_total"))
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(
            f"{server.url}{PATH}", data={"num_beams": "8", "decode": "beam"}, files={"file": CLIPS["demo"]},
            headers=HEADERS, timeout=0.7,
        )  # fmt: skip
    wait_until(lambda: sum(server.measure("lithophone_cancelled_total")) > before)
    wait_until(lambda: sum(server.measure("lithophone_running")) == 0)


def test_a_live_session_is_served(server: Scaled) -> None:
    samples, _ = soundfile.read(io.BytesIO(CLIPS["demo"]), dtype="int16")
    address = f"{server.url.replace('http', 'ws')}/v1/realtime?model=whisper-1"
    config = {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16_000}}}}
    with connect(address, additional_headers=HEADERS) as socket:
        socket.send(json.dumps({"type": "session.update", "session": config}))
        for start in range(0, len(samples), 1600):
            piece = base64.b64encode(samples[start : start + 1600].tobytes()).decode()
            socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": piece}))
        socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        events = []
        while not (events and events[-1]["type"].endswith("transcription.completed")):
            events.append(json.loads(socket.recv(timeout=60)))
    assert events[-1]["transcript"].split()
    assert [event for event in events if event["type"] == "error"] == []


# --- replicas that end


def busiest(server: Scaled) -> int:
    """Any of two replicas that both work."""
    assert all(count > 0 for count in server.measure("lithophone_running"))
    return server.replicas()[0]


def test_a_replica_that_is_killed_loses_no_accepted_request(server: Scaled, words: dict[str, str]) -> None:
    before = sum(server.measure("lithophone_resent_total"))
    with ThreadPoolExecutor(20) as threads:
        replies = sent(threads, server, 20)
        wait_until(lambda: sum(server.measure("lithophone_running")) >= 16)
        os.kill(busiest(server), signal.SIGKILL)
        check(replies, words)
    assert sum(server.measure("lithophone_resent_total")) - before >= 4
    wait_until(lambda: len(server.replicas()) == 2)


def test_requests_wait_where_all_replicas_are_killed(server: Scaled, words: dict[str, str]) -> None:
    wait_until(lambda: len(server.measure("lithophone_running")) == 2)
    with ThreadPoolExecutor(6) as threads:
        replies = sent(threads, server, 6)
        wait_until(lambda: sum(server.measure("lithophone_running")) == 6)
        for pid in server.replicas():
            os.kill(pid, signal.SIGKILL)
        check(replies, words)


def test_a_front_that_is_killed_is_started_again(server: Scaled, words: dict[str, str]) -> None:
    [before] = server.actors("FrontActor")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: before not in server.actors("FrontActor") and is_ready(server))
    assert server.post("demo").json()["text"] == words["demo"]


def test_what_cannot_be_served_is_named_before_ray_starts(tmp_path: Path) -> None:
    for options, message in (
        (["--model", "no-such-model"], "no-such-model' is neither a folder"),
        (["--api-key-file", str(tmp_path / "absent")], "cannot be read"),
    ):
        command = [sys.executable, "-m", "lithophone", "serve", "--replicas", "2", "--port", "0", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode in (1, 2)
        assert message in done.stderr
        assert "Ray" not in done.stderr


def test_nothing_of_users_is_in_logs_or_on_the_disk(server: Scaled, words: dict[str, str]) -> None:
    """Runs last: what the tests before it sent has passed by."""
    texts = [KEY, KEYWORD, *(text[:20] for text in words.values())]
    sound = [CLIPS[name][2000:2040] for name in SHORT]
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        assert [one for one in (*(text.encode() for text in texts), *sound) if one in content] == [], path


# --- a small server


def test_full_replicas_refuse_and_accepted_requests_outlive_a_replica_and_the_end(words: dict[str, str]) -> None:
    with scaled("--max-running", "1", "--max-waiting", "2") as server:
        with ThreadPoolExecutor(16) as threads:
            replies = sent(threads, server, 16)
            wait_until(lambda: sum(server.measure("lithophone_running")) == 2)
            wait_until(lambda: sum(server.measure("lithophone_refused_total")) >= 4)
            os.kill(busiest(server), signal.SIGKILL)
            answers = [(name, one.result()) for name, one in replies]
        accepted = [(name, one) for name, one in answers if one.status_code == 200]
        refused = [one for _, one in answers if one.status_code != 200]
        assert len(accepted) >= 4
        assert [one.json()["text"] for _, one in accepted] == [words[name] for name, _ in accepted]
        for one in refused:
            assert (one.status_code, one.json()["error"]["code"]) == (429, "server_busy")
            assert int(one.headers["retry-after"]) >= 1
        wait_until(lambda: len(server.measure("lithophone_running")) == 2)
        with ThreadPoolExecutor(3) as threads:
            replies = sent(threads, server, 3)
            wait_until(
                lambda: sum(server.measure("lithophone_running")) >= 1 and server.measure("lithophone_under_way") == [3]
            )
            server.process.terminate()
            check(replies, words)
