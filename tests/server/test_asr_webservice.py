"""whisper-asr-webservice and whisper.cpp: requests as Bazarr, Speakr and scripts send them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import threading
from collections.abc import AsyncGenerator
from email.message import Message
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile

from lithophone.errors import CancelledError
from lithophone.formats import CueOptions, render
from lithophone.languages import SOURCE_LANGUAGES, TABLE
from lithophone.pipeline import spoken_language
from lithophone.pipeline.assembly import Event, RecordingDone
from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.asr_webservice import attachment
from lithophone.server.guardian import Judged, Verdict
from lithophone.server.settings import Settings
from lithophone.transcript import LanguageGuess
from tests.server.running import RATE_HZ, Running, running, wav
from tests.sounds import silence, tone

WAV = wav(0.5)
SHORT = {"max_new_tokens": 6, "decode": "greedy"}
SPELLED = {"decode": "ctc", "ctc_head": "characters"}
SAMPLES = np.concatenate([silence(0.4), tone(0.5, frequency_hz=300.0), silence(0.4)])
RAW = (SAMPLES * 32767).astype("<i2").tobytes()


def asr(server: Running, data: bytes = WAV, name: str = "a.wav", **parameters: Any) -> Any:
    return server.post("/asr", params={**SHORT, **parameters}, files={"audio_file": (name, data)})


@pytest.mark.parametrize("output", ["txt", "vtt", "srt", "tsv", "json"])
def test_outputs_are_those_of_the_command_line(server: Running, tiny: Transcriber, output: str) -> None:
    reply = asr(server, output=output)
    assert reply.text == render(output, tiny.transcribe(WAV, **SHORT))
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.headers["asr-engine"] == "lithophone"
    assert reply.headers["content-disposition"] == f'attachment; filename="a.wav.{output}"'


def test_text_is_the_default(server: Running, tiny: Transcriber) -> None:
    assert asr(server).text == f"{tiny.transcribe(WAV, **SHORT).text}\n"


def test_raw_samples_have_no_header(server: Running, tiny: Transcriber) -> None:
    """As Bazarr sends them."""
    parameters = {"encode": "false", "output": "srt", "language": "en", "video_file": "/media/a film.mkv", **SHORT}
    reply = server.post("/asr", params=parameters, files={"audio_file": RAW})
    samples = np.frombuffer(RAW, "<i2")
    assert reply.text == render("srt", tiny.transcribe(samples, RATE_HZ, language="en", **SHORT))


def test_half_a_sample_at_the_end_is_a_warning(server: Running) -> None:
    reply = json.loads(asr(server, RAW + b"\0", "audio.raw", encode="false", output="json").text)
    assert "ends within a sample" in {one["code"]: one["message"] for one in reply["warnings"]}["damaged"]


def test_json_is_whispers_with_words(server: Running) -> None:
    parameters = {"output": "json", "word_timestamps": "true", "language": "en", **SPELLED}
    reply = server.post("/asr", params=parameters, files={"audio_file": WAV}).json()
    assert (reply["language"], reply["task"]) == ("en", "transcribe")
    word = reply["segments"][0]["words"][0]
    assert 0 <= word["start"] <= word["end"] <= 1.3
    assert set(word) == {"word", "start", "end", "probability"}


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({"task": "translate", "language": "fr"}, {"task": "translate", "language": "fr", "to": "en"}),
        ({"task": "translate", "language": "en"}, {"language": "en"}),
        ({"task": "translate", "language": "english"}, {"language": "en"}),
        ({"language": "german", "task": ""}, {"language": "de"}),
        ({"language": "auto"}, {"language": "auto"}),
        ({"initial_prompt": "Stone, Granite"}, {"keywords": ("Stone", "Granite")}),
        ({"hotwords": "stone,granite"}, {"keywords": ("stone", "granite")}),
        ({"vad_filter": "true", "word_timestamps": "false", "diarize": "false", "min_speakers": "1"}, {}),
        ({"punctuate": "false"}, {"punctuate": False}),
    ],
)
def test_parameters_are_options(server: Running, tiny: Transcriber, parameters: Any, options: Any) -> None:
    assert asr(server, **parameters).text == render("txt", tiny.transcribe(WAV, **{**SHORT, **options}))


def test_parameters_may_be_fields_of_the_form(server: Running, tiny: Transcriber) -> None:
    reply = server.post("/asr", data={**SHORT, "output": "tsv"}, files={"audio_file": WAV})
    assert reply.text == render("tsv", tiny.transcribe(WAV, **SHORT))


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"output": "docx"}, "output"),
        ({"task": "dance"}, "task"),
        ({"language": "xx"}, "language"),
        ({"encode": "perhaps"}, "encode"),
        ({"diarize": "true"}, None),
        ({"diarize": "true", "task": "translate", "language": "fr"}, "diarize"),
        ({"model": "nothing"}, "model"),
        ({"outptu": "srt"}, "outptu"),
        ({"word_timestamps": "true", "task": "translate", "language": "fr"}, "word_timestamps"),
    ],
)
def test_bad_parameters_are_named(
    monkeypatch: pytest.MonkeyPatch, server: Running, parameters: dict[str, str], param: str | None
) -> None:
    monkeypatch.setattr("lithophone.diarization.weights.PACKAGE", "a-package-that-is-not-there")
    reply = asr(server, **parameters)
    assert (reply.status_code, reply.json()["error"]["param"]) == (404 if param == "model" else 400, param)


@pytest.mark.parametrize(
    ("data", "parameters", "status", "code"),
    [
        (b"", {}, 400, "empty_file"),
        (b"", {"encode": "false"}, 400, "empty_file"),
        (b"x", {"encode": "false"}, 400, "invalid_audio"),
        (b"some words " * 99, {}, 400, "invalid_audio"),
        (bytes(5_100_000), {"encode": "false"}, 413, "body_too_large"),
    ],
)
def test_bad_recordings_are_refused(server: Running, data: bytes, parameters: Any, status: int, code: str) -> None:
    reply = asr(server, data, **parameters)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_a_request_without_its_file_is_refused(server: Running) -> None:
    reply = server.post("/asr", files={"file": WAV})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "file")
    reply = server.post("/asr", data={"output": "srt"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "audio_file")


class Flagging:
    """In the place of a Guardian: flags every transcript."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    async def judged(self, events: AsyncGenerator[Event, None], prompt: str) -> AsyncGenerator[Event, None]:
        self.prompts.append(prompt)
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, RecordingDone):
                    event = Judged(event.source, event.result, verdict=Verdict("no", "yes"))
                yield event


@pytest.mark.parametrize("output", ["json", "srt"])
def test_a_guardian_judges_words_and_transcript(server: Running, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    guardian = Flagging()
    monkeypatch.setattr(server.jobs, "guardian", guardian)
    reply = asr(server, output=output, initial_prompt="Stone, Granite")
    assert guardian.prompts == ["Stone, Granite"]
    if output == "json":
        assert reply.json()["guardian"]["flagged"] is True
    assert "-->" in reply.text or output == "json"


# --- names of files in a header


def file_name(header: str) -> str:
    """As RFC 6266 reads it: `filename*` first."""
    encoded = re.search(r"; filename\*=UTF-8''([^;]*)$", header)
    if encoded:
        return unquote(encoded[1], errors="strict")
    message = Message()
    message["content-disposition"] = header
    return str(message.get_filename())


@pytest.mark.parametrize(
    "name",
    ["a b.mp3", 'say "hello".wav', "über allem.mkv", "会議.wav", "a;b=c.wav", "100%.wav", "it's.wav", "😀.ogg"],
)
def test_names_are_read_back_as_they_were(name: str) -> None:
    header = attachment(name)
    assert header.isascii()
    assert file_name(header) == name


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a\r\nset-cookie: x=1.wav", "a__set-cookie: x=1.wav"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("C:\\a.wav", "C:_a.wav"),
        ("\0\x7f\x85", "___"),
    ],
)
def test_names_cannot_add_headers_or_folders(name: str, plain: str) -> None:
    assert attachment(name).isprintable()
    assert file_name(attachment(name)) == plain


def test_a_name_of_any_kind_comes_back_over_the_wire(server: Running) -> None:
    reply = asr(server, name='tür "zwei"\r\n.wav', output="srt")
    assert reply.status_code == 200
    name = file_name(reply.headers["content-disposition"])
    assert name.startswith("tür ")
    assert name.endswith(".wav.srt")


def test_a_long_name_is_cut(server: Running) -> None:
    assert len(asr(server, name="x" * 1_000).headers["content-disposition"]) < 250


# --- languages


@pytest.mark.parametrize(("parameters", "data"), [({}, WAV), ({"encode": "false", "video_file": "a.mkv"}, RAW)])
def test_the_language_is_told(server: Running, tiny: Transcriber, parameters: dict[str, str], data: bytes) -> None:
    """As Bazarr asks for it."""
    reply = server.post("/detect-language", params=parameters, files={"audio_file": data})
    guess = tiny.detect_language(WAV)
    assert guess.language in SOURCE_LANGUAGES
    assert reply.json() == {
        "detected_language": TABLE[guess.language].api_name,
        "language_code": guess.language,
        "confidence": pytest.approx(guess.probability, abs=0.001),
        "language_probabilities": pytest.approx(guess.probabilities, abs=0.001),
    }


def test_silence_has_no_language(server: Running) -> None:
    reply = server.post("/detect-language", files={"audio_file": wav(0.0)}).json()
    assert (reply["detected_language"], reply["language_code"], reply["confidence"]) == ("unknown", None, None)
    assert reply["language_probabilities"] == {}


@pytest.mark.parametrize(
    ("fields", "data", "code"),
    [
        ({"language": "en"}, WAV, "unknown_parameter"), ({"output": "json"}, WAV, "unknown_parameter"),
        ({"model": "none"}, WAV, "model_not_found"), ({}, b"no recording", "invalid_audio"),
    ],
)  # fmt: skip
def test_what_language_detection_refuses(server: Running, fields: dict[str, str], data: bytes, code: str) -> None:
    reply = server.post("/detect-language", params=fields, files={"audio_file": data})
    assert reply.status_code in (400, 404)
    assert reply.json()["error"]["code"] == code


def test_a_language_that_takes_too_long_is_given_up(tiny: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def detect_language(source: object, *, cancelled: threading.Event) -> LanguageGuess:
        assert cancelled.wait(20)
        ended.set()
        raise CancelledError("cancelled")

    slow = Transcriber(tiny.checkpoint, detector=tiny.detector)
    monkeypatch.setattr(slow, "detect_language", detect_language)
    with running(Settings(model=("tiny",), request_timeout_s=0.2), lambda name: slow) as one:
        reply = one.post("/detect-language", files={"audio_file": WAV})
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")
        assert ended.wait(20)


@pytest.mark.parametrize("route", ["/inference", "/v1/audio/transcriptions"])
def test_a_language_that_is_told_is_in_the_reply(server: Running, tiny: Transcriber, route: str) -> None:
    expected = tiny.transcribe(WAV, language="auto", **SHORT)
    assert expected.language_guess is not None
    fields = {"language": "auto", "response_format": "verbose_json", **SHORT}
    reply = server.post(route, data=fields, files={"file": ("a.wav", WAV)}).json()
    name = TABLE[str(expected.language)].api_name
    assert (reply["text"], reply["language"], reply["detected_language"]) == (expected.text, name, name)
    assert reply["detected_language_probability"] == pytest.approx(expected.language_probability, abs=0.001)
    assert reply["language_probabilities"] == pytest.approx(expected.language_guess.probabilities, abs=0.001)
    plain = server.post(route, data={**fields, "response_format": "json"}, files={"file": ("a.wav", WAV)}).json()
    assert plain["languages"] == [{"code": expected.language}]
    assert plain["language_probability"] == reply["detected_language_probability"]
    given = server.post(route, data={**fields, "language": "fr"}, files={"file": ("a.wav", WAV)}).json()
    assert not {"detected_language", "detected_language_probability", "language_probabilities"} & set(given)


def test_streamed_deltas_are_the_text_of_the_language_told(
    server: Running, tiny: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spoken_language, "guess_of", lambda *_: LanguageGuess({"ja": 0.9, "en": 0.1}))
    two = io.BytesIO()
    parts = [silence(0.4), tone(0.5), silence(1.5), tone(0.6, frequency_hz=500.0), silence(0.4)]
    soundfile.write(two, np.concatenate(parts), RATE_HZ, format="WAV")
    fields = {"language": "auto", "stream": "true", **SHORT}
    reply = server.post("/v1/audio/transcriptions", data=fields, files={"file": ("a.wav", two.getvalue())}).text
    events = [json.loads(line[6:]) for line in reply.splitlines() if line.startswith("data: {")]
    deltas = [event["delta"] for event in events if event["type"] == "transcript.text.delta"]
    assert len(deltas) == 2
    assert "".join(deltas) == events[-1]["text"]
    assert events[-1]["languages"] == [{"code": "ja"}]


# --- whisper.cpp


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
def test_whisper_cpp_gives_its_formats(server: Running, tiny: Transcriber, response_format: str) -> None:
    fields = {"response_format": response_format, "temperature": "0.0", "temperature_inc": "0.2", **SHORT}
    reply = server.post("/inference", data=fields, files={"file": ("a.wav", WAV)})
    expected = tiny.transcribe(WAV, **SHORT)
    assert reply.text == (f"{expected.text}\n" if response_format == "text" else render(response_format, expected))


@pytest.mark.parametrize(
    ("route", "file", "kind"), [("/inference", "file", "response_format"), ("/asr", "audio_file", "output")]
)
def test_options_of_cues_are_fields(server: Running, tiny: Transcriber, route: str, file: str, kind: str) -> None:
    fields = {kind: "srt", "max_line_width": "9", "max_line_count": "1", "max_cps": "12", **SHORT}
    reply = server.post(route, data=fields, files={file: ("a.wav", WAV)})
    assert reply.text == render("srt", tiny.transcribe(WAV, **SHORT), CueOptions(9, 1, max_cps=12.0))
    refused = server.post(route, data={**fields, kind: "json"}, files={file: ("a.wav", WAV)})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_line_width")


def test_whisper_cpp_translates_into_english(server: Running, tiny: Transcriber) -> None:
    fields = {"language": "fr", "translate": "true", "response_format": "json", "max_new_tokens": 6}
    reply = server.post("/inference", data=fields, files={"file": ("a.wav", WAV)})
    assert reply.json()["text"] == tiny.transcribe(WAV, task="translate", language="fr", to="en", max_new_tokens=6).text


def test_whisper_cpp_has_segments_and_the_language_in_verbose_json(server: Running) -> None:
    fields = {"response_format": "verbose_json", "language": "de", **SHORT}
    reply = server.post("/inference", data=fields, files={"file": ("a.wav", WAV)}).json()
    assert reply["language"] == "german"
    assert {"start", "end", "text"} <= set(reply["segments"][0])


@pytest.mark.parametrize(("name", "value"), [("offset_t", "5000"), ("split_on_word", "true"), ("max_len", "20")])
def test_whisper_cpp_fields_that_would_change_the_reply_are_refused(server: Running, name: str, value: str) -> None:
    reply = server.post("/inference", data={name: value}, files={"file": ("a.wav", WAV)})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)
    assert server.post("/inference", data={name: "0", **SHORT}, files={"file": ("a.wav", WAV)}).status_code == 200
