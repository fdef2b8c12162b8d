"""Client secrets: made with a key, and a key for live sessions until they expire."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.realtime import ClientSecretCreateResponse
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.auth import Keys
from lithophone.server.settings import Settings
from tests.server.running import Running, running

PATH = "/v1/realtime/client_secrets"
OLD_PATH = "/v1/realtime/transcription_sessions"
KEY = {"authorization": "Bearer right"}
SESSION: dict[str, Any] = {
    "type": "transcription",
    "audio": {"input": {"turn_detection": None, "transcription": {"language": "de", "model": "other"}}},
}


@pytest.fixture(scope="module")
def guarded(tiny: Transcriber) -> Iterator[Running]:
    with running(Settings(model=("tiny", "other=elsewhere"), api_key=("right",)), lambda name: tiny) as one:
        yield one


@pytest.fixture(scope="module")
def client(guarded: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="right", max_retries=0)


def created(server: Running, secret: str) -> dict[str, Any]:
    """The session of a browser with that secret."""
    protocols: Any = ["realtime", f"openai-insecure-api-key.{secret}"]
    url = server.url.replace("http", "ws")
    with connect(f"{url}/v1/realtime", subprotocols=protocols) as socket:
        event = json.loads(socket.recv(timeout=30))
        assert event["type"] == "session.created"
        return dict(event["session"])


def test_a_secret_opens_a_session_with_its_configuration(guarded: Running, client: openai.OpenAI) -> None:
    secret = client.realtime.client_secrets.create(session=SESSION)  # type: ignore[arg-type]
    ClientSecretCreateResponse.model_validate(secret.model_dump(), strict=True)
    assert secret.expires_at == pytest.approx(time.time() + 600, abs=20)
    assert secret.session.type == "transcription"
    audio = created(guarded, secret.value)["audio"]["input"]
    assert (audio["turn_detection"], audio["transcription"]["language"]) == (None, "de")
    assert audio["transcription"]["model"] == "other"


def test_a_secret_may_be_used_as_a_bearer(guarded: Running, client: openai.OpenAI) -> None:
    secret = client.realtime.client_secrets.create().value
    url = guarded.url.replace("http", "ws")
    with connect(f"{url}/v1/realtime", additional_headers={"authorization": f"Bearer {secret}"}) as socket:
        assert json.loads(socket.recv(timeout=30))["type"] == "session.created"


def test_sessions_of_the_beta_api(guarded: Running, client: openai.OpenAI) -> None:
    session = client.beta.realtime.transcription_sessions.create(
        input_audio_format="g711_ulaw",
        input_audio_transcription={"model": "whisper-1", "language": "fr"},
        client_secret={"expires_at": {"anchor": "created_at", "seconds": 60}},
    )
    assert session.input_audio_format == "g711_ulaw"
    assert session.input_audio_transcription is not None
    assert session.input_audio_transcription.language == "fr"
    assert session.client_secret.expires_at == pytest.approx(time.time() + 60, abs=20)
    audio = created(guarded, session.client_secret.value)["audio"]["input"]
    assert (audio["format"]["type"], audio["transcription"]["language"]) == ("audio/pcmu", "fr")


def test_a_secret_is_no_key_of_other_routes(guarded: Running, client: openai.OpenAI) -> None:
    secret = client.realtime.client_secrets.create().value
    for path in (PATH, "/v1/audio/transcriptions"):
        reply = guarded.post(path, headers={"authorization": f"Bearer {secret}"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")


def another(character: str) -> str:
    return "y" if character == "x" else "x"


@pytest.mark.parametrize("damage", ["last", "first", "cut", "none", "other keys", "expired", "no base64"])
def test_other_secrets_open_nothing(guarded: Running, damage: str) -> None:
    keys = Keys(["other"] if damage == "other keys" else ["right"])
    secret = keys.client_secret({"audio": {}}, int(time.time()) + (-1 if damage == "expired" else 60))
    damaged = {
        "last": secret[:-2] + another(secret[-2]) + secret[-1],
        "first": secret[:4] + another(secret[4]) + secret[5:],
        "cut": secret[:12],
        "none": "ek_",
        "no base64": "ek_!*",
    }
    with pytest.raises(InvalidStatus) as refused:
        created(guarded, damaged.get(damage, secret))
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["error"]["code"] == "invalid_client_secret"


def test_processes_with_the_same_keys_accept_each_others_secrets() -> None:
    secret = Keys(["a", "b"]).client_secret({"include": []}, int(time.time()) + 60)
    assert Keys(["b", "a"]).session_of(secret) == {"include": []}
    assert Keys(["a"]).session_of(secret) is None


def test_without_keys_a_secret_still_has_its_session(server: Running) -> None:
    secret = server.post(PATH, json={"session": SESSION}).json()["value"]
    assert created(server, secret)["audio"]["input"]["transcription"]["language"] == "de"
    assert created(server, "ek_nothing")["audio"]["input"]["transcription"]["language"] is None


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (PATH, {"expires_after": {"seconds": 5}}, "expires_after.seconds"),
        (PATH, {"expires_after": {"seconds": True}}, "expires_after.seconds"),
        (PATH, {"expires_after": {"anchor": "never"}}, "expires_after"),
        (PATH, {"expires_after": 60}, "expires_after"),
        (PATH, {"session": {"type": "realtime"}}, "session.type"),
        (PATH, {"session": [1]}, "session"),
        (PATH, {"session": False}, "session"),
        (PATH, {"session": {"include": False}}, "session.include"),
        (PATH, {"session": {"audio": {"input": {"transcription": {"language": "xx"}}}}},
         "session.audio.input.transcription.language"),
        (PATH, {"session": {"audio": {"input": {"transcription": {"language": "auto"}}}}},
         "session.audio.input.transcription.language"),
        (PATH, {"session": {"audio": {"input": {"transcription": {"model": "nothing"}}}}}, "model"),
        (PATH, {"voice": "alloy"}, "voice"),
        (OLD_PATH, {"input_audio_format": "mp3"}, "session.input_audio_format"),
        (OLD_PATH, {"client_secret": [1]}, "client_secret"),
        (OLD_PATH, {"client_secret": 0}, "client_secret"),
        (OLD_PATH, {"input_audio_transcription": False}, "session.audio.input.transcription"),
        (OLD_PATH, {"input_audio_noise_reduction": [None]}, "session.audio.input.noise_reduction"),
        (OLD_PATH, {"client_secret": {"expires_after": {"seconds": 1}}}, "client_secret.expires_after.seconds"),
    ],
)  # fmt: skip
def test_bad_fields_are_named(server: Running, path: str, body: dict[str, Any], param: str) -> None:
    reply = server.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (404 if param == "model" else 400, param)


def test_a_session_that_is_too_long_for_a_header_is_refused(server: Running) -> None:
    import random

    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(600)]
    reply = server.post(PATH, json={"session": {"audio": {"input": {"transcription": {"keywords": words}}}}})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "session")


def test_bodies_may_be_empty_and_are_bounded(server: Running) -> None:
    assert server.post(PATH).status_code == 200
    assert server.post(PATH, content=b"{" + b" " * 200_000 + b"}").status_code == 413
    assert server.post(PATH, content=b"[]").json()["error"]["code"] == "invalid_json"
