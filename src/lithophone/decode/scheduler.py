"""Continuous batching: requests come and go, and every pass of the language model serves all rows under way.

    submit -> waiting -> prefill, with whoever else has just come -> a pass a step, with everybody -> reply

For one thread at a time. Knows no text, no files, no seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import TypeVar

import torch

from lithophone.decode.options import check_whole
from lithophone.decode.reply import Reply, reply_budget
from lithophone.decode.sequences import Batch, Request, Row
from lithophone.model.cuda_graphs import static_steps
from lithophone.model.lora import has_lora
from lithophone.model.speech import GraniteSpeech

Key = TypeVar("Key")


class Engine:
    """Answers requests, at most `max_rows` of them in a pass.

    `folds[id]` is the text of a token as drafts are aligned with replies: lower case, without punctuation and spaces;
    without the table the ids are aligned. In a model with LoRA adapters requests with and without audio share no pass:
    they take turns, in the order they came.

    `fixed` says whether steps have fixed shapes, and are recorded as graphs on a GPU; None means on a GPU, and not for
    models with adapters, whose passes are of two kinds.
    """

    def __init__(
        self, model: GraniteSpeech, max_rows: int, folds: Sequence[str] | None = None, *, fixed: bool | None = None
    ) -> None:
        check_whole("max_rows", max_rows)
        assert folds is None or len(folds) >= model.config.text_config.vocab_size, "a text for every token"
        self.model, self.max_rows = model, max_rows
        self.fold = chr if folds is None else folds.__getitem__
        self.adapted = has_lora(model)
        self.waiting: deque[Row] = deque()
        lm = model.language_model
        if fixed is None:
            fixed = lm.model.norm.weight.device.type == "cuda" and not self.adapted
        assert not (fixed and self.adapted), "recorded passes have their adapters on, or off, for good"
        self.batch = Batch(lm, steps=static_steps(lm, max_rows, self) if fixed else None)

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.batch.rows)

    def submit(self, request: Request) -> Row:
        """Queue a request. Steps make its row `done`; it is so at once where the prompt leaves no room for a reply."""
        config = self.model.config.text_config
        assert all(0 <= token < config.vocab_size for token in request.draft), "a draft is made of the model's tokens"
        budget = reply_budget(self.model, len(request.prompt), request.options, request.n_audio)
        row = Row(request, budget, config.eos_token_id, self.fold)
        if not row.done:
            self.waiting.append(row)
        return row

    @torch.inference_mode()
    def cancel(self, row: Row) -> None:
        """Forget a row, be it waiting or under way; one that is done is not here any more."""
        if row in self.waiting:
            self.waiting.remove(row)
        self.batch.drop([row])

    @torch.inference_mode()
    def step(self) -> None:
        """Prefill those of the waiting rows that can join, then advance all rows by a pass; the ones done leave.

        Where the model raises, cancel the rows: what they have come to is not known.
        """
        arrivals = self._arrivals()
        with self._adapters([*self.batch.rows, *arrivals]):
            if arrivals:
                self._admit(arrivals)
            if self.batch.rows:
                self.batch.advance()

    def run(self, requests: Iterable[tuple[Key, Request]]) -> Iterator[tuple[Key, Reply]]:
        """Answer requests as they finish, each with its key; the next one is asked for when there is room for it.

        Runs may be interleaved. A run that is closed, or whose requests raise, leaves none of its rows behind.
        """
        coming, mine = iter(requests), dict[Row, Key]()
        try:
            while True:
                room = max(self.max_rows - len(self.batch.rows) - len(self.waiting), 0)
                new = list(islice(coming, room))
                mine.update((self.submit(request), key) for key, request in new)
                if not mine and len(new) < room:
                    return
                self.step()
                for row in [row for row in mine if row.done]:
                    yield mine.pop(row), row.reply()
        finally:
            for row in mine:
                self.cancel(row)

    def _arrivals(self) -> list[Row]:
        """Take from the queue, in its order, what can join the rows under way."""
        arrivals: list[Row] = []
        while self.waiting and len(self.batch.rows) + len(arrivals) < self.max_rows:
            company = self.batch.rows or arrivals
            if self.adapted and company and company[0].audio != self.waiting[0].audio:
                break
            arrivals.append(self.waiting.popleft())
        return arrivals

    def _admit(self, arrivals: list[Row]) -> None:
        batch = Batch(self.model.language_model, arrivals)
        batch.prefill()
        self.batch.join(batch)

    def _adapters(self, rows: list[Row]) -> AbstractContextManager[None]:
        """Adapters as the rows of a step need them: they are all of one kind where there are any."""
        return self.model.adapters(rows[0].audio) if self.adapted and rows else nullcontext()
