"""Requests whose replica ends, and what the front answers itself; replicas are scripts, or in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from lithophone.pipeline.transcriber import Transcriber
from lithophone.scale import front as fronts
from lithophone.scale.compute import settings_of_replica
from lithophone.server.app import create_app
from lithophone.server.auth import Keys
from lithophone.server.models import Models
from lithophone.server.settings import Settings
from tests.scale.local import DIES, LocalReplicas, ScriptedReplicas, ask, body, fronted, start
from tests.server.running import Running, wav

OK = [start(), body("{}")]
EVENTS = "text/event-stream; charset=utf-8"
PATH = "/v1/audio/transcriptions"
FIELDS = {"max_new_tokens": "6", "decode": "greedy"}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fronts, "AGAIN_S", 0.01)


def status_of(messages: list[dict[str, Any]]) -> int:
    return int(messages[0]["status"])


def text_of(messages: list[dict[str, Any]]) -> str:
    return b"".join(message.get("body", b"") for message in messages).decode()


def code_of(messages: list[dict[str, Any]]) -> str:
    return str(json.loads(text_of(messages))["error"]["code"])


# --- replicas that end


@pytest.mark.parametrize(
    "lost", [[DIES], [start(), DIES], [start(), body("{", more=True), DIES], [start(kind=EVENTS), DIES]]
)
def test_a_request_whose_replica_ends_is_sent_to_another(lost: list[Any]) -> None:
    replicas = ScriptedReplicas(lost, [start(), body('{"text": "words"}')])
    front, got = ask(replicas, sent=b"a recording")
    assert (status_of(got), text_of(got)) == (200, '{"text": "words"}')
    assert replicas.bodies == [b"a recording", b"a recording"]
    assert front.registry.get_sample_value("lithophone_resent_total") == 1


def test_a_long_body_is_read_again_from_its_beginning() -> None:
    sent = bytes(range(256)) * 10_000
    replicas = ScriptedReplicas([DIES], OK)
    ask(replicas, sent=sent)
    assert replicas.bodies == [sent, sent]


def test_a_request_that_ends_its_replicas_is_given_up() -> None:
    replicas = ScriptedReplicas(*[[DIES]] * 5)
    _, got = ask(replicas)
    assert (status_of(got), code_of(got), len(replicas.calls)) == (500, "replica_failed", fronts.MAX_LOST)
    assert dict(got[0]["headers"])[b"x-should-retry"] == b"false"


def test_a_stream_that_has_begun_ends_with_an_error_event() -> None:
    replicas = ScriptedReplicas([start(kind=EVENTS), body("data: 1\n\n", more=True), DIES], OK)
    _, got = ask(replicas)
    lines = text_of(got).split("\n\n")
    assert (lines[0], lines[2:]) == ("data: 1", ["data: [DONE]", ""])
    assert json.loads(lines[1].removeprefix("data: "))["error"]["code"] == "replica_failed"
    assert (got[-1]["more_body"], len(replicas.calls)) == (False, 1)


def test_streams_are_passed_on_as_they_come() -> None:
    replicas = ScriptedReplicas([start(kind=EVENTS), body("a", more=True), body("b", more=True), body("")])
    _, got = ask(replicas)
    assert [message.get("body") for message in got] == [None, b"a", b"b", b""]


def test_an_accepted_request_waits_where_the_other_replicas_are_full() -> None:
    full = [start(429, **{"retry-after": "3"}), body("busy")]
    _, got = ask(ScriptedReplicas([DIES], full, full, OK))
    assert (status_of(got), text_of(got)) == (200, "{}")


def test_a_request_that_nobody_accepted_is_refused() -> None:
    replicas = ScriptedReplicas([start(429, **{"retry-after": "3"}), body("busy")])
    _, got = ask(replicas)
    assert (status_of(got), text_of(got), dict(got[0]["headers"])[b"retry-after"]) == (429, "busy", b"3")


def test_an_accepted_request_does_not_wait_beyond_its_time() -> None:
    full = [start(429), body("busy")]
    _, got = ask(ScriptedReplicas([DIES], *[full] * 50), settings=Settings(request_timeout_s=0.05))
    assert status_of(got) == 429


def test_a_request_whose_client_is_gone_is_not_sent_again() -> None:
    replicas = ScriptedReplicas([start(kind=EVENTS), DIES], OK)
    _, got = ask(replicas, leaves=True)
    assert (len(replicas.calls), got) == (1, [])


def test_replicas_hear_that_the_request_is_over() -> None:
    replicas = ScriptedReplicas(OK)
    front, _ = ask(replicas)
    assert asyncio.run(front.receive(replicas.calls[0].number, 0)) == [{"type": "http.disconnect"}]


def test_a_fault_of_a_replica_is_an_internal_error() -> None:
    replicas = ScriptedReplicas([])
    replicas.scripts = []  # pop raises
    _, got = ask(replicas)
    assert (status_of(got), code_of(got)) == (500, "internal_error")


# --- what the front answers itself


def test_keys_and_sizes_are_checked_before_a_replica_is_asked() -> None:
    replicas = ScriptedReplicas()
    settings = Settings(api_key=("secret",), max_upload_mb=0.001)
    _, without = ask(replicas, settings=settings)
    _, wrong = ask(replicas, settings=settings, headers={"authorization": "Bearer no"})
    _, large = ask(replicas, settings=settings, headers={"authorization": "Bearer secret"}, sent=b"x" * 2000)
    _, stated = ask(
        replicas, settings=settings, headers={"authorization": "Bearer secret", "content-length": "2000"}, sent=b""
    )
    assert [status_of(one) for one in (without, wrong, large, stated)] == [401, 401, 413, 413]
    assert replicas.calls == []


def test_a_front_that_drains_accepts_nothing() -> None:
    _, got = ask(ScriptedReplicas(OK), closed=True)
    assert (status_of(got), code_of(got)) == (503, "shutting_down")
    assert b"retry-after" in dict(got[0]["headers"])


def test_ids_of_replicas_are_kept_and_others_made() -> None:
    _, kept = ask(ScriptedReplicas([start(**{"x-request-id": "abc"}), body("")]))
    _, made = ask(ScriptedReplicas(OK))
    assert [len(dict(one[0]["headers"])[b"x-request-id"]) for one in (kept, made)] == [3, 32]


def test_replicas_have_no_keys_and_serve_whatever_comes_from_the_front() -> None:
    of_replica = settings_of_replica(
        Settings(host="0.0.0.0", api_key=("secret",), cors_origin=("https://a.example",), replicas=3, max_running=5)
    )
    assert (of_replica.api_key, of_replica.cors_origin, of_replica.max_running) == ((), (), 5)
    assert not of_replica.is_scaled


def test_settings_show_no_keys() -> None:
    assert "secret" not in repr(Settings(api_key=("secret",), guardian_api_key="secret"))


# --- replicas in this process


def replica(tiny: Transcriber, settings: Settings) -> Any:
    keys = Keys.of(settings).unchecked()
    return create_app(settings_of_replica(settings), Models(settings, lambda name: tiny), keys)


@pytest.fixture(scope="module")
def two(tiny: Transcriber) -> Iterator[str]:
    """Every fourth call loses its replica, at once or after the first message."""
    settings = Settings(model=("tiny", "other=elsewhere"), max_upload_mb=5, cors_origin=("https://a.example",))

    def dies(number: int) -> int | None:
        return {1: 0, 3: 1}.get(number % 8)

    with fronted(settings, LocalReplicas(replica(tiny, settings), replica(tiny, settings), dies=dies)) as url:
        yield url


REQUESTS: list[dict[str, Any]] = [
    {"data": FIELDS, "files": {"file": wav()}},
    {"data": {**FIELDS, "response_format": "srt"}, "files": {"file": wav(2.0)}},
    {"data": {**FIELDS, "stream": "true"}, "files": {"file": wav()}},
    {"data": {"lanugage": "de"}, "files": {"file": wav()}},
    {"data": {"model": "unknown"}, "files": {"file": wav()}},
    {"data": FIELDS, "files": {"file": b"no recording"}},
    {"data": FIELDS},
    {"data": FIELDS, "files": {"file": b"x" * 5_000_001}},
    {"content": b"{}", "headers": {"content-type": "application/json"}},
]


@pytest.mark.parametrize("given", REQUESTS)
def test_answers_are_those_of_one_process(two: str, server: Running, given: dict[str, Any]) -> None:
    scaled = httpx2.post(f"{two}{PATH}", timeout=60, **given)
    alone = server.post(PATH, **given)
    assert (scaled.status_code, scaled.text) == (alone.status_code, alone.text)
    changing = {"date", "x-request-id", "vary"}  # the front allows an origin
    assert {k: v for k, v in scaled.headers.items() if k not in changing} == {
        k: v for k, v in alone.headers.items() if k not in changing
    }


def test_many_requests_at_once_get_their_own_words(two: str, tiny: Transcriber) -> None:
    pitches = [200.0 + 60 * n for n in range(12)]
    expected = [tiny.transcribe(wav(pitch_hz=p), max_new_tokens=6, decode="greedy").text for p in pitches]

    def sent(pitch_hz: float) -> httpx2.Response:
        return httpx2.post(f"{two}{PATH}", data=FIELDS, files={"file": wav(pitch_hz=pitch_hz)}, timeout=60)

    with ThreadPoolExecutor(12) as threads:
        replies = list(threads.map(sent, pitches))
    assert [reply.json()["text"] for reply in replies] == expected


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/v1/models", "/openapi.json", "/v1/models/tiny"])
def test_paths_of_the_server_are_served(two: str, path: str) -> None:
    assert httpx2.get(f"{two}{path}", timeout=60).status_code == 200


def test_origins_are_allowed_once(two: str) -> None:
    reply = httpx2.get(f"{two}/v1/models", headers={"origin": "https://a.example"})
    assert reply.headers.get_list("access-control-allow-origin") == ["https://a.example"]


def test_measures_are_those_of_every_replica_by_its_name(two: str) -> None:
    text = httpx2.get(f"{two}/metrics").text
    for name in ("0", "1"):
        assert f'lithophone_running{{replica="{name}"}} 0.0' in text
    assert 'lithophone_resent_total{replica="front"} ' in text
    assert 'lithophone_held_bytes{replica="front"} 0.0' in text
    assert text.count("# TYPE lithophone_running gauge") == 1
    assert f'lithophone_requests_total{{replica="0",route="{PATH}",status="200"}}' in text


# --- live sessions


def live(url: str) -> Any:
    return connect(f"{url.replace('http', 'ws')}/v1/realtime?model=whisper-1")


def test_a_live_session_is_served(two: str) -> None:
    for _ in range(8):  # some of them lose their replica
        with live(two) as socket:
            first = json.loads(socket.recv(timeout=20))
            if first["type"] == "session.created":
                break
    assert first["type"] == "session.created"


def test_a_live_session_ends_with_its_replica(tiny: Transcriber) -> None:
    settings = Settings(model=("tiny",))
    with (
        fronted(settings, LocalReplicas(replica(tiny, settings), dies=lambda number: 1)) as url,
        live(url) as socket,
    ):
        assert json.loads(socket.recv(timeout=20))["error"]["code"] == "replica_failed"
        with pytest.raises(Exception, match="1011"):
            socket.recv(timeout=20)


def test_live_sessions_need_a_key(tiny: Transcriber) -> None:
    settings = Settings(model=("tiny",), api_key=("secret",))
    with fronted(settings, LocalReplicas(replica(tiny, settings))) as url:
        with pytest.raises(Exception, match="401"):
            live(url)
        address = f"{url.replace('http', 'ws')}/v1/realtime"
        with connect(address, additional_headers={"authorization": "Bearer secret"}) as socket:
            assert json.loads(socket.recv(timeout=20))["type"] == "session.created"
        with connect(address, subprotocols=["realtime", "openai-insecure-api-key.secret"]) as socket:  # type: ignore[list-item]
            assert json.loads(socket.recv(timeout=20))["type"] == "session.created"


def test_a_client_secret_of_one_replica_opens_a_session_of_another(tiny: Transcriber) -> None:
    settings = Settings(model=("tiny",), api_key=("secret",))
    with fronted(settings, LocalReplicas(replica(tiny, settings), replica(tiny, settings))) as url:
        asked = {"session": {"audio": {"input": {"transcription": {"language": "de"}}}}}
        key = {"authorization": "Bearer secret"}
        value = httpx2.post(f"{url}/v1/realtime/client_secrets", json=asked, headers=key).json()["value"]
        address = f"{url.replace('http', 'ws')}/v1/realtime"
        with connect(address, additional_headers={"authorization": f"Bearer {value}"}) as socket:
            session = json.loads(socket.recv(timeout=20))["session"]
    assert session["audio"]["input"]["transcription"]["language"] == "de"
