"""Counts of a run: audio, time of the model, time left, and the lines that summarise them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lithophone.languages import LANGUAGES
from lithophone.transcript import Transcript

if TYPE_CHECKING:
    from lithophone.pipeline.assembly import RecordingDone, WindowDone


class Tally:
    """Folds the events of a run, in order.

    `expected_s`: seconds of each source, None where unknown. `spent_s()`: seconds of the model so far, of all windows,
    also of those that are not done.
    """

    def __init__(
        self,
        expected_s: Sequence[float | None],
        spent_s: Callable[[], float],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._coming = list(reversed(expected_s))
        self._coming_s = None if None in expected_s else sum(s for s in expected_s if s is not None)
        self._spent_s, self._clock, self._began = spent_s, clock, clock()
        self._at_s = 0.0
        """Position in the current source."""
        self._timed_s = self._compute_s = 0.0
        """Audio of the windows that are done, and their time in the model."""
        self.audio_s = 0.0
        """Transcribed in this run, silence included."""
        self.n_new, self.n_known = 0, 0

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began

    @property
    def speed(self) -> float:
        return self.audio_s / max(self.elapsed_s, 1e-9)

    def window(self, event: WindowDone) -> None:
        if not event.is_known:
            self.audio_s += event.end_s - self._at_s
            self._timed_s += event.end_s - self._at_s
            self._compute_s += event.compute_s
        self._at_s = event.end_s

    def recording(self, event: RecordingDone) -> None:
        expected = self._coming.pop() if self._coming else None
        if self._coming_s is not None and expected is not None:
            self._coming_s -= expected
        if isinstance(event.result, Transcript):
            self.n_known += event.is_known
            self.n_new += not event.is_known
            self.audio_s += 0.0 if event.is_known else event.result.duration_s - self._at_s
        self._at_s = 0.0

    def left_s(self) -> float | None:
        """Seconds to the end of the run; None while unknown.

        The run so far took as long as the model's share of its work says: `spent` of an expected sum, which follows
        from the windows that are done. Windows under way count by what they have spent.
        """
        spent = self._spent_s()
        if self._coming_s is None or not self._timed_s or not self._compute_s or not spent:
            return None
        coming_s = max(0.0, self._coming_s - self._at_s)
        expected = self._compute_s * (1 + coming_s / self._timed_s)
        return max(0.0, self.elapsed_s * (expected / spent - 1))


def recording_line(label: str, event: RecordingDone) -> str:
    """Audio, language if it was detected, time, speed and warnings of a transcribed recording."""
    assert isinstance(event.result, Transcript), "a failed recording has its error"
    duration_s, n = event.result.duration_s, len(event.result.warnings)
    speed = (
        f" in {event.compute_s:.1f} s of the model, RTFx {duration_s / event.compute_s:.1f}" if event.compute_s else ""
    )
    guess = event.result.language_guess
    spoken = f" in {LANGUAGES[guess.language]} ({guess.probability:.2f})" if guess and guess.language else ""
    return f"{label}: {duration_s:.1f} s of audio{spoken}{speed}, {n} warning{'s' * (n != 1)}"


def total_line(n: int, audio_s: float, elapsed_s: float, load_s: float, *, known: int = 0, failed: int = 0) -> str:
    """Recordings, audio, time and speed of a run, without time and speed where nothing was transcribed."""
    more = [f"{count:,} {what}" for count, what in ((known, "finished before"), (failed, "failed")) if count]
    parts = [f"{n:,} recording{'s' * (n != 1)}"] if n != 1 or more else []
    if n:
        speed = audio_s / max(elapsed_s, 1e-9)
        parts.append(
            f"{audio_s:.1f} s of audio in {elapsed_s:.1f} s: RTFx {speed:.1f} (model loaded in {load_s:.1f} s)"
        )
    return "; ".join([", ".join(parts), *more])


def time_text(seconds: float) -> str:
    """`90 s`, `5 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
