"""Chat completions with a recording, by OpenAI's client, and by the client of the model card."""

from __future__ import annotations

import base64
import copy
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion

from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.chat_reply import Content
from lithophone.server.settings import Settings
from lithophone.text.prompts import KEYWORDS, PUNCTUATED, RAW, SPEAKERS
from lithophone.text.replies import parse_turns, parse_word_times
from lithophone.transcript import Segment, Word
from tests.conftest import ROOT
from tests.detectors import by_loudness
from tests.server.running import Running, running, wav
from tests.sounds import tone, write_container
from tests.tiny_checkpoint import tiny_checkpoint

WAV = wav()
BASE64 = base64.b64encode(WAV).decode()
DATA_URL = f"data:audio/wav;base64,{BASE64}"
BRIEF = base64.b64encode(wav(0.1)).decode()
INPUT_AUDIO = {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}}
SHORT = {"max_new_tokens": 12, "decode": "greedy"}
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def parts(text: str | None = PUNCTUATED, url: Any = DATA_URL) -> list[dict[str, Any]]:
    texts = [] if text is None else [{"type": "text", "text": text}]
    return [*texts, {"type": "audio_url", "audio_url": {"url": url}}]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def ask(client: openai.OpenAI, text: str | None = PUNCTUATED, /, **given: Any) -> ChatCompletion:
    """A reply with few tokens, unless options are given."""
    extra = given.pop("extra_body", SHORT)
    asked = {"model": "tiny", "messages": [user(parts(text))], "extra_body": extra, **given}
    reply: ChatCompletion = client.chat.completions.create(**asked)
    return reply


def text_of(reply: ChatCompletion) -> str:
    return str(reply.choices[0].message.content)


# --- the card's client


def test_the_client_of_the_model_card(server: Running, tiny: Transcriber, tmp_path: Path) -> None:
    """The card's script for vLLM, but for address, model and where the audio is from."""
    ogg = write_container(tmp_path / "a.ogg", tone(2.0, 48_000), 48_000, "libopus").read_bytes()
    audio_base64 = base64.b64encode(ogg).decode("utf-8")
    client = openai.OpenAI(api_key="token-abc123", base_url=f"{server.url}/v1")
    question = "can you transcribe the speech into a written format?"
    chat_completion_with_audio = client.chat.completions.create(
        messages=[{
            "role": "user",
            "content": [
                {"type": "text", "text": question},
                {"type": "audio_url", "audio_url": {"url": f"data:audio/ogg;base64,{audio_base64}"}},  # type: ignore
            ],
        }],
        temperature=0.2,
        max_tokens=64,
        model="tiny",
    )  # fmt: skip
    said = tiny.transcribe(ogg, punctuate=False, decode="sample", temperature=0.2).text
    ids = tiny.checkpoint.tokenizer.encode(said)[:64]
    assert text_of(chat_completion_with_audio) == tiny.checkpoint.tokenizer.decode(ids).rstrip("\ufffd") != ""


def test_the_lines_of_the_docs(server: Running, tiny: Transcriber, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    [lines] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "chat.completions" in block]
    lines = lines.replace("http://127.0.0.1:8000", server.url).replace("src/", f"{ROOT}/src/")
    exec(lines.replace("messages=[", 'extra_body={"max_new_tokens": 5, "decode": "greedy"}, messages=['), {})
    demo = (ROOT / "src" / "lithophone" / "assets" / "demo" / "demo.flac").read_bytes()
    assert capsys.readouterr().out == f"{tiny.transcribe(demo, max_new_tokens=5, decode='greedy').text}\n"


# --- content


@pytest.mark.parametrize(
    "content",
    [
        parts(),
        list(reversed(parts())),
        parts(f"<|audio|>{PUNCTUATED}"),
        parts(url=DATA_URL.replace("audio/wav", "application/octet-stream;charset=x")),
        parts(url="DATA:;BASE64," + BASE64[:80] + "\n" + BASE64[80:]),
        [PUNCTUATED, {"audio_url": DATA_URL}],
        [{"text": PUNCTUATED}, {"type": "audio_url", "audio_url": DATA_URL, "uuid": "u1"}],
        [{"type": "text", "text": PUNCTUATED}, INPUT_AUDIO],
        [{"type": "input_audio", "input_audio": {"data": DATA_URL, "format": "m4a"}}],
        [{"type": "text", "text": "Sing me a song."}, {"input_audio": {"data": BASE64}}],
    ],
)  # fmt: skip
def test_a_recording_is_read_from_every_form_of_a_part(
    client: openai.OpenAI, tiny: Transcriber, content: list[dict[str, Any]]
) -> None:
    assert text_of(ask(client, messages=[user(content)])) == tiny.transcribe(WAV, **SHORT).text != ""


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (RAW, {"punctuate": False}),
        (None, {}),
        (f"{KEYWORDS} Keywords: stone, granite", {"keywords": ("stone", "granite")}),
        ("translate the speech to French.", {"task": "translate", "to": "fr", "punctuate": False}),
        ("translate the speech to Japanese with proper punctuation and capitalization.",
         {"task": "translate", "to": "ja"}),
    ],
)  # fmt: skip
def test_instructions_are_tasks(client: openai.OpenAI, tiny: Transcriber, text: str, options: dict[str, Any]) -> None:
    assert text_of(ask(client, text)) == tiny.transcribe(WAV, **SHORT, **options).text


def test_the_last_message_of_the_user_has_the_instruction(client: openai.OpenAI, tiny: Transcriber) -> None:
    messages = [
        {"role": "system", "content": "You are Granite, and translate to German."},
        user(parts()),
        {"role": "assistant", "content": "A sound."},
        user("translate the speech to Spanish."),
    ]
    expected = tiny.transcribe(WAV, task="translate", to="es", punctuate=False, **SHORT).text
    assert text_of(ask(client, messages=messages)) == expected


def test_a_system_message_may_have_keywords(client: openai.OpenAI, tiny: Transcriber) -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "Be exact. Keywords: stone, granite"}]}
    reply = ask(client, messages=[system, user(parts(None))])
    assert text_of(reply) == tiny.transcribe(WAV, keywords=("stone", "granite"), **SHORT).text


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"temperature": 0.7, "seed": 3, "top_p": 0.9, "top_k": 20},
         {"decode": "sample", "temperature": 0.7, "seed": 3, "top_p": 0.9, "top_k": 20}),
        ({"temperature": 1, "top_k": -1, "seed": None}, {"decode": "sample", "temperature": 1.0}),
        ({"temperature": 0.7, "decode": "greedy"}, {"decode": "greedy"}),
        ({"decode": "sample", "seed": 5}, {"decode": "sample", "seed": 5}),
        ({"temperature": 0, "top_p": 1.0, "top_k": 0, "seed": 7, "length_penalty": 1.0}, {}),
        ({"use_beam_search": True, "length_penalty": 2.0}, {"decode": "beam", "length_penalty": 2.0}),
        ({"repetition_penalty": 1.1, "min_p": 0.1, "skip_special_tokens": False, "stop": ["x"], "n": 1}, {}),
        ({"language": [], "to": "", "stop": None}, {}),
        ({"language": "de", "keywords": ["stone"], "punctuate": False},
         {"language": "de", "keywords": ("stone",), "punctuate": False}),
        ({"task": "translate", "to": "fr"}, {"task": "translate", "to": "fr"}),
        ({"response_format": {"type": "text"}, "modalities": ["text"], "tools": [], "metadata": {"a": "b"}}, {}),
    ],
)  # fmt: skip
def test_fields_are_options(server: Running, tiny: Transcriber, fields: dict[str, Any], options: Any) -> None:
    body = {"model": "tiny", "messages": [user(parts())], "max_new_tokens": 12, **fields}
    reply = server.post(PATH, json=body).json()
    assert reply["choices"][0]["message"]["content"] == tiny.transcribe(WAV, max_new_tokens=12, **options).text


# --- replies


def test_a_reply_has_usage_and_a_reason(client: openai.OpenAI, tiny: Transcriber) -> None:
    reply = ask(client)
    ChatCompletion.model_validate(reply.model_dump(), strict=True)
    assert reply.id.startswith("chatcmpl-")
    assert (reply.model, reply.object) == ("tiny", "chat.completion")
    tokenizer, usage = tiny.checkpoint.tokenizer, reply.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.audio_tokens == 18
    assert usage.prompt_tokens > 18 + len(tokenizer.encode(PUNCTUATED))
    assert usage.completion_tokens == len(tokenizer.encode(text_of(reply)))
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_cut_reply_says_so(client: openai.OpenAI) -> None:
    """A window at its budget of tokens; the reply at max_tokens."""
    whole = ask(client)
    window = ask(client, extra_body={"decode": "greedy", "max_new_tokens": 3})
    assert (whole.choices[0].finish_reason, window.choices[0].finish_reason) == ("length", "length")
    assert window.model_extra is not None
    assert "cut" in [warning["code"] for warning in window.model_extra["warnings"]]
    for field in ("max_tokens", "max_completion_tokens"):
        reply = ask(client, **{field: 4})
        assert reply.choices[0].finish_reason == "length"
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 4
        assert text_of(whole).startswith(text_of(reply))
        assert 0 < len(text_of(reply)) < len(text_of(whole))


def test_max_tokens_is_of_all_windows(server: Running, tiny: Transcriber) -> None:
    sound = wav(4.0)
    data = f"data:;base64,{base64.b64encode(sound).decode()}"
    options = {"decode": "greedy", "max_new_tokens": 8, "limit_s": 1.5}
    text = tiny.transcribe(sound, **options)
    assert len(text.segments) > 1
    count = len(tiny.checkpoint.tokenizer.encode(text.segments[0].text)) + 2
    body = {"messages": [user(parts(url=data))], **options, "max_tokens": count}
    choice = server.post(PATH, json=body).json()["choices"][0]
    assert len(choice["message"]["content"]) > len(text.segments[0].text)
    assert text.text.startswith(choice["message"]["content"])
    assert choice["finish_reason"] == "length"


def test_a_stream_has_the_same_content(client: openai.OpenAI) -> None:
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"  # type: ignore[attr-defined]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)  # type: ignore
    assert text == text_of(whole)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]  # type: ignore[attr-defined]
    assert reasons == [None] * (len(reasons) - 1) + [whole.choices[0].finish_reason]
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)  # type: ignore[attr-defined]
    assert len({chunk.id for chunk in chunks}) == 1  # type: ignore[attr-defined]


def test_a_stream_has_no_usage_unless_asked(server: Running) -> None:
    body = {"messages": [user(parts())], "stream": True, **SHORT}
    lines = [line for line in server.post(PATH, json=body).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)


def test_logprobs_are_confidences_of_words(server: Running) -> None:
    body = {"messages": [user(parts(RAW))], "logprobs": True, "decode": "ctc", "ctc_head": "characters"}
    choice = server.post(PATH, json=body).json()["choices"][0]
    words = [one["token"] for one in choice["logprobs"]["content"]]
    assert " ".join(words).split() == choice["message"]["content"].split() != []


def test_silence_is_an_empty_reply_with_a_warning(server: Running) -> None:
    silent = f"data:;base64,{base64.b64encode(wav(0.0)).decode()}"
    reply = server.post(PATH, json={"messages": [user(parts(url=silent))], "max_tokens": 4}).json()
    assert reply["choices"][0]["message"]["content"] == ""
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert [warning["code"] for warning in reply["warnings"]] == ["no_speech"]


# --- tags of plus models


def test_speakers_are_tagged_at_every_change() -> None:
    content = Content("speakers")
    turns = [("1", "hello"), ("1", "there"), ("2", "hi"), ("1", "bye")]
    text = "".join(content.piece(Segment(words, 0, 1, speaker=speaker), " ") for speaker, words in turns)
    assert text == "[Speaker 1]: hello there [Speaker 2]: hi [Speaker 1]: bye"
    assert [(turn.speaker, turn.text) for turn in parse_turns(text).turns] == [
        ("1", "hello there"), ("2", "hi"), ("1", "bye"),
    ]  # fmt: skip


def test_word_times_are_tags_that_the_parser_reads_back() -> None:
    windows = [
        (Word("one", 0.0, 0.4), Word("two", 0.55, 0.9)),
        (Word("three", 31.0, 31.5), Word("four", 31.5, 31.5), Word("five", 31.2, 33.0)),
    ]
    content = Content("word-times")
    text = "".join(content.piece(Segment("x", 0, 1, words), " ") for words in windows)
    assert text.startswith("one [T:40] _ [T:55] two [T:90] _ [T:")
    read = parse_word_times(text, 33.0)
    assert [(word.text, round(word.start_s, 2), round(word.end_s, 2)) for word in read.words] == [
        ("one", 0.0, 0.4), ("two", 0.55, 0.9), ("three", 31.0, 31.5), ("four", 31.5, 31.5), ("five", 31.5, 33.0),
    ]  # fmt: skip
    assert read.malformed == 0


def test_plus_models_and_their_limits() -> None:
    plus = Transcriber(tiny_checkpoint("plus"), detector=by_loudness())
    with running(Settings(model=("plus",)), lambda name: plus) as server:
        body = {"messages": [user(parts(SPEAKERS))], "max_new_tokens": 8}
        reply = server.post(PATH, json=body).json()["choices"][0]["message"]["content"]
        assert reply == plus.transcribe(WAV, task="speakers", max_new_tokens=8).text
        refused = server.post(PATH, json={"messages": [user(parts("translate the speech to French."))]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_value")


# --- bad input


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "messages", "missing_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "transcribe"}, "messages", "invalid_value"),
        ({"messages": ["transcribe"]}, "messages[0]", "invalid_value"),
        ({"messages": [user("transcribe")]}, "messages", "invalid_audio_count"),
        ({"messages": [user(parts() + parts())]}, "messages", "invalid_audio_count"),
        ({"messages": [user(parts()), user(parts())]}, "messages", "invalid_audio_count"),
        ({"messages": [{"role": "system", "content": parts()}]}, "messages[0]", "invalid_value"),
        ({"messages": [{"role": "robot", "content": parts()}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"content": parts()}]}, "messages[0].role", "missing_parameter"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_parameter"),
        ({"messages": [user([])]}, "messages[0].content", "invalid_value"),
        ({"messages": [user([7])]}, "messages[0].content[0]", "invalid_value"),
        ({"messages": [user([{"type": "image_url"}])]}, "messages[0].content[0].type", "invalid_value"),
        ({"messages": [user([{}])]}, "messages[0].content[0].type", "missing_parameter"),
        ({"messages": [user([{"type": "text"}])]}, "messages[0].content[0].text", "missing_parameter"),
        ({"messages": [user([{"type": "text", "text": 3}])]}, "messages[0].content[0].text", "invalid_value"),
        ({"messages": [user([{"type": "input_audio", "input_audio": "x"}])]},
         "messages[0].content[0].input_audio", "invalid_value"),
        ({"messages": [user([{"type": "input_audio", "input_audio": {"data": "A"}}])]},
         "messages[0].content[0].input_audio.data", "invalid_base64"),
        ({"messages": [user([{"type": "input_audio", "input_audio": {"data": ""}}])]},
         "messages[0].content[0].input_audio.data", "empty_file"),
        ({"messages": [user([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": 3}}])]},
         "messages[0].content[0].input_audio.format", "invalid_value"),
        ({"model": "nothing"}, "model", "model_not_found"),
        ({"model": 3}, "model", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_value"),
        ({"stream_options": [1]}, "stream_options", "invalid_value"),
        ({"stream_options": {"include_usage": "x"}}, "stream_options.include_usage", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": True}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens", "invalid_value"),
        ({"n": 2}, "n", "unsupported_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"temperature": [[1]]}, "temperature", "invalid_value"),
        ({"temperature": 0.0, "top_p": 7}, "top_p", "unsupported_value"),
        ({"temperature": 0.5, "seed": -1}, "seed", "unsupported_value"),
        ({"top_k": "many"}, "top_k", "invalid_value"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_value"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
        ({"keywords": ["<|audio|>"]}, None, "unsupported_value"),
        ({"keywords": {"a": 1}}, "keywords", "invalid_value"),
        ({"language": "xx"}, "language", "unsupported_value"),
        ({"temprature": 1}, "temprature", "unknown_parameter"),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused(server: Running, body: dict[str, Any], param: str | None, code: str) -> None:
    full = body if "messages" in body or not body else {"messages": [user(parts())], **SHORT, **body}
    reply = server.post(PATH, json=full)
    error = reply.json()["error"]
    status = 404 if code == "model_not_found" else 400
    assert (reply.status_code, error["param"], error["code"]) == (status, param, code)
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) > 15


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:audio/wav,abc", "invalid_data_url"),
        ("data:audio/wav;base64", "invalid_data_url"),
        ("data:;base64,!!", "invalid_base64"),
        ("data:;base64,", "empty_file"),
        ("data:;base64,AAAA", "invalid_audio"),
        (["x"], "invalid_value"),
        ("https://example.com/a.wav", "url_not_allowed"),
        ("file:///etc/passwd", "url_not_allowed"),
    ],
)
def test_bad_urls_are_refused(server: Running, url: Any, code: str) -> None:
    reply = server.post(PATH, json={"messages": [user(parts(None, url))]})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, code)
    assert error["param"] == "messages[0].content[0].audio_url.url"


@pytest.mark.parametrize(
    "content", [b"[]", b"7", b"{", b'{"model": "\\ud800"}', b"\xff", b"", b'{"n": 1' + b"0" * 9000]
)
def test_bodies_that_are_no_json_objects(server: Running, content: bytes) -> None:
    reply = server.post(PATH, content=content, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")


def test_a_stream_that_fails_at_once_has_a_status(server: Running) -> None:
    body = {"messages": [user(parts(None, "data:;base64,AAAA"))], "stream": True}
    reply = server.post(PATH, json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_audio")


ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 10**30, 0.5, -0.0, float("nan"), float("inf"), 1e308, "", " ", "x", "0", "true",
    "null", "data:,", "https://127.0.0.1/", "\x00", "é" * 200, "[", "<|audio|>", "user", "text", "audio_url",
    [], [[]], [None], ["x"], [{}], {}, {"type": "text"}, {"type": {}}, {"url": 1}, {"": None}, [[[[1]]]],
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutated(body: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A place gets an odd value, is left out, or is wrapped in a list; sometimes several are."""
    body = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        *path, key = chance.choice(list(places(body)))
        holder = body
        for step in path:
            holder = holder[step]
        how = chance.random()
        if how < 0.75:
            holder[key] = copy.deepcopy(chance.choice(ODD))
        elif how < 0.9:
            del holder[key]
        else:
            holder[key] = [holder[key]]
    return body


@pytest.mark.parametrize("cases", [40, pytest.param(500, marks=pytest.mark.full)])
def test_every_odd_value_in_every_place_is_served_or_refused(server: Running, cases: int) -> None:
    body = {
        "model": "tiny", "stream": False, "stream_options": {"include_usage": True}, "max_tokens": 4,
        "max_completion_tokens": 4, "temperature": 0.1, "top_p": 0.9, "top_k": 5, "seed": 1, "n": 1, "logprobs": False,
        "response_format": {"type": "text"}, "modalities": ["text"], "use_beam_search": False, "stop": ["x"],
        "keywords": ["stone"], "language": "en", "task": "transcribe", "punctuate": True, "max_new_tokens": 3,
        "messages": [
            {"role": "system", "content": "Be exact."},
            user([{"text": RAW}, {"type": "input_audio", "input_audio": {"data": BRIEF, "format": "x"}}]),
            {"role": "assistant", "content": [{"type": "text", "text": "ok"}]},
            user(PUNCTUATED),
        ],
    }  # fmt: skip
    assert server.post(PATH, json=body).status_code == 200
    chance, statuses = random.Random(19), list[int]()
    with httpx2.Client(base_url=server.url, timeout=60, headers={"content-type": "application/json"}) as client:
        for number in range(cases):
            content = json.dumps(mutated(body, chance))  # which writes NaN, as clients may
            reply = client.post(PATH, content=content.encode())
            statuses.append(reply.status_code)
            assert reply.status_code in (200, 400, 404), (number, content, reply.text)
            if reply.status_code != 200:
                error = reply.json()["error"]
                assert set(error) == {"message", "type", "param", "code"}
                assert error["code"] not in ("internal_error", None)
    assert statuses.count(200) > cases / 25
    assert statuses.count(400) > cases / 3
