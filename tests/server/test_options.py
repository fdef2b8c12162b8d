"""An option is read the same way on every route."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from lithophone.pipeline.assembly import Event
from lithophone.pipeline.options import TranscribeOptions
from lithophone.server.errors import ApiError
from lithophone.server.jobs import Job
from lithophone.server.options import request_options
from lithophone.server.session import SessionConfig
from tests.server.running import Running, wav

AUDIO = base64.b64encode(wav(0.1)).decode()
FORMS = {"/v1/audio/transcriptions": "file", "/asr": "audio_file", "/inference": "file"}


@pytest.fixture
def asked(server: Running, monkeypatch: pytest.MonkeyPatch) -> list[TranscribeOptions]:
    """Options of every request; nothing is transcribed."""
    found: list[TranscribeOptions] = []

    async def events(job: Job) -> AsyncGenerator[Event, None]:
        found.append(job.options)
        raise ApiError(418, "asked")
        yield

    monkeypatch.setattr(server.jobs, "events", events)
    return found


def sent(server: Running, path: str, fields: dict[str, Any]) -> int:
    """The status of a request of any route, with the fields as that route has them."""
    if path == "/v1/chat/completions":
        part = {"type": "input_audio", "input_audio": {"data": AUDIO}}
        body = {"messages": [{"role": "user", "content": [part]}], **fields}
        return server.post(path, json=body).status_code
    if path == "json":
        body = {"input_audio": {"data": AUDIO}, **fields}
        return server.post("/v1/audio/transcriptions", json=body).status_code
    texts = {name: str(value) for name, value in fields.items()}
    return server.post(path, data=texts, files={FORMS[path]: wav(0.1)}).status_code


@pytest.mark.parametrize("path", [*FORMS, "json", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"language": "Portuguese"}, {"language": "pt"}),
        ({"language": "auto"}, {"language": "auto"}),
        ({"language": "AUTO"}, {"language": "auto"}),
        ({"keywords": "stone,granite"}, {"keywords": ("stone", "granite")}),
        ({"temperature": 0.5}, {"decode": "sample", "temperature": 0.5}),
        ({"decode": "sample", "temperature": 0.3, "top_k": 4},
         {"decode": "sample", "temperature": 0.3, "top_k": 4}),
        ({"decode": "beam", "temperature": 0.7}, {"decode": "beam"}),
        ({"temperature": 0, "top_p": 0.9, "top_k": -1, "seed": 3, "length_penalty": 1.0}, {}),
        ({"length_penalty": 1.5}, {"length_penalty": 1.5}),
        ({"use_beam_search": True, "length_penalty": 1.0}, {"decode": "beam", "length_penalty": 1.0}),
        ({"task": "translate", "language": "fr", "to": "en"}, {"task": "translate", "language": "fr", "to": "en"}),
    ],
)  # fmt: skip
def test_a_field_is_the_same_option_on_every_route(
    server: Running, asked: list[TranscribeOptions], path: str, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    assert sent(server, path, fields) == 418
    assert asked == [TranscribeOptions(**options)]


@pytest.mark.parametrize("path", [*FORMS, "json", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("fields", "status"), [({"top_p": 7}, 400), ({"temperature": 9}, 400), ({"decode": "best"}, 400)]
)
def test_a_wrong_value_is_refused_on_every_route(
    server: Running, asked: list[TranscribeOptions], path: str, fields: dict[str, Any], status: int
) -> None:
    assert (sent(server, path, fields), asked) == (status, [])


def test_a_live_session_reads_fields_as_the_other_routes() -> None:
    asked = {"language": "Portuguese", "keywords": ["stone"], "prompt": "Ada, Ohm", "temperature": 0.5, "delay": "low"}
    config = SessionConfig.new(None).updated({"audio": {"input": {"transcription": asked}}})
    assert config.options() == TranscribeOptions(
        language="pt", keywords=("stone", "Ada", "Ohm"), decode="sample", temperature=0.5
    )


def test_defaults_hold_for_their_task_alone() -> None:
    into_english = {"task": "translate", "to": "en"}
    assert request_options({"task": ["transcribe"]}, into_english) == TranscribeOptions()
    assert request_options({"to": ["fr"]}, into_english) == TranscribeOptions(task="translate", to="fr")
    assert request_options({"task": ["translate"]}, into_english) == TranscribeOptions(task="translate", to="en")
    assert request_options({"to_language": ["de"]}) == TranscribeOptions(task="translate", to="de")


def test_the_source_of_word_times_is_a_field() -> None:
    fields = {"task": ["word-times"], "timestamps": ["aligned"]}
    assert request_options(fields) == TranscribeOptions(task="word-times", timestamps="aligned")
    with pytest.raises(ApiError, match="unknown timestamps 'clock'; there are tags, aligned") as refused:
        request_options({**fields, "timestamps": ["clock"]})
    assert (refused.value.status, refused.value.param) == (400, "timestamps")


@pytest.mark.parametrize(
    ("path", "fields", "options"),
    [
        ("/v1/audio/transcriptions", {"response_format": "diarized_json"}, {"diarize": True}),
        (
            "/v1/audio/transcriptions",
            {"response_format": "diarized_json", "speakers": 3},
            {"diarize": True, "speakers": 3},
        ),
        ("/v1/audio/transcriptions", {"response_format": "diarized_json", "task": "speakers"}, {"task": "speakers"}),
        ("/v1/audio/transcriptions", {"diarize": "true", "max_speakers": 2}, {"diarize": True, "max_speakers": 2}),
        ("/asr", {"diarize": "true", "min_speakers": 2}, {"diarize": True, "min_speakers": 2}),
        ("/asr", {"enable_diarization": "true"}, {"diarize": True}),
        ("/asr", {"min_speakers": 2, "max_speakers": 5}, {}),
        ("/inference", {"diarize": "true"}, {"diarize": True}),
        ("/v1/chat/completions", {"diarize": True, "speakers": 2}, {"diarize": True, "speakers": 2}),
    ],
)
def test_speakers_are_asked_for_by_the_fields_of_each_route(
    server: Running, asked: list[TranscribeOptions], path: str, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    assert sent(server, path, fields) == 418
    assert [replace(one, punctuate=None) for one in asked] == [TranscribeOptions(**options)]


def test_plus_models_name_speakers_by_their_tags() -> None:
    job = Job(b"", "a recording", "tiny", TranscribeOptions(diarize=True, max_speakers=4, language="en"))
    assert job.options_for("granite_speech") == job.options
    assert job.options_for("granite_speech_plus") == TranscribeOptions(task="speakers", language="en")
    plain = Job(b"", "a recording", "tiny", TranscribeOptions(language="en"))
    assert plain.options_for("granite_speech_plus") == plain.options
