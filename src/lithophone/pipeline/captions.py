"""Live captions: samples of one stream are pushed, events come back.

    samples -> segmenter -> stretch under way -> PartialText -> Partial, every 0.4 s
                         -> window -> engine  -> Final

An item is a window: `SpeechStarted`, `Partial` ..., `SpeechStopped`, `Committed`, `Final`. Silence gives no event.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias

import torch

from lithophone.audio.array import array_table
from lithophone.audio.detection import EVERYTHING, Detection
from lithophone.audio.mixing import Block, mono
from lithophone.audio.samples import RATE_HZ, Samples
from lithophone.audio.segmenter import Segmenter, Window
from lithophone.errors import AudioError, OptionError
from lithophone.pipeline.assembly import segments_in_time
from lithophone.pipeline.engine import Pending
from lithophone.pipeline.options import TranscribeOptions, options_with
from lithophone.pipeline.partials import PartialText
from lithophone.pipeline.quality import warnings_of
from lithophone.pipeline.request import Request, check_positions, frames_of, resolve_request
from lithophone.pipeline.transcriber import Transcriber
from lithophone.pipeline.utterance import Utterance
from lithophone.transcript import Segment, TranscriptWarning, join_text

INTERVAL_S = 0.4
"""Seconds of audio between passes for partial text."""

SHARE = 0.5
"""Share of the time for passes for partial text, and for decoding in a push; slower computers pass less often."""

MAX_WAITING = 4
"""Windows that may wait for the language model; then `push` waits for them."""

MIN_COMMIT_S = 0.1

LIVE = Detection()


@dataclass(frozen=True)
class SpeechStarted:
    """Times are seconds of the stream; `start_s` includes the padding before speech."""

    item: int
    start_s: float


@dataclass(frozen=True)
class Partial:
    """Text of an item that is still spoken, by the character head: lower case, no punctuation."""

    item: int
    stable: str
    """Never rewritten: begins with that of the item's last event."""
    delta: str
    """What is new at its end."""
    unstable: str
    """What follows, and may change."""
    start_s: float
    end_s: float

    @property
    def text(self) -> str:
        return self.stable + self.unstable


@dataclass(frozen=True)
class SpeechStopped:
    item: int
    end_s: float


@dataclass(frozen=True)
class Committed:
    """An item is complete, and waits for the language model."""

    item: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Final:
    """An item as `transcribe` gives it; items are final in order."""

    item: int
    start_s: float
    end_s: float
    text: str
    segments: tuple[Segment, ...] = ()
    warnings: tuple[TranscriptWarning, ...] = ()


CaptionEvent: TypeAlias = SpeechStarted | Partial | SpeechStopped | Committed | Final


def check_live(options: TranscribeOptions) -> None:
    """OptionError for a language that is to be detected."""
    if options.detects_language:
        raise OptionError("language='auto' needs the first speech of a recording: name the language of live speech")


class Captions:
    """Live transcription of one stream of 16 kHz mono samples, for one thread at a time.

    `detection` None: windows end at `commit` and at the limit only. No partial text where the character head does not
    spell the words (translation). Raises OptionError for the options, PromptError where a window of `limit_s` exceeds
    the model's positions.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        options: TranscribeOptions | None = None,
        detection: Detection | None = LIVE,
        **changes: Any,
    ) -> None:
        self.checkpoint, self.engine = transcriber.checkpoint, transcriber.engine
        self.detects = detection is not None
        self.request = self._resolved(options_with(options, changes))
        self._segmenter = Segmenter(self.request.limit_s, transcriber.detector, detection or EVERYTHING)
        self._item: _Item | None = None
        self._n_items = 0
        self._waiting: deque[_Waiting] = deque()
        self._events: list[CaptionEvent] = []
        self._ended = False

    def __enter__(self) -> Captions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def busy(self) -> bool:
        """Whether windows wait for the language model: `step` decodes them."""
        return bool(self._waiting)

    @property
    def time_s(self) -> float:
        """Seconds pushed so far."""
        return self._segmenter.end / RATE_HZ

    @property
    def buffered_s(self) -> float:
        """Seconds of the item under way."""
        return self._segmenter.buffered / RATE_HZ

    def push(self, samples: Any) -> list[CaptionEvent]:
        """The next samples (n,), n >= 0: floats in -1..1 or int16, 16 kHz.

        Decodes for at most half the time that the samples last, but a step at least. Raises AudioError for samples that
        are not allowed, of which none is taken.
        """
        block = _checked(samples, self._segmenter.end)
        self._check_open()
        self._take(self._segmenter.push(block))
        self._read_partial()
        self._decode(SHARE * len(block) / RATE_HZ)
        return self._drained()

    def change(self, options: TranscribeOptions, detection: Detection | None) -> None:
        """New settings for windows that end from here on. Raises as the constructor does, and then changes nothing."""
        request = self._resolved(options)
        self._segmenter.change(request.limit_s, detection or EVERYTHING)
        self.request, self.detects = request, detection is not None

    def _resolved(self, options: TranscribeOptions) -> Request:
        check_live(options)
        request = resolve_request(self.checkpoint, options)
        if request.speakers is not None:
            raise OptionError("diarize needs the whole recording: transcribe it when it has ended")
        check_positions(self.checkpoint, request, int(request.limit_s * RATE_HZ))
        return request

    def step(self) -> list[CaptionEvent]:
        """One step of the engine, for times without samples."""
        self._decode(0.0)
        return self._drained()

    def commit(self) -> list[CaptionEvent]:
        """End the item under way here. Raises AudioError below 0.1 s, which stay in the item."""
        self._check_open()
        if self.buffered_s < MIN_COMMIT_S:
            raise AudioError(
                f"{1000 * self.buffered_s:.0f} ms are not committed yet: a commit needs {1000 * MIN_COMMIT_S:.0f} ms "
                "or more" + (" of speech" if self.detects else "")
            )
        self._take(self._segmenter.commit())
        return self._drained()

    def clear(self) -> None:
        """Drop the item under way: it has no further event."""
        self._segmenter.clear()
        self._item = None

    def flush(self) -> list[CaptionEvent]:
        """End of the stream -> the remaining events."""
        if not self._ended:
            self._take(self._segmenter.flush())
            self._ended = True
        while self._waiting:
            self._decode(0.0)
        return self._drained()

    def close(self) -> None:
        """Drop what waits for the language model."""
        self._ended = True
        for waiting in self._waiting:
            if waiting.pending is not None:
                self.engine.cancel(waiting.pending)
        self._waiting.clear()

    def _check_open(self) -> None:
        if self._ended:
            raise AudioError("the stream has ended: open other Captions for another stream")

    def _drained(self) -> list[CaptionEvent]:
        events, self._events = self._events, []
        return events

    # --- items

    def _take(self, windows: list[Window]) -> None:
        for window in windows:
            self._finish(self._item or self._begin(window.start), window)
        start = self._segmenter.open_start
        if start is not None and self._item is None:
            self._begin(start)

    def _begin(self, start: int) -> _Item:
        spelled = PartialText(self.checkpoint, self.request) if self.request.is_spelled else None
        self._item = _Item(self._n_items, start, self.detects, spelled, start, start + round(INTERVAL_S * RATE_HZ))
        self._n_items += 1
        if self.detects:
            self._events.append(SpeechStarted(self._item.number, start / RATE_HZ))
        return self._item

    def _finish(self, item: _Item, window: Window) -> None:
        assert item.start == window.start, "a window is the stretch that was under way"
        self._item = None
        if item.detected:
            self._events.append(SpeechStopped(item.number, window.end_s))
        self._events.append(Committed(item.number, window.start_s, window.end_s))
        self._waiting.append(_Waiting(item.number, window.start_s, window.end_s, self._submitted(window)))

    def _submitted(self, window: Window) -> Pending | None:
        """None for a window below a frame. Each is a recording of its own, and so goes in front."""
        if not frames_of(self.checkpoint, len(window.samples)):
            return None
        return self.engine.submit(Utterance(torch.from_numpy(window.samples), window.start, self.request))

    # --- partial text

    def _read_partial(self) -> None:
        item, end = self._item, self._segmenter.end
        if item is None or item.partial is None or end < item.due:
            return
        before, text = item.partial.stable, item.partial.stable + item.partial.unstable
        began = time.perf_counter()
        with self.engine.between_steps():
            item.partial.push(self._segmenter.open_samples(item.read).copy())
        pause_s = max(INTERVAL_S, (time.perf_counter() - began) / SHARE)
        item.read, item.due = end, end + round(pause_s * RATE_HZ)
        stable, unstable = item.partial.stable, item.partial.unstable
        if stable != before or stable + unstable != text:
            times = item.start / RATE_HZ, end / RATE_HZ
            self._events.append(Partial(item.number, stable, stable[len(before) :], unstable, *times))

    # --- final text

    def _decode(self, budget_s: float) -> None:
        """Steps of the engine for `budget_s`, at least one, until few enough windows wait."""
        until = time.perf_counter() + budget_s
        self._collect()
        while self._waiting:
            self.engine.step()
            self._collect()
            if time.perf_counter() >= until and len(self._waiting) <= MAX_WAITING:
                return

    def _collect(self) -> None:
        while self._waiting and self._waiting[0].done:
            self._events.append(self._final(self._waiting.popleft()))

    def _final(self, one: _Waiting) -> Final:
        result = one.pending.result if one.pending is not None else None
        if result is None:
            return Final(one.item, one.start_s, one.end_s, "")
        segments = segments_in_time(result)
        text = join_text((segment.text for segment in segments), self.request.text_language)
        return Final(one.item, one.start_s, one.end_s, text, segments, warnings_of(result))


@dataclass
class _Item:
    """The item under way; indices of samples in the stream."""

    number: int
    start: int
    detected: bool
    """Whether it has the events of voice activity detection."""
    partial: PartialText | None
    read: int
    """End of what `partial` has."""
    due: int
    """When the next pass is due."""


@dataclass(frozen=True)
class _Waiting:
    item: int
    start_s: float
    end_s: float
    pending: Pending | None

    @property
    def done(self) -> bool:
        return self.pending is None or self.pending.done


def _checked(samples: Any, position: int) -> Samples:
    table = array_table(samples)
    if table.shape[1] != 1:
        raise AudioError(f"the samples have {table.shape[1]} channels: captions take one; mix or split them first")
    name = f"the samples pushed at {position / RATE_HZ:.3f} s"
    [(_, block)] = mono([Block(RATE_HZ, table)], name)
    return block
