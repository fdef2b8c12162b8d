"""Captions as events of vLLM's realtime API, which has the addresses of OpenAI's and other events.

session.update with `model` beside `type` -> input_audio_buffer.append (16 kHz) ... -> input_audio_buffer.commit with
`final` true -> transcription.delta for each window as it is decoded, transcription.done with the whole text.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lithophone.decode.options import EMBEDDINGS_PER_30_S
from lithophone.pipeline.captions import CaptionEvent, Final
from lithophone.server.errors import ApiError
from lithophone.server.options import COMMON, OPTION_TYPES

CODES = {"invalid_base64": "invalid_audio", "unsupported_value": "invalid_event", "invalid_value": "invalid_event"}
"""Our codes -> vLLM's."""


def is_update(event: dict[str, Any]) -> bool:
    """Whether the event is vLLM's: OpenAI's has a `session`."""
    return event["type"] == "session.update" and "session" not in event and "model" in event


def input_of(event: dict[str, Any]) -> dict[str, Any]:
    """`audio.input` of a session: windows as of recordings; options of transcription may stand beside the model."""
    options = {name: value for name, value in event.items() if name in COMMON or name in OPTION_TYPES}
    return {
        "format": {"type": "audio/pcm", "rate": 16_000},
        "turn_detection": {"type": "server_vad", "prefix_padding_ms": 400},
        "transcription": options,
    }


@dataclass
class VllmEvents:
    """Final texts as deltas, which joined are the text: drafts of the character head may change."""

    send: Callable[[dict[str, Any]], None]
    verdict: Callable[[str], str | None] | None
    count: Callable[[str], int]
    """Tokens of a text."""
    separator: str = " "
    """Between texts of windows."""
    _texts: list[str] = field(default_factory=list)

    def emit(self, events: list[CaptionEvent]) -> None:
        for event in events:
            if isinstance(event, Final) and event.text:
                self._final(event.text)

    def _final(self, text: str) -> None:
        if self.verdict is not None:
            try:
                self.verdict(text)
            except ApiError as error:
                self.error(error, None)
                return
        self.send({"type": "transcription.delta", "delta": f"{self.separator if self._texts else ''}{text}"})
        self._texts.append(text)

    def done(self, seconds: float) -> None:
        """The end of an utterance of that length."""
        text, self._texts = self.separator.join(self._texts), []
        prompt, completion = math.ceil(seconds * EMBEDDINGS_PER_30_S / 30), self.count(text)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        self.send({"type": "transcription.done", "text": text, "usage": usage})

    def forget(self) -> None:
        self._texts = []

    def error(self, error: ApiError, event_id: str | None) -> None:
        code = "processing_error" if error.status >= 500 else CODES.get(error.code or "", error.code)
        self.send({"type": "error", "error": error.message, "code": code})
