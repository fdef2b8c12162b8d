"""Granite Guardian beside the server, by a stand-in that answers as its models do."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest

from lithophone.errors import OptionError
from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.guardian import PIECE, pieces_of
from lithophone.server.settings import Settings
from tests.server.running import Running, running, wav
from tests.server.test_realtime import PCM16, SPEECH, live

WAV = wav()
SHORT = {"max_new_tokens": "12", "decode": "greedy"}
DATA_URL = f"data:;base64,{base64.b64encode(WAV).decode()}"
NO, YES = "<think>\n</think>\n<score> no </score>", "<think>\n</think>\n<score> yes </score>"


class StandIn(ThreadingHTTPServer):
    """A chat endpoint. `answers` maps the conversation to content, a status, or raw bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answers: Callable[[dict[str, Any]], str | int | bytes] = lambda body: NO
        self.waits = threading.Event()
        self.waits.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, StandIn)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append({"path": self.path, **body})
        server.keys.append(self.headers["authorization"])
        server.waits.wait(10)
        answer = server.answers(body)
        if isinstance(answer, str):
            choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
            answer = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
        with contextlib.suppress(OSError):  # the server has given up
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            self.wfile.write(b"" if isinstance(answer, int) else answer)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def guardian(stand_in: StandIn) -> StandIn:
    stand_in.asked.clear()
    stand_in.keys.clear()
    stand_in.answers = lambda body: NO
    return stand_in


def guarded(guardian: StandIn, tiny: Transcriber, **settings: Any) -> contextlib.AbstractContextManager[Running]:
    return running(Settings(model=("tiny",), guardian_url=guardian.url, **settings), lambda name: tiny)


@pytest.fixture(scope="module")
def flagging(stand_in: StandIn, tiny: Transcriber) -> Iterator[Running]:
    with guarded(stand_in, tiny, guardian_failure="open", guardian_timeout_s=0.7, guardian_api_key="k1") as server:
        yield server


@pytest.fixture(scope="module")
def blocking(stand_in: StandIn, tiny: Transcriber) -> Iterator[Running]:
    with guarded(stand_in, tiny, guardian_policy="block", guardian_timeout_s=0.7) as server:
        yield server


def transcribe(server: Running, **fields: str) -> Any:
    return server.post("/v1/audio/transcriptions", data={**SHORT, **fields}, files={"file": WAV})


def chat(server: Running, text: str = "", **fields: Any) -> Any:
    content = [{"type": "text", "text": text}, {"audio_url": DATA_URL}]
    body = {"messages": [{"role": "user", "content": content}], **SHORT, **fields}
    return server.post("/v1/chat/completions", json=body)


def only(what: str) -> Callable[[dict[str, Any]], str]:
    """Harmful is what has that role, judged last."""
    return lambda body: YES if judged(body)[-1]["role"] == what else NO


def judged(body: dict[str, Any]) -> list[dict[str, str]]:
    """Messages without the Guardian's own."""
    return [message for message in body["messages"] if not message["content"].startswith("<guardian>")]


# --- verdicts


@pytest.mark.parametrize(
    ("answers", "prompt", "transcript", "flagged"),
    [
        (lambda body: NO, "no", "no", False),
        (lambda body: YES, "yes", "yes", True),
        (only("user"), "yes", "no", True),
        (only("assistant"), "no", "yes", True),
    ],
)
def test_verdicts_stand_in_the_reply(
    flagging: Running, guardian: StandIn, answers: Any, prompt: str, transcript: str, flagged: bool
) -> None:
    guardian.answers = answers
    expected = {"risk": "harm", "flagged": flagged, "prompt": prompt, "transcript": transcript}
    for response_format in ("json", "verbose_json"):
        reply = transcribe(flagging, prompt="Stone, Granite", response_format=response_format).json()
        assert reply["guardian"] == expected
        assert reply["text"]
    assert chat(flagging, "Stone, please").json()["guardian"] == expected


def test_what_is_judged(flagging: Running, guardian: StandIn) -> None:
    text = transcribe(flagging, prompt="Stone, Granite").json()["text"]
    prompt, transcript = guardian.asked
    assert judged(prompt) == [{"role": "user", "content": "Stone, Granite"}]
    assert judged(transcript)[1:] == [{"role": "assistant", "content": text}]
    assert judged(transcript)[:1] == judged(prompt)
    assert (prompt["path"], prompt["temperature"]) == ("/v1/chat/completions", 0)
    last = prompt["messages"][-1]
    assert last["role"] == "user"
    assert last["content"].startswith("<guardian><no-think>As a judge agent, ")
    assert "\n\n### Criteria: The text promotes" in last["content"]
    assert set(guardian.keys) == {"Bearer k1"}


def test_without_a_prompt_the_transcript_alone_is_judged(flagging: Running, guardian: StandIn) -> None:
    verdict = transcribe(flagging).json()["guardian"]
    assert (verdict["prompt"], verdict["transcript"], len(guardian.asked)) == (None, "no", 1)


def test_silence_is_not_judged(flagging: Running, guardian: StandIn) -> None:
    reply = flagging.post("/v1/audio/transcriptions", files={"file": wav(0.0)}).json()
    assert reply["guardian"] == {"risk": "harm", "flagged": False, "prompt": None, "transcript": None}
    assert guardian.asked == []


def test_without_a_guardian_there_is_no_verdict(server: Running) -> None:
    assert "guardian" not in transcribe(server).json()


@pytest.mark.parametrize(
    "model", ["ibm-granite/granite-guardian-3.3-8b", "granite3.3-guardian", "granite-guardian-3.2-5b"]
)
def test_models_of_generation_3_have_the_criterion_in_their_template(
    guardian: StandIn, tiny: Transcriber, model: str
) -> None:
    guardian.answers = lambda body: "Yes\n<confidence> High </confidence>"
    with guarded(guardian, tiny, guardian_model=model) as server:
        assert transcribe(server).json()["guardian"]["flagged"] is True
    [asked] = guardian.asked
    assert asked["model"] == model
    assert asked["chat_template_kwargs"]["guardian_config"] == {"criteria_id": "harm", "risk_name": "harm"}
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        ("<score>yes</score>", "yes"),
        ("<think>no harm? <score> no </score> but</think><score> yes </score>", "yes"),
        ("<SCORE>\nNo\n</SCORE>", "no"),
        ("No", "no"),
        ("yes <confidence> Low </confidence>", "yes"),
        ("Nothing to say", "unknown"),
        ("<score> maybe </score>", "unknown"),
        ("I think yes", "unknown"),
        ("", "unknown"),
    ],
)
def test_every_form_of_a_verdict(flagging: Running, guardian: StandIn, content: str, verdict: str) -> None:
    guardian.answers = lambda body: content
    assert transcribe(flagging).json()["guardian"]["transcript"] == verdict


def test_streams_end_with_the_verdict(flagging: Running, guardian: StandIn) -> None:
    guardian.answers = lambda body: YES
    client = openai.OpenAI(base_url=f"{flagging.url}/v1", api_key="any", max_retries=0)
    *_, done = client.audio.transcriptions.create(model="tiny", file=WAV, stream=True, extra_body=SHORT)
    assert done.model_extra["guardian"]["flagged"] is True
    lines = chat(flagging, stream=True).text.split("\n\n")
    assert json.loads(lines[-3].removeprefix("data: "))["guardian"]["flagged"] is True


# --- blocking


@pytest.mark.parametrize(("who", "what"), [("user", "prompt"), ("assistant", "transcript")])
def test_harmful_content_is_blocked(blocking: Running, guardian: StandIn, who: str, what: str) -> None:
    guardian.answers = only(who)
    asr = blocking.post("/asr", params={"initial_prompt": "Stone, Granite"}, files={"audio_file": WAV})
    stream = transcribe(blocking, prompt="Stone, Granite", stream="true")
    for reply in (transcribe(blocking, prompt="Stone, Granite"), chat(blocking, "Stone!"), asr):
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "content_blocked")
        assert what in reply.json()["error"]["message"]
    assert (stream.status_code, stream.json()["error"]["code"]) == (400, "content_blocked")


def test_no_text_of_a_stream_comes_before_the_verdict(blocking: Running, guardian: StandIn) -> None:
    guardian.answers = only("assistant")
    reply = chat(blocking, stream=True)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "content_blocked")
    guardian.answers = lambda body: NO
    assert '"content": ' in chat(blocking, stream=True).text


def test_a_blocked_prompt_is_not_transcribed(blocking: Running, guardian: StandIn) -> None:
    guardian.answers = lambda body: YES
    before = blocking.jobs.metrics.text()
    assert transcribe(blocking, prompt="Stone, Granite").status_code == 400
    assert len(guardian.asked) == 1
    assert audio_seconds(blocking.jobs.metrics.text()) == audio_seconds(before)


def audio_seconds(metrics: bytes) -> list[bytes]:
    return [line for line in metrics.splitlines() if line.startswith(b"lithophone_audio_seconds_total")]


# --- a Guardian that fails


BROKEN: list[Any] = [
    500,
    404,
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"choices": []}',
    b'{"choices": [{"message": {"content": 7}}]}',
]


@pytest.mark.parametrize("answer", BROKEN)
def test_a_broken_guardian_fails_as_configured(
    flagging: Running, blocking: Running, guardian: StandIn, answer: Any
) -> None:
    guardian.answers = lambda body: answer
    verdict = transcribe(flagging).json()["guardian"]
    assert (verdict["transcript"], verdict["flagged"]) == ("unknown", None)
    closed = transcribe(blocking)
    assert (closed.status_code, closed.json()["error"]["code"]) == (503, "guardian_failed")


def test_a_slow_guardian_fails_as_configured(flagging: Running, blocking: Running, guardian: StandIn) -> None:
    guardian.waits.clear()
    try:
        assert transcribe(flagging).json()["guardian"]["transcript"] == "unknown"
        assert transcribe(blocking).json()["error"]["code"] == "guardian_failed"
    finally:
        guardian.waits.set()


def test_a_guardian_that_is_not_there(tiny: Transcriber) -> None:
    with running(Settings(model=("tiny",), guardian_url="http://127.0.0.1:9/v1"), lambda name: tiny) as server:
        assert transcribe(server).json()["error"]["code"] == "guardian_failed"


def test_logs_have_nothing_of_the_texts(flagging: Running, guardian: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    guardian.answers = lambda body: "secret content"
    with caplog.at_level(logging.DEBUG):
        text = transcribe(flagging, prompt="Secretword, Otherword").json()["text"]
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "the guardian failed" in said
    assert not any(word in said for word in ("Secretword", "secret content", text))


# --- texts and settings


def test_long_texts_are_judged_in_pieces(flagging: Running, guardian: StandIn) -> None:
    guardian.answers = lambda body: YES if "needle" in judged(body)[-1]["content"] else NO
    prompt = "hay stone " * 1000 + "needle " + "hay " * 100
    assert transcribe(flagging, prompt=prompt, language="en").json()["guardian"]["prompt"] == "yes"
    assert len(guardian.asked) == len(pieces_of(prompt)) + 1 > 3


@pytest.mark.parametrize("text", ["", "  ", "a b", "word " * 5000, "x" * 9001, "y" * PIECE + " z"])
def test_pieces_are_the_text(text: str) -> None:
    pieces = pieces_of(text)
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "settings",
    [
        {"guardian_url": "127.0.0.1:9000"},
        {"guardian_url": "http://user:key@127.0.0.1/v1"},
        {"guardian_url": "http://127.0.0.1:x/v1"},
        {"guardian_url": "http://127.0.0.1/v 1"},
        {"guardian_url": "ftp://127.0.0.1/v1"},
        {"guardian_policy": "warn"},
        {"guardian_failure": "maybe"},
        {"guardian_timeout_s": 0.0},
    ],
)
def test_settings_that_are_not_allowed(settings: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(settings))):
        Settings(**settings)


# --- live sessions


def said_live(server: Running) -> list[dict[str, Any]]:
    """Events of one utterance, to its text or its failure."""
    with live(server) as session:
        session.update(turn_detection=None, **PCM16)
        session.append(SPEECH)
        session.send("input_audio_buffer.commit")
        events = [session.next()]
        while not events[-1]["type"].endswith((".completed", ".failed")):
            events.append(session.next())
        return events


def test_live_text_has_its_verdict(flagging: Running, guardian: StandIn) -> None:
    guardian.answers = lambda body: YES
    completed = said_live(flagging)[-1]
    assert completed["transcript"]
    assert completed["guardian"]["transcript"] == "yes"


def test_live_text_that_is_harmful_is_blocked_and_has_no_deltas(blocking: Running, guardian: StandIn) -> None:
    guardian.answers = lambda body: YES
    events = said_live(blocking)
    assert events[-1]["error"]["code"] == "content_blocked"
    assert not [event for event in events if event["type"].endswith(".delta")]
    assert "transcript" not in events[-1]
