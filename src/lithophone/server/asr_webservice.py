"""Servers of Whisper that media tools speak to: `POST /asr` and `/detect-language` of whisper-asr-webservice, and
`POST /inference` of whisper.cpp."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.responses import Response

from lithophone.formats import CueOptions, render
from lithophone.formats.documents import api_name
from lithophone.languages import base_language
from lithophone.pipeline.assembly import RecordingDone
from lithophone.pipeline.options import TranscribeOptions
from lithophone.server import openapi
from lithophone.server.disconnect import unless_gone
from lithophone.server.errors import ApiError
from lithophone.server.forms import Form, Upload, read_form
from lithophone.server.jobs import Job, Jobs
from lithophone.server.options import (
    check_known,
    choice,
    cue_options,
    flag,
    language_of,
    last,
    request_options,
    words_of_user,
)
from lithophone.server.raw import RawFormat
from lithophone.server.replies import TEXT_TYPES, reply, verdict_of
from lithophone.transcript import Transcript

router = APIRouter()

OUTPUTS = ("txt", "vtt", "srt", "tsv", "json")
ENCODE = openapi.flag("false: audio_file is raw 16-bit little-endian samples, 16 kHz, one channel, without a header.")
FIELDS = {
    "encode": ENCODE,
    "task": openapi.text("transcribe, or translate into English; plus models have further tasks."),
    "diarize": openapi.flag("A segment for each speaker."),
    "enable_diarization": openapi.flag("As diarize."),
    "output": openapi.text(enum=list(OUTPUTS)),
    **openapi.cue_fields(),
}
"""Parameters of /asr, beside those of all routes."""

DETECTION_FIELDS = {"encode": ENCODE, "model": openapi.FIELDS["model"]}
"""Parameters of /detect-language."""

ASR_IGNORED = ("return_speaker_embeddings", "video_file")

BOUNDS = ("speakers", "min_speakers", "max_speakers")
"""Left out where speakers are not asked for: clients send them always."""

CPP_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
CPP_FIELDS = {
    "translate": openapi.flag("true: into English."),
    "diarize": openapi.flag("A segment for each speaker."),
    "response_format": openapi.text(enum=list(CPP_FORMATS)),
    **openapi.cue_fields(),
}
"""Fields of /inference, beside those of all routes."""

CPP_IGNORED = (
    "temperature_inc", "max_context", "audio_ctx", "word_thold", "entropy_thold", "logprob_thold", "no_speech_thold",
    "debug_mode", "no_timestamps", "token_timestamps", "suppress_non_speech", "suppress_nst", "no_context",
    "no_language_probabilities", "vad", "vad_threshold", "vad_min_speech_duration_ms", "vad_min_silence_duration_ms",
    "vad_max_speech_duration_s", "vad_speech_pad_ms", "vad_samples_overlap",
)  # fmt: skip
CPP_UNSET = {
    "offset_t": "0", "offset_n": "0", "duration": "0", "max_len": "0", "split_on_word": "false",
    "tinydiarize": "false", "detect_language": "false",
}  # fmt: skip
"""Fields that would change the reply, accepted with the value that leaves it as it is."""

CPP_REPLIES = {
    "application/json": {"anyOf": [openapi.ref("Transcription"), openapi.ref("TranscriptionVerbose")]},
    **{kind: openapi.text() for kind in TEXT_TYPES.values()},
}

NAME_LIMIT = 150
"""Characters of a file's name in a header."""


def _asr_operation() -> dict[str, Any]:
    fields = openapi.fields_with(FIELDS, ASR_IGNORED)
    given = {"parameters": openapi.query(fields), "requestBody": openapi.body(openapi.form("audio_file", fields))}
    summary = "Transcribe as whisper-asr-webservice does"
    return openapi.operation(summary, {"text/plain": openapi.text()}, openapi.ON_RECORDINGS, id="asr", **given)


def _inference_operation() -> dict[str, Any]:
    unset = {name: openapi.text(f"{value}, or left out.") for name, value in CPP_UNSET.items()}
    fields = openapi.fields_with({**CPP_FIELDS, **unset}, CPP_IGNORED)
    given = {"requestBody": openapi.body(openapi.form("file", fields))}
    summary = "Transcribe as whisper.cpp's server does"
    return openapi.operation(summary, CPP_REPLIES, openapi.ON_RECORDINGS, id="inference", **given)


def _detection_operation() -> dict[str, Any]:
    fields = {**DETECTION_FIELDS, **{name: openapi.text(openapi.WITHOUT_EFFECT) for name in ASR_IGNORED}}
    given = {"parameters": openapi.query(fields), "requestBody": openapi.body(openapi.form("audio_file", fields))}
    replies = openapi.as_json(openapi.ref("DetectedLanguage"))
    summary = "Detect the language spoken, as whisper-asr-webservice does"
    return openapi.operation(summary, replies, openapi.ON_RECORDINGS, id="detect_language", **given)


@router.post("/asr", response_class=Response, **_asr_operation())
async def asr(request: Request) -> Response:
    jobs: Jobs = request.app.state.jobs
    form = await read_form(request, jobs.settings.max_upload_mb)
    fields = _with_query(request, form)
    check_known(fields, (*FIELDS, *ASR_IGNORED))
    check_known(form.files, ("audio_file",))
    output = choice(fields, "output", OUTPUTS, "txt")
    speakers = flag(fields, "diarize") or flag(fields, "enable_diarization")
    cues = cue_options(fields, output)
    options = _options(fields, speakers=speakers, timed=cues.highlight_words)
    job = _job(jobs, fields, form.file("audio_file"), options, raw=not flag(fields, "encode", default=True))
    done = await unless_gone(request, jobs.done(job))
    headers = {"asr-engine": "lithophone", "content-disposition": attachment(f"{job.name[:NAME_LIMIT]}.{output}")}
    return PlainTextResponse(await asyncio.to_thread(_text, done, output, cues), headers=headers)


@router.post(
    "/detect-language",
    response_class=Response,
    **_detection_operation(),
)
async def detect_language(request: Request) -> Response:
    """By the first speech; without speech the language is unknown, and the other values are null."""
    jobs: Jobs = request.app.state.jobs
    form = await read_form(request, jobs.settings.max_upload_mb)
    fields = _with_query(request, form)
    for name in fields.keys() - {*DETECTION_FIELDS, *ASR_IGNORED}:
        raise ApiError(400, f"unknown field {name!r:.100}", code="unknown_parameter", param=name[:100])
    check_known(form.files, ("audio_file",))
    raw = not flag(fields, "encode", default=True)
    job = _job(jobs, fields, form.file("audio_file"), TranscribeOptions(), raw=raw)
    guess = await unless_gone(request, jobs.language(job))
    probabilities = {code: round(probability, 3) for code, probability in guess.probabilities.items()}
    return JSONResponse(
        {
            "detected_language": api_name(guess.language), "language_code": guess.language,
            "confidence": probabilities.get(guess.language or ""), "language_probabilities": probabilities,
        }
    )  # fmt: skip


@router.post("/inference", response_class=Response, **_inference_operation())
async def inference(request: Request) -> Response:
    jobs: Jobs = request.app.state.jobs
    form = await read_form(request, jobs.settings.max_upload_mb)
    fields = form.fields
    check_known(fields, (*CPP_FIELDS, *CPP_IGNORED, *CPP_UNSET))
    check_known(form.files, ("file",))
    _check_unset(fields)
    response_format = choice(fields, "response_format", CPP_FORMATS, "json")
    if flag(fields, "translate"):
        fields["task"] = ["translate"]
    cues = cue_options(fields, response_format)
    options = _options(fields, speakers=flag(fields, "diarize"), timed=cues.highlight_words)
    job = _job(jobs, fields, form.file("file"), options)
    done = await unless_gone(request, jobs.done(job))
    return await asyncio.to_thread(reply, done, response_format, ("segment",), cues)


def _text(done: RecordingDone, output: str, cues: CueOptions) -> str:
    """The transcript in one of OUTPUTS; json has the verdict of a Guardian as well."""
    assert isinstance(done.result, Transcript), "errors are raised"
    text, verdict = render(output, done.result, cues), verdict_of(done)
    return json.dumps(json.loads(text) | verdict, ensure_ascii=False) if verdict and output == "json" else text


def _with_query(request: Request, form: Form) -> dict[str, list[str]]:
    """Query parameters, before fields of the form; without empty ones."""
    fields: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        if value:
            fields.setdefault(name.removesuffix("[]"), []).append(value)
    return form.fields | fields


def _job(
    jobs: Jobs, fields: Mapping[str, list[str]], file: Upload, options: TranscribeOptions, *, raw: bool = False
) -> Job:
    model = jobs.models.name_of(last(fields, "model"))
    prompt = words_of_user(fields)
    return Job(file.data, file.name, model, options, raw=RawFormat() if raw else None, prompt=prompt)


def _options(fields: Mapping[str, list[str]], *, speakers: bool, timed: bool) -> TranscribeOptions:
    """Options of a request. Whisper translates into English only, and English into English is transcribed."""
    left = dict(fields)
    if last(fields, "task") == "translate":
        if speakers:
            raise ApiError(400, "diarize does not go with task translate", code="unsupported_value", param="diarize")
        left.setdefault("to", ["en"])
        if base_language(language_of(fields)) == base_language(left["to"][-1]):
            del left["task"], left["to"]
    if not speakers:
        left = {name: value for name, value in left.items() if name not in BOUNDS}
    left.pop("diarize", None)
    return request_options(left, diarize=speakers or None, word_timestamps=timed or None)


def _check_unset(fields: Mapping[str, list[str]]) -> None:
    """ApiError for what whisper.cpp does and this server does not."""
    for name, unset in CPP_UNSET.items():
        value = fields.get(name, [unset])[-1].lower()
        if value not in (unset, "0", "0.0", "false"):
            raise ApiError(
                400, f"{name} is {value!r:.80}, which is not available here: leave it out",
                code="unsupported_value", param=name,
            )  # fmt: skip


def attachment(name: str) -> str:
    """`Content-Disposition` by RFC 6266: in ASCII, and encoded as well where the name has other characters."""
    name = re.sub(r"[\x00-\x1f\x7f-\x9f/\\]", "_", name)
    plain = re.sub(r'[^ -~]|["%]', "_", name)
    encoded = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    return f'attachment; filename="{plain}"{encoded}'
