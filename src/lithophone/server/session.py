"""A live session: its configuration by OpenAI's realtime API, and captions of its audio."""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from lithophone.audio.detection import Detection
from lithophone.audio.pcm import PCMStream
from lithophone.errors import AudioError, OptionError
from lithophone.pipeline.captions import CaptionEvent, Captions, check_live
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.errors import ApiError
from lithophone.server.options import check_known, request_options, texts_of

FORMATS = ("audio/pcm", "audio/pcmu", "audio/pcma")
PCM_RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
OLD_FORMATS: dict[str, dict[str, Any]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
OLD_NAMES = {
    "input_audio_transcription": "transcription", "turn_detection": "turn_detection",
    "input_audio_noise_reduction": "noise_reduction",
}  # fmt: skip
"""Names of the beta API."""

DEFAULT_INPUT: dict[str, Any] = {
    "format": {"type": "audio/pcm", "rate": 24_000},
    "noise_reduction": None,
    "transcription": {"model": None, "language": None, "prompt": None, "keywords": None},
    "turn_detection": {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500},
}
NOISE_REDUCTIONS = ("near_field", "far_field")
TEXTS, LISTS = ("model", "language", "prompt", "delay"), ("languages", "keywords")
"""Fields of `transcription` in OpenAI's API; those of TranscribeOptions stand beside them."""
EAGERNESS_MS = {"low": 1_000, "medium": 700, "high": 300, "auto": 500}
"""Silence that ends a turn, by the eagerness of `semantic_vad`, which is the silence detector here."""


@dataclass(frozen=True)
class SessionConfig:
    """The effective configuration; `input` is `audio.input` of the API."""

    id: str
    input: dict[str, Any]
    include: tuple[str, ...] = ()

    @classmethod
    def new(cls, model: str | None) -> SessionConfig:
        values = copy.deepcopy(DEFAULT_INPUT)
        values["transcription"]["model"] = model
        return cls(f"sess_{uuid.uuid4().hex[:20]}", values)

    def described(self) -> dict[str, Any]:
        return {
            "id": self.id, "object": "realtime.transcription_session", "type": "transcription",
            "audio": {"input": self.input}, "include": list(self.include),
        }  # fmt: skip

    def described_by_old_names(self) -> dict[str, Any]:
        """Fields of the beta API."""
        kind = self.input["format"]["type"]
        [form] = [name for name, new in OLD_FORMATS.items() if new["type"] == kind]
        return {"input_audio_format": form, **{old: self.input[new] for old, new in OLD_NAMES.items()}}

    @property
    def model(self) -> str | None:
        return (self.input["transcription"] or {}).get("model")

    def updated(self, session: Any, *, old_names: bool = False) -> SessionConfig:
        """With the fields of a `session.update`; what is absent stays, null clears. Raises ApiError."""
        session = _object(session, "session")
        if session.get("type", "transcription") != "transcription":
            raise _wrong("session.type", "must be transcription: this server has no conversations", "unsupported_value")
        found = (
            _old(session)
            if old_names
            else _object(_object(session.get("audio", {}), "session.audio").get("input", {}), "session.audio.input")
        )
        values = copy.deepcopy(self.input)
        for name, value in found.items():
            if name not in DEFAULT_INPUT:
                raise _wrong(f"session.audio.input.{name}", "is unknown", "unknown_parameter")
            if value is not None:
                _object(value, f"session.audio.input.{name}")
            if name == "transcription" and value is not None and values[name] is not None:
                values[name] = {**values[name], **value}
            else:
                values[name] = value
        include = session.get("include", list(self.include))
        if not _is_texts(include):
            raise _wrong("session.include", "must be a list of texts")
        config = SessionConfig(self.id, values, tuple(include or ()))
        config.pcm()
        config.check_noise_reduction()
        config.options()
        config.detection()
        return config

    def options(self) -> TranscribeOptions:
        """Of `transcription`, which may have every option of the command line beside OpenAI's. Raises ApiError."""
        place = "session.audio.input.transcription"
        asked = _object(self.input["transcription"] or {}, place)
        for name, value in asked.items():
            if name in TEXTS and not isinstance(value, str | None):
                raise _wrong(f"{place}.{name}", "must be a text")
            if name in LISTS and not _is_texts(value):
                raise _wrong(f"{place}.{name}", "must be a list of texts")
        try:
            check_known(asked, (*TEXTS, *LISTS))
            found = request_options(texts_of(asked))
            check_live(found)
            return found
        except OptionError as error:
            raise ApiError(400, str(error), code="unsupported_value", param=f"{place}.language") from error
        except ApiError as error:
            error.param = f"{place}.{error.param}" if error.param else place
            raise

    def detection(self) -> Detection | None:
        """None where the client commits. Raises ApiError."""
        asked = self.input["turn_detection"]
        if asked is None:
            return None
        asked = _object(asked, "turn_detection")
        kind = asked.get("type", "server_vad")
        defaults = DEFAULT_INPUT["turn_detection"]
        if kind == "semantic_vad":
            eagerness = asked.get("eagerness", "auto")
            if not isinstance(eagerness, str) or eagerness not in EAGERNESS_MS:
                raise _wrong("turn_detection.eagerness", f"must be one of {', '.join(EAGERNESS_MS)}")
            asked = {"silence_duration_ms": EAGERNESS_MS[eagerness]}
        elif kind != "server_vad":
            raise _wrong("turn_detection.type", "must be server_vad or semantic_vad")
        names = ("threshold", "prefix_padding_ms", "silence_duration_ms")
        given = {name: defaults[name] if asked.get(name) is None else asked[name] for name in names}
        try:
            return Detection(**given)
        except OptionError as error:
            raise ApiError(400, str(error), code="invalid_value", param="session.audio.input.turn_detection") from error

    def check_noise_reduction(self) -> None:
        """Known kinds are accepted, and have no effect. Raises ApiError."""
        kind = (self.input["noise_reduction"] or {}).get("type")
        if kind is not None and kind not in NOISE_REDUCTIONS:
            raise _wrong("noise_reduction.type", f"must be one of {', '.join(NOISE_REDUCTIONS)}")

    def pcm(self) -> _Decoder:
        """A new decoder of the audio format. Raises ApiError."""
        asked = _object(self.input["format"], "format")
        kind, rate = asked.get("type"), asked.get("rate", 24_000 if asked.get("type") == "audio/pcm" else 8_000)
        if kind not in FORMATS:
            raise _wrong("format.type", f"must be one of {', '.join(FORMATS)}")
        allowed = PCM_RATES_HZ if kind == "audio/pcm" else (8_000,)
        if rate not in allowed or isinstance(rate, bool):
            raise _wrong("format.rate", f"must be one of {', '.join(map(str, allowed))} for {kind}")
        return _Decoder(int(rate), {"audio/pcmu": MU_LAW, "audio/pcma": A_LAW}.get(kind))


class Session:
    """Captions of the audio of a session."""

    def __init__(self, transcriber: Transcriber, config: SessionConfig) -> None:
        self._config = config
        self._captions = Captions(transcriber, config.options(), config.detection())
        self._decoder = config.pcm()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._captions.close()

    @property
    def busy(self) -> bool:
        return self._captions.busy

    @property
    def time_s(self) -> float:
        return self._captions.time_s

    def append(self, data: bytes) -> list[CaptionEvent]:
        return self._captions.push(self._decoder.push(data))

    def step(self) -> list[CaptionEvent]:
        return self._captions.step() if self.busy else []

    def commit(self) -> list[CaptionEvent]:
        try:
            return self._captions.commit()
        except AudioError as error:
            ms = 1000 * self._captions.buffered_s
            raise ApiError(
                400, f"buffer too small. Expected at least 100ms of audio, but buffer only has {ms:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            ) from error  # fmt: skip

    def clear(self) -> None:
        self._captions.clear()

    def flush(self) -> list[CaptionEvent]:
        return self._captions.flush()

    def change(self, config: SessionConfig) -> None:
        """Settings for windows that end from here on. Raises LithophoneError, and then changes nothing."""
        self._captions.change(config.options(), config.detection())
        if config.input["format"] != self._config.input["format"]:
            self._decoder = config.pcm()
        self._config = config


class _Decoder:
    """Bytes of a stream -> samples at 16 kHz."""

    def __init__(self, rate_hz: int, table: np.ndarray[Any, np.dtype[np.int16]] | None) -> None:
        self._stream, self._table = PCMStream(rate_hz), table

    def push(self, data: bytes) -> Any:
        if self._table is not None:
            data = self._table[np.frombuffer(data, np.uint8)].astype("<i2").tobytes()
        return self._stream.push(data)


def _mu_law() -> np.ndarray[Any, np.dtype[np.int16]]:
    """G.711: the sample of every byte."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 15).astype(np.int32) << 3) + 132 << ((code >> 4) & 7).astype(np.int32)) - 132
    return np.where(code & 128, -magnitude, magnitude).astype(np.int16)


def _a_law() -> np.ndarray[Any, np.dtype[np.int16]]:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, mantissa + 264 << np.maximum(exponent - 1, 0))
    return np.where(code & 128, magnitude, -magnitude).astype(np.int16)


MU_LAW, A_LAW = _mu_law(), _a_law()


def _old(session: dict[str, Any]) -> dict[str, Any]:
    """Fields of the beta API by their names of today."""
    found = {OLD_NAMES[name]: value for name, value in session.items() if name in OLD_NAMES}
    if "input_audio_format" in session:
        asked = session["input_audio_format"]
        if not isinstance(asked, str) or asked not in OLD_FORMATS:
            raise _wrong("session.input_audio_format", f"must be one of {', '.join(OLD_FORMATS)}")
        found["format"] = OLD_FORMATS[asked]
    return found


def _is_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(name, f"is a JSON {type(value).__name__}: send an object")
    return value


def _wrong(name: str, what: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, f"{name} {what}", code=code, param=name)
