"""Windows in groups that depend on the sources alone, for a run with a journal.

The last bits of a confidence depend on what shares a pass of the model. A group is decoded from an idle engine to its
end, and its lines are written together, so that a resumed run computes the same groups as an unbroken one.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from lithophone.errors import CancelledError
from lithophone.pipeline.assembly import Event
from lithophone.pipeline.engine import Engine
from lithophone.pipeline.items import Item, KnownWindow, NewWindow
from lithophone.pipeline.journal import Journal
from lithophone.pipeline.request import Request

GROUP = 4
"""Batches of a group, so that similar lengths are encoded together and few places are empty at its end."""

GROUP_FULL = 2
"""The same for windows of full length: bounds the samples held, and what a killed run computes again."""


@dataclass(frozen=True)
class Groups:
    """Runs items group by group. The engine should have no other caller."""

    engine: Engine
    journal: Journal
    request: Request
    cancelled: threading.Event

    def events(self, items: Generator[Item, None, None]) -> Generator[Event, None, None]:
        """Events in order; those of a group are in the journal when the next group begins."""
        try:
            while group := self._read(items):
                yield from self._events_of(group)
        finally:
            items.close()

    def _read(self, items: Iterator[Item]) -> list[Item]:
        """Items up to a number of windows, or of seconds."""
        group: list[Item] = []
        windows, seconds = GROUP * self.request.batch_size, GROUP_FULL * self.request.batch_size * self.request.ahead_s
        while windows > 0 and seconds > 0 and (item := next(items, None)) is not None:
            group.append(item)
            if isinstance(item, NewWindow | KnownWindow):
                windows, seconds = windows - 1, seconds - item.duration_s
        return group

    def _events_of(self, group: Sequence[Item]) -> Iterator[Event]:
        new = [item for item in group if isinstance(item, NewWindow)]
        try:
            for window in new:
                window.utterance = replace(window.utterance, recording=None)  # turns depend on what came before
                window.submit(self.engine)
            for item in group:
                self._step_until_done(item)
                yield item.event()
            self.journal.commit()
        finally:
            for window in new:
                window.cancel(self.engine)
            self.journal.discard()

    def _step_until_done(self, item: Item) -> None:
        while not item.done:
            if self.cancelled.is_set():
                raise CancelledError("the caller cancelled the transcription")
            self.engine.step()
