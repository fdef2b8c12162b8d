"""OpenAI's contract of transcriptions and translations, by its own client where that can say it."""

from __future__ import annotations

import base64
import io
from typing import Any

import openai
import pytest
from openai.types.audio import TranscriptionVerbose

from lithophone.formats import CueOptions, render
from lithophone.pipeline.transcriber import Transcriber
from tests.server.running import Running, wav

WAV = wav()
SHORT = {"max_new_tokens": 12, "decode": "greedy"}
SPELLED = {"decode": "ctc", "ctc_head": "characters"}
"""Words that the character head of a random model can align."""


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


@pytest.fixture(scope="module")
def expected(tiny: Transcriber) -> str:
    return tiny.transcribe(WAV, **SHORT).text


def upload(data: bytes = WAV, name: str = "a.wav") -> dict[str, Any]:
    return {"file": (name, data, "application/octet-stream")}


# --- formats


def test_json_is_the_default(client: openai.OpenAI, expected: str) -> None:
    reply = client.audio.transcriptions.create(model="whisper-1", file=WAV, extra_body=SHORT)
    assert reply.text == expected
    assert reply.usage.seconds == 2


def test_text_is_the_text_alone(client: openai.OpenAI, expected: str) -> None:
    reply = client.audio.transcriptions.create(model="tiny", file=WAV, response_format="text", extra_body=SHORT)
    assert reply == f"{expected}\n"


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_are_those_of_the_command_line(client: openai.OpenAI, tiny: Transcriber, kind: Any) -> None:
    reply = client.audio.transcriptions.create(model="tiny", file=WAV, response_format=kind, extra_body=SHORT)
    assert reply == render(kind, tiny.transcribe(WAV, **SHORT))


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_options_of_cues_are_fields(server: Running, tiny: Transcriber, kind: str) -> None:
    fields = {"max_line_width": "9", "max_line_count": "1", "max_cue_s": "2.5", "max_cps": "12", **SHORT}
    reply = server.post("/v1/audio/transcriptions", data={"response_format": kind, **fields}, files=upload())
    assert reply.text == render(kind, tiny.transcribe(WAV, **SHORT), CueOptions(9, 1, 2.5, 12.0))


def test_highlighted_words_ask_for_their_times(server: Running, tiny: Transcriber) -> None:
    fields = {"response_format": "srt", "highlight_words": "true", **SPELLED}
    reply = server.post("/v1/audio/transcriptions", data=fields, files=upload())
    timed = tiny.transcribe(WAV, word_timestamps=True, **SPELLED)
    assert reply.text == render("srt", timed, CueOptions(highlight_words=True))


@pytest.mark.parametrize(
    ("granularities", "has_segments", "has_words"),
    [([], True, False), (["segment"], True, False), (["word"], False, True), (["word", "segment"], True, True)],
)
def test_verbose_json_has_what_its_granularities_ask(
    client: openai.OpenAI, granularities: Any, has_segments: bool, has_words: bool
) -> None:
    reply = client.audio.transcriptions.create(
        model="tiny", file=WAV, response_format="verbose_json", language="en", extra_body=SPELLED,
        **({"timestamp_granularities": granularities} if granularities else {}),
    )  # fmt: skip
    TranscriptionVerbose.model_validate(reply.model_dump(), strict=True)
    assert reply.language == "english"
    assert (bool(reply.segments), bool(reply.words)) == (has_segments, has_words)
    assert reply.duration == pytest.approx(1.8)


def test_logprobs_are_confidences_of_words(client: openai.OpenAI) -> None:
    reply = client.audio.transcriptions.create(model="tiny", file=WAV, include=["logprobs"], extra_body=SPELLED)
    assert " ".join(one.token for one in reply.logprobs).split() == reply.text.split() != []
    assert all(one.logprob <= 0 for one in reply.logprobs)


def test_a_stream_has_deltas_that_are_the_text(client: openai.OpenAI, expected: str) -> None:
    events = list(client.audio.transcriptions.create(model="tiny", file=WAV, stream=True, extra_body=SHORT))
    assert [event.type for event in events][-1] == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == expected


def test_a_stream_of_verbose_json_ends_with_its_segments_and_words(client: openai.OpenAI, server: Running) -> None:
    asked = {
        "model": "tiny", "file": WAV, "response_format": "verbose_json", "timestamp_granularities": ["word", "segment"],
        "language": "en", "extra_body": SPELLED,
    }  # fmt: skip
    whole = client.audio.transcriptions.create(**asked).model_dump()
    *parts, done = client.audio.transcriptions.create(**asked, stream=True)
    ended = done.model_dump()
    assert whole["words"]
    names = whole.keys() - {"usage"}
    assert {name: ended[name] for name in names} == {name: whole[name] for name in names}
    segments = [part for part in parts if part.type == "transcript.text.segment"]
    assert [segment.end for segment in segments] == [segment["end"] for segment in whole["segments"]]


def test_translations_go_to_english_or_to_the_language_named(server: Running, tiny: Transcriber) -> None:
    fields = {"model": "whisper-1", "language": "fr", "max_new_tokens": "12"}
    english = server.post("/v1/audio/translations", data=fields, files=upload()).json()
    japanese = server.post(
        "/v1/audio/translations", data={**fields, "language": "en", "to": "ja"}, files=upload()
    ).json()
    assert english["text"] == tiny.transcribe(WAV, task="translate", language="fr", to="en", max_new_tokens=12).text
    assert japanese["text"] == tiny.transcribe(WAV, task="translate", language="en", to="ja", max_new_tokens=12).text


# --- fields, as clients write them


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"language": "pt-BR", **SHORT}, {"language": "pt", **SHORT}),
        ({"language": "german", **SHORT}, {"language": "de", **SHORT}),
        ({"languages[]": "ja", **SHORT}, {"language": "ja", **SHORT}),
        ({"keywords": "stone,granite", "num_beams": "2", "decode": "beam"},
         {"keywords": ("stone", "granite"), "num_beams": 2, "decode": "beam"}),
        ({"prompt": "Stone, Granite", **SHORT}, {"keywords": ("Stone", "Granite"), **SHORT}),
        ({"hotwords": "stone", **SHORT}, {"keywords": ("stone",), **SHORT}),
        ({"temperature": "0.7", "seed": "3", "max_new_tokens": "9"},
         {"decode": "sample", "temperature": 0.7, "seed": 3, "max_new_tokens": 9}),
        ({"temperature": "0", "language": "", "prompt": "", **SHORT}, SHORT),
        ({"punctuate": "false", **SHORT}, {"punctuate": False, **SHORT}),
        ({"to_language": "fr", "max_new_tokens": "9"}, {"task": "translate", "to": "fr", "max_new_tokens": 9}),
        ({"vad_filter": "true", "chunking_strategy[type]": "server_vad", "user": "me", **SHORT}, SHORT),
    ],
)  # fmt: skip
def test_fields_are_options(server: Running, tiny: Transcriber, fields: dict[str, Any], options: Any) -> None:
    data = {name: str(value) for name, value in fields.items()}
    reply = server.post("/v1/audio/transcriptions", data=data, files=upload())
    assert reply.json()["text"] == tiny.transcribe(WAV, **options).text


def test_keywords_are_a_list_or_a_text(client: openai.OpenAI, tiny: Transcriber) -> None:
    wanted = tiny.transcribe(WAV, keywords=("stone", "granite"), **SHORT).text
    for keywords in (["stone", "granite"], "stone,granite"):
        body = {**SHORT, "keywords": keywords}
        assert client.audio.transcriptions.create(model="tiny", file=WAV, extra_body=body).text == wanted


def test_the_json_of_open_webui(server: Running, expected: str) -> None:
    body = {"model": "tiny", "input_audio": {"data": base64.b64encode(WAV).decode(), "format": "wav"}, **SHORT}
    assert server.post("/v1/audio/transcriptions", json=body).json()["text"] == expected


def test_the_file_may_come_in_chunks_and_of_any_type(server: Running, expected: str) -> None:
    fields = {name: (None, str(value)) for name, value in SHORT.items()}
    form = {"file": ("upload", io.BytesIO(WAV), "text/plain"), **fields}
    request = server.post("/v1/audio/transcriptions", files=form, headers={"accept": "application/json"})
    assert request.json()["text"] == expected


# --- bad input


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": "nothing"}, "model", "model_not_found"),
        ({"response_format": "docx"}, "response_format", "unsupported_value"),
        ({"timestamp_granularities[]": "phone"}, "timestamp_granularities", "unsupported_value"),
        ({"include[]": "tokens"}, "include", "unsupported_value"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"temperature": "nan"}, "temperature", "invalid_value"),
        ({"temperature": "3"}, "temperature", "invalid_value"),
        ({"language": "xx"}, "language", "unsupported_value"),
        ({"language": "de", "languages[]": "fr"}, "languages", "invalid_value"),
        ({"task": "translate", "language": "fr", "to": "de"}, "to", "unsupported_value"),
        ({"stream": "maybe"}, "stream", "invalid_value"),
        ({"num_beams": "two"}, "num_beams", "invalid_value"),
        ({"num_beams": "1000000000", "decode": "beam"}, "num_beams", "unsupported_value"),
        ({"lanugage": "de"}, "lanugage", "unknown_parameter"),
        ({"max_cps": "17"}, "max_cps", "unsupported_value"),
        ({"max_line_width": "30", "response_format": "verbose_json"}, "max_line_width", "unsupported_value"),
        ({"max_line_width": "wide", "response_format": "srt"}, "max_line_width", "invalid_value"),
        ({"max_cps": "0", "response_format": "vtt"}, "max_cps", "unsupported_value"),
        ({"max_cps": "nan", "response_format": "vtt"}, "max_cps", "unsupported_value"),
        ({"response_format": "diarized_json"}, None, "unsupported_value"),
    ],
)
def test_bad_fields_are_named(
    monkeypatch: pytest.MonkeyPatch, server: Running, fields: dict[str, str], param: str | None, code: str
) -> None:
    monkeypatch.setattr("lithophone.diarization.weights.PACKAGE", "a-package-that-is-not-there")
    reply = server.post("/v1/audio/transcriptions", data=fields, files=upload())
    error = reply.json()["error"]
    assert reply.status_code == (404 if code == "model_not_found" else 400)
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert len(error["message"]) > 15
    assert reply.headers["x-should-retry"] == "false"
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"data": {"model": "tiny"}, "files": {"other": b"x"}}, 400, "unknown_parameter"),
        ({"data": {"model": "tiny"}, "files": upload(b"")}, 400, "empty_file"),
        ({"data": {"model": "tiny"}, "files": upload(b"RIFFjunk" * 50)}, 400, "invalid_audio"),
        ({"data": {"model": "tiny"}, "files": upload(WAV[:30])}, 400, "invalid_audio"),
        ({"files": [("file", ("a", WAV)), ("file", ("b", WAV))]}, 400, "missing_file"),
        ({"data": {"model": "tiny"}}, 400, "missing_file"),
        ({"content": b"x", "headers": {"content-type": "application/xml"}}, 415, "unsupported_media_type"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "invalid_form"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, 400, "invalid_form"),
        (
            {
                "content": b'--y\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + WAV,
                "headers": {"content-type": "multipart/form-data; boundary=y"},
            },
            400,
            "invalid_form",
        ),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid_json"),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400, "invalid_json"),
        ({"json": {"model": "tiny"}}, 400, "missing_file"),
        ({"json": {"input_audio": {"data": "!!!"}}}, 400, "invalid_base64"),
        ({"data": {"model": "tiny"}, "files": upload(b"\0" * 6_000_000)}, 413, "body_too_large"),
    ],
)
def test_bad_bodies_are_refused(server: Running, given: dict[str, Any], status: int, code: str) -> None:
    reply = server.post("/v1/audio/transcriptions", **given)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_an_error_of_a_stream_that_begins_has_a_status(server: Running) -> None:
    reply = server.post("/v1/audio/transcriptions", data={"stream": "true"}, files=upload(b"junk" * 99))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_audio")


def test_the_clients_of_openai_raise_errors_of_their_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nothing"):
        client.audio.transcriptions.create(model="nothing", file=WAV)
    with pytest.raises(openai.BadRequestError, match="cannot be read"):
        client.audio.transcriptions.create(model="tiny", file=b"junk" * 99)


def test_silence_is_an_empty_text_with_a_warning(server: Running) -> None:
    reply = server.post("/v1/audio/transcriptions", files=upload(wav(0.0))).json()
    assert reply["text"] == ""
    assert [warning["code"] for warning in reply["warnings"]] == ["no_speech"]
