"""Recordings -> transcripts: reads a bounded number of windows ahead for the engine and folds its results.

source -> blocks -> windows of speech -> engine -> results, in order -> events -> transcripts
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch

from lithophone.audio.segmenter import LIMIT_S, Window
from lithophone.audio.vad import SpeechDetector
from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, suits_int8
from lithophone.diarization.diarizer import Diarization, Diarizer, default_diarizer
from lithophone.diarization.known import as_diarizer
from lithophone.errors import CancelledError, JournalWriteError, LithophoneError, OptionError
from lithophone.hub import DEFAULT_MODEL, resolve
from lithophone.model.quantize import activation_bits
from lithophone.pipeline.assembly import Assembly, Event, RecordingDone, WindowDone, results_of
from lithophone.pipeline.engine import Engine
from lithophone.pipeline.groups import Groups
from lithophone.pipeline.items import End, Failed, Item, KnownWindow, NewWindow, Speakers
from lithophone.pipeline.journal import Journal
from lithophone.pipeline.opened import Asked, Opened, with_languages
from lithophone.pipeline.options import TranscribeOptions, options_with
from lithophone.pipeline.read_ahead import ReadAhead
from lithophone.pipeline.request import Request, check_positions, frames_of, resolve_request
from lithophone.pipeline.sources import AudioSource, Reading
from lithophone.pipeline.spoken_language import LanguageSearch, SpokenLanguages, language_requests
from lithophone.pipeline.utterance import Utterance
from lithophone.runtime import torch_device, torch_dtype
from lithophone.transcript import LanguageGuess, Segment, Transcript, TranscriptWarning

LOOK_AHEAD = 4
"""Batches of windows read ahead, so that similar lengths are encoded together."""

LOOK_AHEAD_FULL = 2
"""The same for windows of full length, which are alike: bounds the samples held."""

logger = logging.getLogger(__name__)

T = TypeVar("T")

OnWarning: TypeAlias = Callable[[TranscriptWarning], None]


def load(
    name_or_folder: str | Path = DEFAULT_MODEL,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    diarizer: Any = None,
) -> Transcriber:
    """Load a model by name or folder, from the package, the disk or the hub.

    `device` None: the GPU if any, else the CPU. `dtype` None: bfloat16 on a GPU; on a CPU int8 for int8 weights
    and for large models; float32 for others, and where int8 products are not exact. `diarizer`: as in Transcriber.
    Raises DownloadError, CheckpointError or ConfigError for the model, OptionError for device, dtype or diarizer.
    """
    chosen, folder = torch_device(device), resolve(name_or_folder)
    kind = default_dtype(folder, chosen) if dtype is None else torch_dtype(dtype, chosen)
    return Transcriber(load_checkpoint(folder, chosen, kind), diarizer=diarizer)


def default_dtype(folder: Path, device: torch.device) -> torch.dtype:
    """What a model's folder is loaded in on a device, where nothing is asked for."""
    return torch.int8 if device.type == "cpu" and suits_int8(folder) else torch_dtype(None, device)


class Transcriber:
    """A loaded model that transcribes recordings of any length.

    Calls may overlap in one or more threads: their windows share batches. `detector` replaces the bundled Silero VAD,
    `engine` a new one, `diarizer` the speaker embeddings of the option `diarize`: an RttmDiarizer, a pipeline of
    pyannote.audio, or another Diarizer.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        detector: SpeechDetector | None = None,
        engine: Engine | None = None,
        diarizer: Any = None,
    ) -> None:
        self.checkpoint, self.detector = checkpoint, detector
        self.engine = engine or Engine(checkpoint)
        self.diarizer = None if diarizer is None else as_diarizer(diarizer)
        self._bits = activation_bits(checkpoint.network)

    @property
    def device(self) -> torch.device:
        return next(self.checkpoint.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.checkpoint.network.parameters()).dtype

    def transcribe(
        self, source: Any, rate_hz: float | None = None, *, options: TranscribeOptions | None = None, **changes: Any
    ) -> Transcript:
        """Transcribe a path, bytes of a file, file object, samples with `rate_hz`, or AudioSource.

        `changes` are fields of TranscribeOptions: `transcribe("a.wav", language="fr")`. A recording without speech
        gives an empty transcript with a warning. Raises AudioError for the source, OptionError for the options,
        PromptError for a window beyond the model's positions.
        """
        _check_single(source)
        [(_, result)] = self.transcribe_many([source], rate_hz, options=options, **changes)
        if isinstance(result, LithophoneError):
            raise result
        return result

    def transcribe_many(
        self,
        sources: Iterable[Any],
        rate_hz: float | None = None,
        *,
        options: TranscribeOptions | None = None,
        journal: Journal | None = None,
        **changes: Any,
    ) -> Iterator[tuple[Any, Transcript | LithophoneError]]:
        """Transcribe recordings in shared batches, in order; an error takes the place of one transcript.

        With a `journal` a killed run continues (`pipeline/journal.py`). Raises OptionError for the options, at once.
        """
        return results_of(self.events(sources, rate_hz, options=options, journal=journal, **changes))

    def stream(
        self,
        source: Any,
        rate_hz: float | None = None,
        *,
        options: TranscribeOptions | None = None,
        on_warning: OnWarning | None = None,
        **changes: Any,
    ) -> Iterator[Segment]:
        """Segments of one recording in time order, as they are decoded; warnings are logged by default.

        Arguments and errors as in `transcribe`.
        """
        _check_single(source)
        return _segments(self.events([source], rate_hz, options=options, **changes), on_warning or _log_warning)

    def events(
        self,
        sources: Iterable[Any],
        rate_hz: float | None = None,
        *,
        options: TranscribeOptions | None = None,
        cancelled: threading.Event | None = None,
        journal: Journal | None = None,
        **changes: Any,
    ) -> Generator[Event, None, None]:
        """WindowDone for every window and RecordingDone for every source, in order; `close` ends the work early.

        An AudioSource may have its own options. An error of one source is its RecordingDone's result. `cancelled`, set
        by any thread, ends the events with CancelledError after the current step. Raises OptionError for the options,
        at once.

        `journal` keeps what is finished and gives it again; a resumed run has the results of an unbroken one, provided
        that the engine has no other caller. Raises JournalError for a journal of another run, at once, and
        JournalWriteError for a full disk.
        """
        asked = self._asked(options_with(options, changes))
        request = asked.request
        diarizer = self._diarizer(request)
        if journal is not None:
            journal.begin(self.checkpoint, asked.options, None if diarizer is None else diarizer.name)
        cancelled = cancelled or threading.Event()
        items = self._items(_checked_sources(sources), rate_hz, asked, journal, cancelled)
        if journal is not None:
            return Groups(self.engine, journal, request, cancelled).events(items)
        return self._in_order(items, cancelled)

    def detect_language(
        self, source: Any, rate_hz: float | None = None, *, cancelled: threading.Event | None = None
    ) -> LanguageGuess:
        """The language of the first 20 s of speech, as the option `language="auto"` detects it; the rest is not read.

        source: as in `transcribe`; options of an AudioSource do not count. Without speech the guess has no language.
        Raises AudioError for the source, OptionError for a model without a CTC head, CancelledError.
        """
        _check_single(source)
        requests = language_requests(self.checkpoint)
        source = source if isinstance(source, AudioSource) else AudioSource(source, rate_hz)
        with contextlib.closing(Reading(source, LIMIT_S, self.detector).windows()) as windows:
            search = LanguageSearch(self.checkpoint, self.engine, requests, windows)
            if search.error is not None:
                search.cancel()
                raise search.error
            return search.guess(cancelled)

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder for `load`; CheckpointError where it cannot be written."""
        save_checkpoint(self.checkpoint, folder)

    def _items(
        self,
        sources: Iterable[Any],
        rate_hz: float | None,
        default: Asked,
        journal: Journal | None,
        cancelled: threading.Event,
    ) -> Generator[Item, None, None]:
        """Windows of all sources as they are read, and each source's end."""
        batch_size = default.request.batch_size
        with contextlib.closing(ReadAhead(batch_size * default.request.ahead_s)) as ahead:
            opened = (self._opened(given, rate_hz, default, journal, ahead) for given in sources)
            # Sources that are yet to come are not waited for.
            n_ahead = LOOK_AHEAD * batch_size if isinstance(sources, Sequence) else 0
            # With a journal, what shares a batch depends on the recording alone.
            n_together = 1 if journal is not None else min(batch_size, n_ahead + 1)
            languages = SpokenLanguages(self.checkpoint, self.engine, cancelled)
            with contextlib.closing(with_languages(_in_advance(opened, n_ahead), languages, n_together)) as found:
                for one in found:
                    yield from [Failed(one)] if isinstance(one, RecordingDone) else self._windows(one)

    def _opened(
        self, given: Any, rate_hz: float | None, default: Asked, journal: Journal | None, ahead: ReadAhead
    ) -> Opened | RecordingDone:
        """A source that is being read, or its error."""
        source = given if isinstance(given, AudioSource) else AudioSource(given, rate_hz)
        try:
            asked = default if source.options is None else self._asked(source.options)
            request = asked.request
            record = None if journal is None else journal.record(source)
            is_known = record is not None and record.is_done
            diarization = None if is_known else self._diarization(source, request)
        except JournalWriteError:
            raise
        except LithophoneError as error:
            return RecordingDone(given, error)
        reading = Reading(
            source, request.window_s, self.detector, joined=request.joins_windows, diarization=diarization
        )
        windows = None
        if not is_known:
            windows = ahead.windows(reading) if _is_regular(source.file) else reading.windows()
        dtype = "int8" if self._bits else str(self.dtype).removeprefix("torch.")
        assembly = Assembly(given, request, dtype, self._bits)
        return Opened(assembly, asked.options, reading, record, windows)

    def _asked(self, options: TranscribeOptions) -> Asked:
        """Options of a source, resolved. Raises OptionError."""
        if options.detects_language:
            language_requests(self.checkpoint)
        return Asked(options, resolve_request(self.checkpoint, options))

    def _windows(self, opened: Opened) -> Iterator[Item]:
        """Items of one source."""
        assembly, reading, record = opened.assembly, opened.reading, opened.record
        if opened.windows is None:
            assert record is not None, "what is not read is in the journal"
            reading.duration_s, reading.warnings = record.ending()
            yield from (KnownWindow(assembly, record, start) for start in sorted(record.windows))
            yield from self._ending(opened, is_known=True)
            return
        item: KnownWindow | NewWindow | None = None
        try:
            for window in opened.windows:
                if frames_of(self.checkpoint, len(window.samples)):
                    check_positions(self.checkpoint, assembly.request, len(window.samples))
                    item = self._item(opened, window, item if assembly.request.continues else None)
                    yield item
        except LithophoneError as error:
            yield Failed(RecordingDone(assembly.source, error))
        else:
            yield from self._ending(opened)

    def _ending(self, opened: Opened, *, is_known: bool = False) -> Iterator[Item]:
        """Items behind the last window."""
        some = opened.assembly, opened.reading, opened.record, is_known
        if opened.assembly.request.speakers is not None:
            yield Speakers(*some)
        yield End(*some)

    def _diarizer(self, request: Request) -> Diarizer | None:
        """What finds the speakers, None where they are not asked for. Raises OptionError or CheckpointError."""
        return None if request.speakers is None else self.diarizer or default_diarizer()

    def _diarization(self, source: AudioSource, request: Request) -> Diarization | None:
        diarizer = self._diarizer(request)
        if diarizer is None or request.speakers is None:
            return None
        return diarizer.start(source.name, source.start_s or 0.0, request.speakers)

    def _item(
        self, opened: Opened, window: Window, previous: KnownWindow | NewWindow | None
    ) -> KnownWindow | NewWindow:
        assembly, record = opened.assembly, opened.record
        samples = torch.from_numpy(window.samples)
        if record is not None and record.has(window.start, len(window.samples)):
            return KnownWindow(assembly, record, window.start, samples if assembly.request.continues else None)
        utterance = Utterance(samples, window.start, assembly.request, assembly, window.cuts, previous)
        return NewWindow(assembly, opened.reading, record, utterance)

    def _in_order(self, items: Generator[Item, None, None], cancelled: threading.Event) -> Generator[Event, None, None]:
        """Events in order. At first one batch is read ahead, so that a stream begins early."""
        queue: deque[Item] = deque()
        batches = 1
        try:
            while True:
                self._fill(queue, items, batches)
                if not queue:
                    return
                while not queue[0].done:
                    if cancelled.is_set():
                        raise CancelledError("the caller cancelled the transcription")
                    self.engine.step()
                while queue and queue[0].done:
                    yield queue.popleft().event()
                batches = LOOK_AHEAD
        finally:
            items.close()
            for item in queue:
                if isinstance(item, NewWindow):
                    item.cancel(self.engine)

    def _fill(self, queue: deque[Item], items: Iterator[Item], batches: int) -> None:
        """Read ahead `batches` of windows."""
        own = [item.utterance for item in queue if isinstance(item, NewWindow)]
        while not self._is_enough(own, batches):
            item = next(items, None)
            if item is None:
                return
            if isinstance(item, NewWindow):
                item.submit(self.engine)
                own.append(item.utterance)
            queue.append(item)

    def _is_enough(self, own: list[Utterance], batches: int) -> bool:
        """Whether `batches` wait, of all callers, or this one has as much as `LOOK_AHEAD_FULL` of full windows."""
        if not own:
            return False
        request = own[-1].request
        full_s = LOOK_AHEAD_FULL * request.batch_size * request.ahead_s
        waiting = max(len(own), self.engine.waiting)
        return waiting >= batches * request.batch_size or sum(one.duration_s for one in own) >= full_s


def _in_advance(values: Iterator[T], n: int) -> Iterator[T]:
    """The same values, of which `n` are taken in advance."""
    waiting: deque[T] = deque()
    for value in values:
        waiting.append(value)
        if len(waiting) > n:
            yield waiting.popleft()
    yield from waiting


def _is_regular(file: Any) -> bool:
    """Whether reading it neither waits for another process, nor moves a caller's file object."""
    return isinstance(file, bytes) or (isinstance(file, str | os.PathLike) and os.path.isfile(file))


# --- folds and checks


def _segments(events: Iterable[Event], on_warning: OnWarning) -> Iterator[Segment]:
    for event in events:
        if isinstance(event, RecordingDone) and isinstance(event.result, LithophoneError):
            raise event.result
        for warning in event.warnings:
            on_warning(warning)
        if isinstance(event, WindowDone):
            yield from event.segments


def _log_warning(warning: TranscriptWarning) -> None:
    logger.warning("%.1f to %.1f s: %s (%s)", warning.start_s, warning.end_s, warning.message, warning.code)


def _is_recording(source: object) -> bool:
    return isinstance(source, str | bytes | os.PathLike | AudioSource)


def _check_single(source: object) -> None:
    """OptionError for a list of files; a list of numbers is samples."""
    if isinstance(source, list | tuple) and source and all(_is_recording(part) for part in source):
        raise OptionError(f"one recording is expected, not a list of {len(source)}: use transcribe_many for a list")


def _checked_sources(sources: Any) -> Iterable[Any]:
    """OptionError for a single recording."""
    if _is_recording(sources) or not isinstance(sources, Iterable):
        raise OptionError(f"a list of recordings is expected, and {sources!r:.80} was given: use transcribe for one")
    some: Iterable[Any] = sources
    return some
