"""The engine: one model and scheduler for the utterances of all callers. Thread-safe.

submit -> waiting -> encoded, with others of like length -> a place among the running sequences -> result
                  -> result at once, for the decoders ctc and edit
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from lithophone.audio.features import HOP_LENGTH
from lithophone.audio.samples import RATE_HZ
from lithophone.checkpoint import Checkpoint
from lithophone.ctc.confidence import confidence_of
from lithophone.decode.options import token_budget
from lithophone.decode.reply import Reply, reply_budget
from lithophone.decode.scheduler import DecodeRequest, Scheduler, row_count
from lithophone.decode.sequences import SequenceGroup
from lithophone.pipeline.encoding import EncodedBatch, TextReply
from lithophone.pipeline.quality import loops
from lithophone.pipeline.request import check_positions
from lithophone.pipeline.turns import Turns
from lithophone.pipeline.utterance import Utterance, WindowResult
from lithophone.pipeline.word_times import with_words
from lithophone.runtime import usable_cpus
from lithophone.text.prompts import parse_reply

ENCODED_S = 16.0
"""Seconds of a batch for the encoder on a CPU, padding included, unless a window is longer.

A CPU gains nothing from more, and what arrives meanwhile waits for less.
"""

PADDING = 1.25
"""Most samples of a batch for the encoder, with padding, relative to those of its utterances."""

FIRST_WEIGHT = 8.0
"""A recording's first utterance counts as an eighth: it goes in front, but not before all that wait for long."""

RETRY_BUDGET = 2
"""Factor of the token budget when a cut reply is decoded once more."""


class Pending:
    """An utterance in the engine; `result` is None until done."""

    def __init__(self, utterance: Utterance, number: int) -> None:
        self.utterance, self.number = utterance, number
        self.turn = 0.0
        """In seconds of audio: lower first."""
        self.is_first = True
        """Whether it is its recording's first."""
        self.result: WindowResult | None = None
        self.compute_s = 0.0
        """Share of the time of its batches."""
        self.cancelled = False

    @property
    def done(self) -> bool:
        return self.result is not None

    @property
    def order(self) -> tuple[float, bool, int]:
        """Place in line."""
        return self.turn, not self.is_first, self.number

    @property
    def batch_size(self) -> int:
        return self.utterance.request.batch_size

    @property
    def size(self) -> int:
        """Samples to encode."""
        previous = None if self.utterance.previous is None else self.utterance.previous.samples
        return len(self.utterance.samples) + (0 if previous is None else len(previous))

    @property
    def is_open(self) -> bool:
        """Whether it can be encoded: the window that it continues is decoded."""
        return self.utterance.previous is None or self.utterance.previous.done

    def end(self, result: WindowResult) -> None:
        """Set the result, and forget the window before, which would keep all earlier ones."""
        self.utterance = replace(self.utterance, previous=None)
        self.result = result


@dataclass(frozen=True, eq=False)
class _Encoded:
    """A pending utterance after the encoder."""

    pending: Pending
    batch: EncodedBatch
    row: int
    decode: DecodeRequest


@dataclass(eq=False)
class _Encoding:
    """A batch in the encoder."""

    chosen: list[Pending]
    encoded: list[_Encoded] | None = None
    """None until it has ended without an error."""
    error: BaseException | None = None
    """Of a thread, to be raised by the next step."""
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, eq=False)
class _Running:
    encoded: _Encoded
    group: SequenceGroup

    @property
    def pending(self) -> Pending:
        return self.encoded.pending


class Engine:
    """Decodes utterances of any requests together; a request's `batch_size` bounds all that are decoded with it.

    Recordings take turns by seconds of audio (self-clocked fair queueing, Golestani 1994), so that a short one does not
    wait for a long one. With several callers on a CPU, one encodes the next batch while another decodes; where a CPU
    has more cores than torch has threads, a thread of the engine does. What is decoded together depends on the
    utterances and the order of calls, not on how long a batch takes.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.compute_s = 0.0
        """Seconds of all batches so far."""
        self._numbers = itertools.count()
        self._turn = 0.0
        """Of the next recording: the lowest of those that wait for a place, or behind other recordings' first."""
        self._last_turns: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        """Turn of the latest utterance of every recording."""
        self._turns = Turns()
        self._least_size = 2 * HOP_LENGTH * checkpoint.config.encoder_config.context_size
        """Samples of a block of the encoder, which is the least it computes."""
        self._on_cpu = next(checkpoint.network.parameters()).device.type == "cpu"
        self._arrived: deque[Pending] = deque()
        self._waiting: list[Pending] = []
        self._encodings: list[_Encoding] = []
        """In the order they began; one, but for those of the engine's thread."""
        self._ready: list[_Encoded] = []
        self._running: list[_Running] = []
        self._scheduler: Scheduler | None = None
        self._counting = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._callers: set[int] = set()
        """Threads in `step`."""
        self._error: BaseException | None = None
        """Of the thread, until a step raises it: once all that was encoded before is decoded."""

    @property
    def busy(self) -> bool:
        return bool(self._arrived or self._waiting or self._encodings or self._ready or self._running)

    @property
    def waiting(self) -> int:
        """Utterances of all callers that are not in the encoder yet."""
        return len(self._arrived) + len(self._waiting)

    def submit(self, utterance: Utterance) -> Pending:
        """Queue an utterance. Raises PromptError where it exceeds the model's positions."""
        check_positions(self.checkpoint, utterance.request, len(utterance.samples))
        pending = Pending(utterance, next(self._numbers))
        self._arrived.append(pending)
        return pending

    def cancel(self, pending: Pending) -> None:
        """Drop an utterance, at the latest at the end of the current step."""
        pending.cancelled = True
        if self._turns.take(wait=False):
            try:
                self._sort_out()
            finally:
                self._turns.give()

    @torch.inference_mode()
    def step(self) -> None:
        """Encode a batch if there is room, make one pass of the language model, retire the finished.

        Where another caller does all that can be done, wait for it. Where the model raises, its utterances wait again:
        callers `cancel` their own.
        """
        if self._on_cpu and torch.get_num_threads() < usable_cpus():
            self._callers.add(threading.get_ident())
            try:
                with self._turns:
                    self._step_ahead()
            finally:
                self._callers.discard(threading.get_ident())
            return
        with self._turns:
            self._sort_out()
            encoding = self._begin_encoding()
            if encoding:
                with self._turns.lent() if self._on_cpu else contextlib.nullcontext():
                    self._encode(encoding)
                self._sort_out()
            if self._ready or self._running:
                self._decode()
                return
            other = self._encodings[0] if self._encodings else None
        if other and not encoding:
            other.ended.wait()

    def _step_ahead(self) -> None:
        """`step`, with batches in the encoder meanwhile.

        It waits for the batch of the next in line where there is a place for it, unless another caller does and some
        run.
        """
        self._sort_out()
        self._encode_ahead()
        encoding = self._next_in_encoder()
        if encoding and (self._is_alone or not self._running) and self._has_place(_first(encoding)):
            with self._turns.lent():
                encoding.ended.wait()
            self._sort_out()
        if self._ready or self._running:
            self._decode(self._encode_ahead)
        elif self._error is not None:
            error, self._error = self._error, None
            raise error

    def _encode_ahead(self) -> None:
        """Begin to encode in the engine's thread until encoded utterances fill the places once more. Those under way
        count as encoded, so that batches do not depend on time. Not where a batch has failed.
        """
        while self._error is None and (encoding := self._begin_encoding(ahead=True)):
            self._thread = self._thread or ThreadPoolExecutor(1, "encode")
            self._thread.submit(self._encode_in_thread, encoding)

    @property
    def _is_alone(self) -> bool:
        """Whether one caller steps, with batches in the engine's thread."""
        return len(self._callers) == 1

    def _next_in_encoder(self) -> _Encoding | None:
        """The batch in the encoder that has the next in line, if it is in one."""
        found = min(self._encodings, key=lambda encoding: _first(encoding).order, default=None)
        return found if found and not (self._ready and self._ready[0].pending.order < _first(found).order) else None

    @torch.inference_mode()
    def _encode_in_thread(self, encoding: _Encoding) -> None:
        try:
            self._encode(encoding)
        except BaseException as error:
            encoding.error = error
            encoding.ended.set()
        if all(pending.cancelled for pending in encoding.chosen):
            with self._turns:  # there may be no further step
                self._sort_out()

    @contextlib.contextmanager
    def between_steps(self) -> Iterator[None]:
        """Use the model beside the engine: on a GPU no step runs meanwhile, since a capture allows no other work."""
        with contextlib.nullcontext() if self._on_cpu else self._turns:
            yield

    # --- queue

    def _sort_out(self) -> None:
        while self._encodings and self._encodings[0].ended.is_set():
            ended = self._encodings.pop(0)
            if ended.encoded is None:
                self._error, self._waiting = ended.error, self._waiting + ended.chosen
            else:
                self._make_ready(ended.encoded)
        self._turn = max(self._turn, min(self._open_turns(), default=0.0))
        while self._arrived:
            pending = self._arrived.popleft()
            self._place_in_line(pending)
            self._waiting.append(pending)
        self._waiting = _in_turn(pending for pending in self._waiting if not pending.cancelled)
        self._ready = [encoded for encoded in self._ready if not encoded.pending.cancelled]
        for running in [running for running in self._running if running.pending.cancelled]:
            assert self._scheduler is not None, "what runs is in the scheduler"
            self._scheduler.cancel(running.group)
            self._running.remove(running)

    def _place_in_line(self, pending: Pending) -> None:
        """Its seconds behind its recording's latest utterance, or in front where it is the first."""
        recording, seconds = pending.utterance.recording, pending.utterance.duration_s
        before = None if recording is None else self._last_turns.get(recording)
        pending.is_first = before is None
        if before is None:
            pending.turn = self._turn
            self._turn += seconds / FIRST_WEIGHT
        else:
            pending.turn = max(self._turn, before) + seconds
        if recording is not None:
            self._last_turns[recording] = pending.turn

    def _open_turns(self) -> Iterator[float]:
        """Turns of those that have neither a place nor a result."""
        waiting = [*self._waiting, *(pending for encoding in self._encodings for pending in encoding.chosen)]
        return (pending.turn for pending in (*waiting, *(one.pending for one in self._ready)) if not pending.done)

    def _make_ready(self, encoded: Iterable[_Encoded]) -> None:
        self._ready = sorted((*self._ready, *encoded), key=lambda one: one.pending.order)

    def _start_over(self) -> None:
        """Requeue all that is not done, and drop the scheduler, whose state is undefined."""
        under_way = [*(one.pending for one in self._ready), *(one.pending for one in self._running)]
        left = {pending for pending in (*self._waiting, *under_way) if not pending.done}
        self._waiting = _in_turn(left)
        self._ready.clear()
        self._running.clear()
        self._scheduler = None

    def _count(self, pending: Sequence[Pending], began: float) -> None:
        """Share the time since `began` among utterances by their length."""
        seconds, total = time.perf_counter() - began, sum(one.size for one in pending)
        with self._counting:
            self.compute_s += seconds
        for one in pending:
            one.compute_s += seconds * one.size / total

    # --- encode

    def _begin_encoding(self, ahead: bool = False) -> _Encoding | None:
        """The first waiting utterance and those nearest in length, where there is room; `ahead`: for the places once
        more.
        """
        waiting = [pending for pending in self._waiting if pending.is_open]
        if not waiting or not (self._may_encode_ahead(waiting[0]) if ahead else self._may_encode(waiting[0])):
            return None
        chosen = self._batch_of_like_length(waiting)
        self._waiting = [pending for pending in self._waiting if pending not in chosen]
        self._encodings.append(_Encoding(chosen))
        return self._encodings[-1]

    def _may_encode_ahead(self, first: Pending) -> bool:
        return len(self._ready) + sum(len(encoding.chosen) for encoding in self._encodings) < first.batch_size

    def _may_encode(self, first: Pending) -> bool:
        """Whether it has a place, or another caller decodes meanwhile and less than a batch precedes it."""
        if self._encodings:
            return False
        if not self._ready and self._has_place(first):
            return True
        before = sum(one.pending.order < first.order for one in self._ready)
        return self._on_cpu and self._turns.wanted and before < first.batch_size

    def _encode(self, encoding: _Encoding) -> None:
        chosen, began = encoding.chosen, time.perf_counter()
        try:
            batch = EncodedBatch(self.checkpoint, [pending.utterance for pending in chosen])
            results = {row: self._result(batch, row, text_reply) for row, text_reply in batch.replies().items()}
            open_rows = [row for row in range(len(chosen)) if row not in results]
            requests = batch.decode_requests(open_rows)
            encoded = [_Encoded(chosen[row], batch, row, one) for row, one in zip(open_rows, requests, strict=True)]
            encoding.encoded = encoded
            self._count(chosen, began)
            for row, result in results.items():
                chosen[row].end(result)
        finally:
            encoding.ended.set()

    def _batch_of_like_length(self, waiting: list[Pending]) -> list[Pending]:
        """Longest first; at most the smallest `batch_size` in it, little padding, and nothing that can wait beside a
        recording's first.
        """
        first = waiting[0]
        chosen = [first]
        alike = [pending for pending in waiting[1:] if pending.is_first == first.is_first]
        for pending in sorted(alike, key=lambda other: abs(other.size - first.size)):
            more = [*chosen, pending]
            if len(more) <= min(other.batch_size for other in more) and self._is_batch(more):
                chosen = more
        return sorted(chosen, key=lambda pending: -pending.size)

    def _is_batch(self, chosen: list[Pending]) -> bool:
        """Whether there is little padding and, on a CPU, not too much to encode at once."""
        sizes = [max(pending.size, self._least_size) for pending in chosen]
        padded = max(sizes) * len(sizes)
        return padded <= PADDING * sum(sizes) and not (self._on_cpu and padded > ENCODED_S * RATE_HZ)

    # --- decode

    def _decode(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Admit as there is room, begin what is done `meanwhile`, make one pass, retire the finished."""
        try:
            self._admit()
            meanwhile()
            began = time.perf_counter()
            if self._scheduler and self._scheduler.busy:
                self._scheduler.step()
            self._count([running.pending for running in self._running], began)
            self._retire()
            self._sort_out()
        except BaseException:
            self._start_over()
            raise

    def _admit(self) -> None:
        while self._ready and self._has_place(self._ready[0].pending):
            if self._is_alone and self._next_in_encoder():
                return
            encoded = self._ready[0]
            scheduler = self._scheduler_for(encoded)
            if scheduler is None:
                return
            self._running.append(_Running(encoded, scheduler.submit(encoded.decode)))
            self._ready.pop(0)

    def _has_place(self, pending: Pending) -> bool:
        together = [pending, *(running.pending for running in self._running)]
        return len(together) <= min(other.batch_size for other in together)

    def _scheduler_for(self, encoded: _Encoded) -> Scheduler | None:
        """The scheduler if it has free rows, a new one if nothing runs, else None."""
        rows = row_count(encoded.decode.options)
        if self._scheduler is not None and self._scheduler.room >= rows:
            return self._scheduler
        if self._running:
            return None
        most = max(row_count(one.decode.options) for one in self._ready)
        self._scheduler = Scheduler(self.checkpoint.model, most * encoded.pending.batch_size, self._folds())
        return self._scheduler

    def _folds(self) -> list[str]:
        """The tokenizer's folds, padded to the embedding table."""
        folds = list(self.checkpoint.tokenizer.folds)
        return folds + [""] * (self.checkpoint.config.text_config.vocab_size - len(folds))

    # --- retire

    def _retire(self) -> None:
        for running in [running for running in self._running if running.group.done]:
            self._running.remove(running)
            encoded, reply = running.encoded, running.group.reply()
            retry = self._retry(encoded, reply)
            if retry is not None:
                self._make_ready([retry])
                continue
            text_reply = self.checkpoint.tokenizer.decode(reply.ids), reply
            running.pending.end(self._result(encoded.batch, encoded.row, text_reply))

    def _retry(self, encoded: _Encoded, reply: Reply) -> _Encoded | None:
        """The window with a larger budget where its reply was cut.

        None for a loop, a given budget, a second retry, or no positions left.
        """
        decode, request = encoded.decode, encoded.pending.utterance.request
        if reply.finished or request.is_budget_given or decode.options is not request.decoder or loops(reply.ids):
            return None
        budget = RETRY_BUDGET * token_budget(decode.options, decode.n_audio, decode.expected_labels)
        options = replace(decode.options, max_new_tokens=budget)
        if reply_budget(self.checkpoint.model, len(decode.prompt), options, decode.n_audio) <= len(reply.ids):
            return None
        return replace(encoded, decode=replace(decode, options=options))

    def _result(self, batch: EncodedBatch, row: int, text_reply: TextReply) -> WindowResult:
        utterance, (text, reply) = batch.utterances[row], text_reply
        request, ctc_text, context = utterance.request, batch.character_text(row), batch.contexts[row]
        path = batch.characters[row].path if request.is_spelled else []
        result = WindowResult(
            utterance.start_s,
            utterance.end_s,
            reply,
            parse_reply(request.task, text, utterance.duration_s, self.checkpoint.config.variant, context.speaker),
            has_speech=bool(ctc_text),
            ctc_text=ctc_text if request.is_spelled else None,
            ctc_confidence=confidence_of(log_prob for _, log_prob in path),
            min_confidence=request.min_confidence,
            language=request.text_language,
            cuts=utterance.cuts,
            renumbered=utterance.previous is not None and context.is_empty,
        )
        if not request.needs_words:
            return result
        log_probs = batch.characters[row].log_probs.float().numpy()
        decode, language = self.checkpoint.tokenizer.decode, request.text_language
        return with_words(result, log_probs, decode, language, timestamps=request.timestamps)


def _first(encoding: _Encoding) -> Pending:
    """The first in line of a batch."""
    return min(encoding.chosen, key=lambda pending: pending.order)


def _in_turn(pending: Iterable[Pending]) -> list[Pending]:
    return sorted(pending, key=lambda one: one.order)
