"""Files read and segmented in a thread, while the model computes."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator

from lithophone.audio.samples import RATE_HZ
from lithophone.audio.segmenter import Window
from lithophone.pipeline.sources import Reading


class ReadAhead:
    """A thread that reads recordings in the order in which they are added, windows of at most `ahead_s` in advance.

    The thread starts with the first recording and ends with `close`.
    """

    def __init__(self, ahead_s: float) -> None:
        self._most = round(ahead_s * RATE_HZ)
        self._held = 0
        """Samples of windows that were read and not taken."""
        self._jobs: deque[_Job] = deque()
        self._reading: Reading | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """End the thread within a block of samples."""
        with self._changed:
            self._closed = True
            if self._reading is not None:
                self._reading.stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def windows(self, reading: Reading) -> Iterator[Window]:
        """Windows of a recording, read from now on; errors are those of `Reading.windows`."""
        job = _Job(reading)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._read_all, name="read ahead", daemon=True)
            self._thread.start()
        return self._taken(job)

    def _taken(self, job: _Job) -> Iterator[Window]:
        while (found := job.found.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            with self._changed:
                self._held -= len(found.samples)
                self._changed.notify_all()
            yield found

    def _read_all(self) -> None:
        while (job := self._next()) is not None:
            try:
                for window in job.reading.windows():
                    if not self._put(job, window):
                        return
            except BaseException as error:  # raised again where the window would be taken
                job.found.put(error)
            else:
                job.found.put(None)

    def _next(self) -> _Job | None:
        """The next recording; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if self._closed:
                return None
            job = self._jobs.popleft()
            self._reading = job.reading
            return job

    def _put(self, job: _Job, window: Window) -> bool:
        """Whether the window was put, when there was room for it."""
        size = len(window.samples)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._held or self._held + size <= self._most)
            if self._closed:
                return False
            self._held += size
        job.found.put(window)
        return True


class _Job:
    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.found: queue.SimpleQueue[Window | BaseException | None] = queue.SimpleQueue()
