"""Captions as events of OpenAI's realtime API."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from lithophone.pipeline.captions import CaptionEvent, Committed, Final, Partial, SpeechStarted, SpeechStopped
from lithophone.server.errors import ApiError
from lithophone.server.guardian import Verdict

TRANSCRIPTION = "conversation.item.input_audio_transcription"


class OpenAIEvents:
    """Events of captions as events of the API; each item has an id, made with its first event.

    `verdict` judges final texts. Without `drafts` there are no deltas, which nobody has judged.
    """

    def __init__(
        self,
        emit: Callable[[dict[str, Any]], None],
        verdict: Callable[[str], str | None] | None,
        *,
        drafts: bool,
    ) -> None:
        self._emit, self._verdict, self._drafts = emit, verdict, drafts
        self._names: dict[int, str] = {}
        self._previous: str | None = None

    def emit(self, events: list[CaptionEvent]) -> None:
        for event in events:
            for said in self._said(event):
                self._emit(said)

    def forget(self) -> None:
        self._names = {}

    def error(self, error: ApiError, event_id: str | None) -> None:
        self._emit({"type": "error", "error": {**error.body()["error"], "event_id": event_id}})

    def _said(self, event: CaptionEvent) -> Iterator[dict[str, Any]]:
        item = self._names.setdefault(event.item, f"item_{uuid.uuid4().hex[:20]}")
        if isinstance(event, SpeechStarted):
            yield {
                "type": "input_audio_buffer.speech_started", "item_id": item, "audio_start_ms": _ms(event.start_s),
            }  # fmt: skip
        elif isinstance(event, SpeechStopped):
            yield {"type": "input_audio_buffer.speech_stopped", "item_id": item, "audio_end_ms": _ms(event.end_s)}
        elif isinstance(event, Committed):
            yield from self._committed(item)
        elif isinstance(event, Partial) and event.delta and self._drafts:
            yield {"type": f"{TRANSCRIPTION}.delta", "item_id": item, "content_index": 0, "delta": event.delta}
        elif isinstance(event, Final):
            yield self._completed(item, event)

    def _committed(self, item: str) -> Iterator[dict[str, Any]]:
        previous, self._previous = self._previous, item
        yield {"type": "input_audio_buffer.committed", "item_id": item, "previous_item_id": previous}
        content = [{"type": "input_audio", "transcript": None}]
        described = {"id": item, "object": "realtime.item", "type": "message", "role": "user", "content": content}
        for kind, status in (("added", "in_progress"), ("done", "completed")):
            yield {
                "type": f"conversation.item.{kind}", "previous_item_id": previous,
                "item": {**described, "status": status},
            }  # fmt: skip

    def _completed(self, item: str, final: Final) -> dict[str, Any]:
        self._names.pop(final.item, None)
        named = {"item_id": item, "content_index": 0}
        try:
            judged = {"guardian": Verdict(None, self._verdict(final.text)).to_dict()} if self._verdict else {}
        except ApiError as error:
            return {"type": f"{TRANSCRIPTION}.failed", **named, "error": error.body()["error"]}
        usage = {"type": "duration", "seconds": max(0, math.ceil(final.end_s - final.start_s))}
        return {"type": f"{TRANSCRIPTION}.completed", **named, "transcript": final.text, "usage": usage, **judged}


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
