"""Windows joined to longer ones, without the silences between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from lithophone.audio.cuts import Cut
from lithophone.audio.samples import RATE_HZ
from lithophone.audio.segmenter import Window


def joined_windows(windows: Iterable[Window], limit_s: float) -> Iterator[Window]:
    """Windows in order -> as few as possible of at most `limit_s` of samples.

    A window waits for the next that does not fit. Samples between two windows become a cut.
    """
    limit, waiting, size = int(limit_s * RATE_HZ), list[Window](), 0
    for window in windows:
        if waiting and size + len(window.samples) > limit:
            yield _joined(waiting)
            waiting, size = [], 0
        waiting.append(window)
        size += len(window.samples)
    if waiting:
        yield _joined(waiting)


def _joined(windows: list[Window]) -> Window:
    cuts: list[Cut] = []
    size = 0
    for window, before in zip(windows, (None, *windows), strict=False):
        if before is not None and window.start > before.end:
            cuts.append(Cut(size, window.start - before.end))
        size += len(window.samples)
    samples = np.concatenate([window.samples for window in windows]) if len(windows) > 1 else windows[0].samples
    return Window(windows[0].start, windows[-1].end, samples, tuple(cuts))
