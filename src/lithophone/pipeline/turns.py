"""A fair lock, for threads that share an engine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turns:
    """A fair lock: a thread that takes it repeatedly lets others in between."""

    def __init__(self) -> None:
        self._next, self._work = threading.Lock(), threading.Lock()

    @property
    def wanted(self) -> bool:
        """Whether a thread waits for it."""
        return self._next.locked()

    def take(self, wait: bool = True) -> bool:
        """Whether it is taken; without `wait` only if free."""
        if not wait:
            return self._work.acquire(blocking=False)
        with self._next:
            return self._work.acquire()

    def give(self) -> None:
        self._work.release()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Let others take it meanwhile."""
        self.give()
        try:
            yield
        finally:
            self.take()

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *_: object) -> None:
        self.give()
