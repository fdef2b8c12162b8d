"""Places, cancellation, timeouts, draining, keys, measures."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from lithophone.errors import CheckpointError, OptionError
from lithophone.pipeline.engine import Engine
from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.auth import Keys
from lithophone.server.models import Models
from lithophone.server.settings import Settings
from tests.detectors import by_loudness
from tests.server.running import PATIENCE_S, Running, running, wait_until, wav

PATH = "/v1/audio/transcriptions"
FIELDS = {"max_new_tokens": "12", "decode": "greedy", "batch_size": "1"}


class GatedEngine(Engine):
    """Steps only while the gate is open, and counts them."""

    def __init__(self, transcriber: Transcriber) -> None:
        super().__init__(transcriber.checkpoint)
        self.gate = threading.Event()
        self.steps = 0

    def step(self) -> None:
        if self.gate.wait(0.02):
            self.steps += 1
            super().step()


def gated(tiny: Transcriber) -> tuple[GatedEngine, Callable[[str], Transcriber]]:
    engine = GatedEngine(tiny)
    transcriber = Transcriber(tiny.checkpoint, detector=by_loudness(), engine=engine)
    return engine, lambda name: transcriber


def send(server: Running, pitch_hz: float = 300.0) -> httpx2.Response:
    return server.post(PATH, data=FIELDS, files={"file": wav(pitch_hz=pitch_hz)})


# --- places


def test_requests_at_once_get_their_own_transcripts(server: Running, tiny: Transcriber) -> None:
    pitches = [200.0 + 60 * n for n in range(12)]
    expected = [tiny.transcribe(wav(pitch_hz=pitch), max_new_tokens=12, decode="greedy").text for pitch in pitches]
    with ThreadPoolExecutor(12) as threads:
        replies = list(threads.map(lambda pitch: send(server, pitch), pitches))
    assert [reply.json()["text"] for reply in replies] == expected
    assert len(set(expected)) > 3


def test_more_than_can_wait_are_told_when_to_come_again(tiny: Transcriber) -> None:
    engine, load = gated(tiny)
    with running(Settings(max_running=2, max_waiting=1), load) as server, ThreadPoolExecutor(3) as threads:
        accepted = [threads.submit(send, server) for _ in range(3)]
        wait_until(lambda: (server.jobs.running, server.jobs.waiting) == (2, 1))
        refused = send(server)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "server_busy")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-should-retry"] == "true"
        assert "lithophone_refused_total 1.0" in server.get("/metrics").text
        engine.gate.set()
        assert [one.result().status_code for one in accepted] == [200, 200, 200]
        wait_until(lambda: (server.jobs.running, server.jobs.waiting) == (0, 0))


# --- what ends early


@pytest.mark.parametrize("fields", [FIELDS, {**FIELDS, "stream": "true"}])
def test_a_client_that_goes_away_costs_nothing_more(tiny: Transcriber, fields: dict[str, str]) -> None:
    engine, load = gated(tiny)
    with running(Settings(max_running=1), load) as server:
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(f"{server.url}{PATH}", data=fields, files={"file": wav()}, timeout=1.0)
        wait_until(lambda: server.jobs.running == 0)
        engine.gate.set()
        assert send(server).status_code == 200
        wait_until(lambda: not engine.busy)
        assert "lithophone_cancelled_total 1.0" in server.get("/metrics").text


def test_a_client_that_stops_reading_a_stream_costs_nothing_more(tiny: Transcriber) -> None:
    engine, load = gated(tiny)
    engine.gate.set()
    with running(Settings(max_running=1), load) as server:
        with httpx2.stream(
            "POST", f"{server.url}{PATH}", data={**FIELDS, "stream": "true", "limit_s": "1"},
            files={"file": wav(20.0)}, timeout=30,
        ) as reply:  # fmt: skip
            next(reply.iter_lines())
            engine.gate.clear()
        wait_until(lambda: server.jobs.running == 0 and not engine.busy)


def test_a_request_beyond_its_time_is_ended(tiny: Transcriber) -> None:
    _, load = gated(tiny)
    with running(Settings(request_timeout_s=0.5), load) as server:
        reply = send(server)
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")
        assert reply.headers["x-should-retry"] == "false"
        wait_until(lambda: server.jobs.running == 0)


def test_what_was_accepted_is_finished_when_the_server_ends(tiny: Transcriber) -> None:
    engine, load = gated(tiny)
    with ThreadPoolExecutor(1) as threads:
        with running(Settings(), load) as server:
            accepted = threads.submit(send, server)
            wait_until(lambda: server.jobs.running == 1)
            threading.Timer(1.0, engine.gate.set).start()
        assert accepted.result().status_code == 200


def test_a_model_that_fails_is_an_error_of_the_server_and_of_one_request(tiny: Transcriber) -> None:
    class Failing(Engine):
        fails = True

        def step(self) -> None:
            if self.fails:
                self.fails = False
                raise RuntimeError("a secret of the implementation")
            super().step()

    transcriber = Transcriber(tiny.checkpoint, detector=by_loudness(), engine=Failing(tiny.checkpoint))
    with running(Settings(), lambda name: transcriber) as server:
        failed = send(server)
        assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
        assert "secret" not in failed.text
        assert send(server).status_code == 200


# --- keys


@pytest.fixture(scope="module")
def locked(tiny: Transcriber, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("# of the team\nfirst\n\nsecond \n")
    with running(Settings(api_key=("third",), api_key_file=str(file)), lambda name: tiny) as server:
        yield server


@pytest.mark.parametrize("key", ["first", "second", "third"])
def test_every_key_is_accepted(locked: Running, key: str) -> None:
    assert locked.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert locked.get("/v1/models", headers={"authorization": f"bearer  {key}"}).status_code == 200


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Basic Zmlyc3Q=", "missing_api_key"),
        ("Bearer # of the team", "invalid_api_key"),
        ("Bearer firs", "invalid_api_key"),
        ("Bearer first second", "invalid_api_key"),
        ("Bearer schlüssel", "invalid_api_key"),
    ],
)
def test_other_keys_are_refused(locked: Running, header: str | None, code: str) -> None:
    headers = {} if header is None else {"authorization": header.encode()}
    for reply in (locked.get("/v1/models", headers=headers), locked.get("/nothing", headers=headers)):
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, code)


def test_health_needs_no_key_and_measures_do(locked: Running) -> None:
    assert locked.get("/health").json()["status"] == "ok"
    assert locked.get("/ready").status_code == 200
    assert locked.get("/metrics").status_code == 401


def test_a_file_without_keys_is_refused(tmp_path: Path) -> None:
    for content in (None, "", "# nothing\n", b"\xff\xfe"):
        file = tmp_path / "keys"
        if content is not None:
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(OptionError, match=r"keys (cannot be read|holds no API key)"):
            Keys.of(Settings(api_key_file=str(file)))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_other_addresses_need_keys_or_a_clear_word(host: str) -> None:
    with pytest.raises(OptionError, match="api_key_file, or allow_anonymous"):
        Settings(host=host)
    for given in ({"api_key": ("x",)}, {"api_key_file": "x"}, {"allow_anonymous": True}):
        assert Settings(host=host, **given).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    assert Settings(host=host).host == host


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70_000}, {"port": -1}, {"max_running": 0}, {"max_waiting": -1}, {"max_upload_mb": 0.0},
        {"max_duration_s": float("inf")}, {"request_timeout_s": float("nan")}, {"drain_s": -1.0}, {"model": ()},
        {"max_models": 0}, {"parse_cpu_s": -1.0}, {"parse_memory_mb": 0.0},
    ],
)  # fmt: skip
def test_settings_that_are_not_allowed_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"^{next(iter(wrong))} is"):
        Settings(**wrong)


# --- models


def test_models_are_listed_and_found_by_name(server: Running) -> None:
    listed = server.get("/v1/models").json()
    assert [one["id"] for one in listed["data"]] == ["tiny", "other"]
    assert server.get("/v1/models/other").json()["id"] == "other"
    assert server.get("/v1/models/who/ever").json()["error"]["code"] == "model_not_found"


def test_models_are_loaded_on_demand_and_the_oldest_makes_room(tiny: Transcriber) -> None:
    asked = []

    def load(name: str) -> Transcriber:
        asked.append(name)
        return tiny

    models = Models(Settings(model=("a=folder/a", "b", "c"), max_models=2), load)
    for name in ("a", "b", "a", "c", "a", "b"):
        with models.using(name) as transcriber:
            assert transcriber is tiny
    assert asked == ["folder/a", "b", "c", "b"]
    assert models.loaded == ("a", "b")


def test_a_model_in_use_is_not_unloaded(tiny: Transcriber) -> None:
    models = Models(Settings(model=("a", "b"), max_models=1), lambda name: tiny)
    done = threading.Event()

    def use_other() -> None:
        with models.using("b"):
            done.set()

    with models.using("a"):
        thread = threading.Thread(target=use_other)
        thread.start()
        assert not done.wait(0.2)
    thread.join(timeout=PATIENCE_S)
    assert done.is_set()
    assert models.loaded == ("b",)


def test_a_model_that_cannot_be_loaded_is_told(tiny: Transcriber) -> None:
    def load(name: str) -> Transcriber:
        if name == "broken":
            raise CheckpointError("model.safetensors is missing")
        return tiny

    with running(Settings(model=("tiny", "broken")), load) as server:
        reply = server.post(PATH, data={"model": "broken"}, files={"file": wav()})
        assert (reply.status_code, reply.json()["error"]["code"]) == (500, "model_failed")
        assert "model.safetensors is missing" in reply.json()["error"]["message"]
        assert send(server).status_code == 200


# --- the rest


def test_unknown_paths_and_methods_have_the_error_body(server: Running) -> None:
    for reply, status in ((server.get("/v1/nothing"), 404), (server.get(PATH), 405)):
        assert reply.status_code == status
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert 'route="other",status="404"' in server.get("/metrics").text


def test_every_answer_has_a_request_id_of_its_own(server: Running) -> None:
    ids = [server.get(path).headers["x-request-id"] for path in ("/health", "/v1/models", "/v1/nothing")]
    assert len(set(ids)) == 3


def test_bytes_that_are_no_http_hurt_nobody(server: Running) -> None:
    port = int(server.url.rpartition(":")[2])
    for junk in (b"\0" * 4096, b"GET / HTTP/9.9\r\n\r\n", b"POST /asr HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(4096)
    assert server.get("/health").status_code == 200


def test_pages_of_other_origins_may_call_only_where_they_are_named(tiny: Transcriber, server: Running) -> None:
    origin = {"origin": "https://example.org"}
    assert "access-control-allow-origin" not in server.get("/health", headers=origin).headers
    with running(replace(Settings(), cors_origin=("https://example.org",)), lambda name: tiny) as open_to:
        assert open_to.get("/health", headers=origin).headers["access-control-allow-origin"] == "https://example.org"
