"""Durations of recordings, estimated before they are read."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from lithophone.cli.sources import InputFile
from lithophone.errors import AudioError

PROBED = 200
"""Files whose headers are read; the others are estimated by their size."""


def expected_durations(files: Sequence[InputFile]) -> list[float | None]:
    """Seconds of each file, None where unknown.

    Headers of files of every suffix are read, at equal distances; other files of a suffix have as many seconds a byte.
    """
    by_suffix: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if isinstance(file.source, Path) and file.source.is_file():
            by_suffix[file.source.suffix.lower()].append(file.source)
    found: dict[Path, float | None] = {}
    for some in by_suffix.values():
        found |= _estimated(some, max(1, PROBED // len(by_suffix)))
    return [found.get(file.source) if isinstance(file.source, Path) else None for file in files]


def _estimated(paths: Sequence[Path], most: int) -> dict[Path, float | None]:
    """Durations of files of one suffix."""
    step = -(-len(paths) // most)
    probed = {path: duration for path in paths[::step] if (duration := _stated(path)) is not None}
    size = sum(map(os.path.getsize, probed))
    rate = sum(probed.values()) / size if size else None
    return {path: probed.get(path, None if rate is None else rate * path.stat().st_size) for path in paths}


def _stated(path: Path) -> float | None:
    """By the file's header."""
    from lithophone.audio.reader import open_audio

    try:
        with open_audio(path) as stream:
            return stream.duration_s
    except (AudioError, OSError):
        return 0.0  # it fails when its turn comes, in no time
