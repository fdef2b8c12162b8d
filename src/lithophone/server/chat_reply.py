"""Chat completions of transcripts, whole or in chunks.

The content is as the model writes it: `[Speaker 1]:` before turns, `[T:45]` behind words, if the task asks for them.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from lithophone.decode.options import EMBEDDINGS_PER_30_S
from lithophone.pipeline.assembly import Event, RecordingDone
from lithophone.pipeline.request import resolve_request
from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.chat_request import ChatRequest
from lithophone.server.replies import logprob, separator_of, verdict_of
from lithophone.text.replies import SILENCE
from lithophone.text.tags import WRAP_S
from lithophone.text.tokenizer import Tokenizer
from lithophone.transcript import Segment, Transcript, Word

LONGEST_CS = round(100 * WRAP_S) - 1
"""Longest step between two time tags."""


@dataclass
class Content:
    """Segments -> pieces of the content, window by window; joined they are the content."""

    task: str
    _begun: bool = False
    _speaker: str | None = None
    _last_cs: int = 0

    def piece(self, segment: Segment, separator: str) -> str:
        """With the separator before it, unless it is the first; "" for a segment without text."""
        text = self._timed(segment.words) if self.task == "word-times" and segment.words else segment.text
        if not text:
            return ""
        if segment.speaker and segment.speaker != self._speaker:
            self._speaker = segment.speaker
            text = f"[Speaker {segment.speaker}]: {text}"
        before, self._begun = separator if self._begun else "", True
        return before + text

    def _timed(self, words: tuple[Word, ...]) -> str:
        """`hello [T:45] _ [T:60] world [T:82]`: ends in centiseconds, modulo 1000; `_` is silence."""
        pieces: list[str] = []
        for word in words:
            start_cs, end_cs = round(100 * word.start_s), round(100 * word.end_s)
            while start_cs > self._last_cs:
                self._last_cs = min(start_cs, self._last_cs + LONGEST_CS)
                pieces.append(f"{SILENCE} {_time_tag(self._last_cs)}")
            self._last_cs = max(self._last_cs, end_cs)
            pieces.append(f"{word.text} {_time_tag(self._last_cs)}")
        return " ".join(pieces)


def _time_tag(cs: int) -> str:
    return f"[T:{cs % (LONGEST_CS + 1)}]"


@dataclass
class Completion:
    """Folds the events of one recording; ends the content at `max_tokens`."""

    asked: ChatRequest
    model: str
    transcriber: Transcriber
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    text: str = ""
    tokens: int = 0
    is_cut: bool = False
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    done: RecordingDone | None = None

    def __post_init__(self) -> None:
        self._content = Content(self.asked.options.task)

    def add(self, event: Event) -> tuple[str, list[dict[str, Any]]]:
        """What the event adds to the content, and its log probabilities."""
        if isinstance(event, RecordingDone):
            self.done = event
            return "", []
        if self.is_cut:
            return "", []
        separator = separator_of(event.language)
        text = "".join(self._content.piece(segment, separator) for segment in event.segments)
        ids = self._tokenizer.encode(text)
        left = len(ids) if self.asked.max_tokens is None else self.asked.max_tokens - self.tokens
        if len(ids) > left:
            self.is_cut, text = True, _cut(self._tokenizer, ids[:left])
        self.tokens += min(left, len(ids))
        words = [word for segment in event.segments for word in segment.words] if self.asked.logprobs else []
        added = [{**logprob(word), "top_logprobs": []} for word in words]
        self.text += text
        self.logprobs += added
        return text, added

    @property
    def _tokenizer(self) -> Tokenizer:
        return self.transcriber.checkpoint.tokenizer

    @property
    def transcript(self) -> Transcript:
        result = self.done and self.done.result
        assert isinstance(result, Transcript), "errors are raised"
        return result

    @property
    def finish_reason(self) -> str:
        cut = self.is_cut or any(warning.code == "cut" for warning in self.transcript.warnings)
        return "length" if cut else "stop"

    def usage(self) -> dict[str, Any]:
        """Tokens of the prompt and the recording (10 each second), and of the content."""
        request = resolve_request(self.transcriber.checkpoint, self.asked.options)
        audio = math.ceil(self.transcript.duration_s * EMBEDDINGS_PER_30_S / 30)
        prompt = len(request.before) + len(request.behind) + audio
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.tokens,
            "total_tokens": prompt + self.tokens,
            "prompt_tokens_details": {"audio_tokens": audio, "cached_tokens": 0},
        }

    def document(self) -> dict[str, Any]:
        """The whole reply."""
        message = {"role": "assistant", "content": self.text, "refusal": None}
        logprobs = {"content": self.logprobs, "refusal": None} if self.asked.logprobs else None
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage(), **self._findings()}

    async def chunks(self, events: AsyncIterator[Event]) -> AsyncIterator[dict[str, Any]]:
        """The reply as chunks: the role, the content of each window, the finish reason, the usage if asked for."""
        yield self._chunk({"role": "assistant", "content": ""})
        async for event in events:
            text, logprobs = self.add(event)
            if text:
                yield self._chunk({"content": text}, logprobs=logprobs)
        yield {**self._chunk({}, self.finish_reason), **self._findings()}
        if self.asked.with_usage:
            yield {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage()}

    def _chunk(
        self, delta: dict[str, Any], finish_reason: str | None = None, logprobs: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        known = {"content": logprobs, "refusal": None} if logprobs else None
        choice = {"index": 0, "delta": delta, "logprobs": known, "finish_reason": finish_reason}
        usage = {"usage": None} if self.asked.with_usage else {}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _findings(self) -> dict[str, Any]:
        """Fields beside those of OpenAI: warnings of the transcript, the Guardian's verdict."""
        assert self.done is not None, "errors are raised"
        warnings = [warning.to_dict() for warning in self.transcript.warnings]
        return {**({"warnings": warnings} if warnings else {}), **verdict_of(self.done)}


def _cut(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The text of the ids, without part of a character at its end."""
    return tokenizer.decode(ids).rstrip("�") if ids else ""
