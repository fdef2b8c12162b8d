"""Segmentation: a recording -> windows of speech of bounded length, cut in silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.cuts import Cut
from lithophone.audio.detection import EVERYTHING, PADDING_S, RECORDINGS, Detection
from lithophone.audio.samples import RATE_HZ, Samples
from lithophone.audio.vad import CHUNK, SpeechDetector, bundled_detector
from lithophone.errors import OptionError

SMOOTHING = 9
"""Chunks (0.3 s) averaged around a cut."""

MIN_LIMIT_S, MAX_LIMIT_S = 1.0, 86_400.0

LIMIT_S = 30.0
"""Usual length of the longest window."""

UNDECIDED_S = 60.0
"""Seconds buffered at most, or 1.3 limits; then a run counts as speech."""

PADDING = int(PADDING_S * RATE_HZ)

PART = 128 * CHUNK
"""Samples per call of the detector (4 s)."""


@dataclass(frozen=True)
class Window:
    """Samples [start, end) of the recording, 16 kHz, copied, without those of its cuts."""

    start: int
    end: int
    samples: Samples = field(compare=False, repr=False)
    cuts: tuple[Cut, ...] = ()

    @property
    def start_s(self) -> float:
        return self.start / RATE_HZ

    @property
    def end_s(self) -> float:
        return self.end / RATE_HZ


def speech_windows(
    samples: Samples, limit_s: float = LIMIT_S, *, detector: SpeechDetector | None = None
) -> list[Window]:
    """All windows of samples (n,), 16 kHz: the fold of `Segmenter`."""
    segmenter = Segmenter(limit_s, detector)
    return segmenter.push(samples) + segmenter.flush()


class Segmenter:
    """Cuts a recording into windows of at most `limit_s` seconds, in order, without overlap.

    All speech (default detector: Silero VAD) is in a window, padded; silences of a second or more are in none, or as
    `detection` says. Padding behind speech is 0.4 s, or the silence that ends it where that is shorter.
    A stretch above `limit_s` is cut at its quietest point in the second half of the window; the last window has a
    quarter of the limit or more. Block sizes do not matter. At most 1.25 limits and 2 s are buffered, or `UNDECIDED_S`
    while the detector stays between its thresholds.
    Raises OptionError for an infinite limit or one below a second.
    """

    def __init__(
        self, limit_s: float = LIMIT_S, detector: SpeechDetector | None = None, detection: Detection = RECORDINGS
    ) -> None:
        self._detector = (detector or bundled_detector()).stream()
        self._samples = _Tail()
        self._probabilities = _Tail()
        self._start: int | None = None
        """Start of the open stretch, padded; None between stretches."""
        self._end = 0
        """End of its speech, not padded."""
        self._run: int | None = None
        """Start of the current run at the lower threshold."""
        self._is_speech = False
        self._earliest = 0
        """End of the last window: the next starts there or later."""
        self.change(limit_s, detection)

    def change(self, limit_s: float, detection: Detection) -> None:
        """New settings from here on, for the stretch under way too."""
        if not MIN_LIMIT_S <= limit_s <= MAX_LIMIT_S:
            raise OptionError(
                f"limit_s is {limit_s!r}: windows are {MIN_LIMIT_S:g} to {MAX_LIMIT_S:g} s long, {LIMIT_S:g} s "
                "are usual"
            )
        self._limit = int(limit_s * RATE_HZ)
        self._max_held = int(max(UNDECIDED_S, 1.3 * limit_s) * RATE_HZ)
        self._detection, self._padding = detection, min(PADDING, detection.silence)
        if self._start is None and detection == EVERYTHING:
            self._earliest = self.end

    @property
    def open_start(self) -> int | None:
        """Start of the stretch under way, which will be a window's; None between stretches."""
        return self._start

    @property
    def end(self) -> int:
        """Samples pushed so far."""
        return self._samples.end

    @property
    def buffered(self) -> int:
        """Samples that `commit` would end a window with."""
        if self._start is not None:
            return self.end - self._start
        return self.end - self._earliest if self._detection == EVERYTHING else 0

    def open_samples(self, start: int) -> Samples:
        """Samples of the stretch under way from `start` to the last; a view until the next call."""
        assert self._start is not None, "a stretch is under way"
        return self._samples[max(start, self._start) : self._samples.end]

    def push(self, block: Samples) -> list[Window]:
        """The next samples (n,), n >= 0 -> complete windows."""
        assert block.ndim == 1, f"samples are (n,), not {block.shape}"
        windows: list[Window] = []
        for first in range(0, len(block), PART):
            part = block[first : first + PART]
            self._samples.append(part)
            windows += self._detected(self._detector.push(part))
        return windows

    def flush(self) -> list[Window]:
        """End of the recording -> the remaining windows."""
        windows = self._detected(self._detector.flush())
        if self._detection == EVERYTHING:
            return windows + self.commit()
        return [*windows, *self._close()]

    def commit(self) -> list[Window]:
        """End the stretch under way at the last sample -> its windows; none between stretches."""
        if self._start is None and self._detection == EVERYTHING and self._earliest < self._samples.end:
            self._start = self._earliest
        if self._start is None:
            return []
        self._end = self._samples.end
        windows = list(self._close())
        self._forget_stretch()
        return windows

    def clear(self) -> None:
        """Drop the stretch under way."""
        if self._start is not None or self._detection == EVERYTHING:
            self._start = None
            self._forget_stretch()

    def _forget_stretch(self) -> None:
        self._run, self._is_speech = None, False
        self._earliest = self._samples.end

    def _detected(self, probabilities: NDArray[np.float32]) -> list[Window]:
        position = self._probabilities.end * CHUNK
        self._probabilities.append(probabilities)
        thresholds = zip(
            (probabilities >= self._detection.speech_ends).tolist(),
            (probabilities >= self._detection.threshold).tolist(),
            strict=True,
        )
        windows: list[Window] = []
        for lower, upper in thresholds:
            self._follow(position, lower, upper)
            position += CHUNK
            windows += self._complete(position)
        return windows

    def _follow(self, position: int, lower: bool, upper: bool) -> None:
        if not lower:
            self._run, self._is_speech = None, False
            return
        self._run = position if self._run is None else self._run
        is_full = position - self._needed_from(position) >= self._max_held
        self._is_speech = self._is_speech or upper or is_full
        if self._is_speech:
            first = max(self._earliest, self._run - self._detection.prefix)
            self._start = first if self._start is None else self._start
            self._end = position + CHUNK

    def _complete(self, position: int) -> Iterator[Window]:
        """Windows that no sample from `position` on can change; forgets samples no longer needed."""
        at_least = min(position, self._end + self._padding)
        yield from self._cut(at_least, self._limit + self._limit // 4)
        next_run = position if self._run is None else self._run
        if not self._is_speech and next_run - self._end >= self._detection.silence:
            yield from self._close()
        needed = self._needed_from(position)
        self._samples.forget(needed)
        self._probabilities.forget(needed // CHUNK)

    def _needed_from(self, position: int) -> int:
        """First sample that a later window may need."""
        if self._start is not None:
            return self._start
        return max(0, (position if self._run is None else self._run) - self._detection.prefix)

    def _close(self) -> Iterator[Window]:
        end = min(self._samples.end, self._end + self._padding)
        yield from self._cut(end, self._limit + 1)
        # A chunk that was completed at the end may lie before the last commit.
        if self._start is not None and self._start < end:
            yield self._window(self._start, end)
            self._earliest = end
        self._start = None

    def _cut(self, end: int, longest: int) -> Iterator[Window]:
        """Windows of the open stretch while it has `longest` samples up to `end`."""
        while self._start is not None and end - self._start >= longest:
            latest = min(self._start + self._limit, end - self._limit // 4)
            cut = self._quietest(self._start + self._limit // 2, latest)
            yield self._window(self._start, cut)
            self._start = cut

    def _window(self, start: int, end: int) -> Window:
        return Window(start, end, self._samples[start:end].copy())

    def _quietest(self, earliest: int, latest: int) -> int:
        """The sample in [earliest, latest] with the least speech probability + relative loudness, each in 0..1.

        Surroundings count as much as the chunk, so that a pause wins over the closure of a stop consonant.
        """
        first, last = -(-earliest // CHUNK), latest // CHUNK
        chunks = self._samples[first * CHUNK : last * CHUNK].reshape(-1, CHUNK)
        loudness = np.sqrt(np.square(chunks).mean(axis=1))
        cost = self._probabilities[first:last] + loudness / max(float(loudness.max()), 1e-9)
        return (first + int((cost + _smooth(cost)).argmin())) * CHUNK + CHUNK // 2


class _Tail:
    """A growing array (n,) that can drop its beginning; memory is below twice what is held."""

    def __init__(self) -> None:
        self._values = np.zeros(1 << 12, np.float32)
        self._offset = self._start = self.end = 0
        """`_values[0]` has index `_offset`; [_start, end) is held."""

    def append(self, values: NDArray[np.float32]) -> None:
        if self.end + len(values) - self._offset > len(self._values):
            held = self[self._start : self.end]
            size = max(len(self._values), 2 * (len(held) + len(values)))
            self._values = np.concatenate([held, np.zeros(size - len(held), np.float32)])
            self._offset = self._start
        first = self.end - self._offset
        self._values[first : first + len(values)] = values
        self.end += len(values)

    def forget(self, start: int) -> None:
        self._start = max(self._start, min(start, self.end))

    def __getitem__(self, held: slice) -> NDArray[np.float32]:
        assert self._start <= held.start <= held.stop <= self.end, f"{held} of {self._start}..{self.end}"
        return self._values[held.start - self._offset : held.stop - self._offset]


def _smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Running mean over SMOOTHING values, edges repeated."""
    wide = np.pad(values, SMOOTHING // 2, mode="edge")
    return np.convolve(wide, np.full(SMOOTHING, 1 / SMOOTHING), mode="valid")
