"""Durations: from exact headers, else by decoding."""

from __future__ import annotations

from pathlib import Path

import soundfile

from lithophone.audio.reader import RATE_HZ, open_audio
from lithophone.errors import AudioError

EXACT = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW", "OPUS", "VORBIS")
"""Prefixes of libsndfile's codec names with exact lengths in header or last page."""

UNKNOWN = 1 << 40
"""From so many samples on (a year at 32 kHz) a header states no length, as FLAC from a pipe."""

XING = (b"Xing", b"Info", b"VBRI")
"""Names of an MP3's length frame."""

SEARCHED = 1 << 12
"""Bytes of an MP3 searched for it."""


def duration_s(path: Path) -> float | None:
    """Seconds of a recording; None if unreadable."""
    try:
        return _of_header(path) or _decoded(path)
    except (AudioError, OSError):
        return None


def _of_header(path: Path) -> float | None:
    """Seconds by the header; None if missing or estimated."""
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name that ends in .raw
        return None
    exact = info.subtype.startswith(EXACT) or (info.format == "MP3" and _tells_length(path))
    return float(info.duration) if exact and 0 < info.frames < UNKNOWN else None


def _tells_length(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(10)
        if start.startswith(b"ID3"):
            file.seek(sum(byte << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True)), 1)
        else:
            file.seek(0)
        found = file.read(SEARCHED)
    return any(name in found for name in XING)


def _decoded(path: Path) -> float:
    with open_audio(path) as stream:
        return sum(map(len, stream)) / RATE_HZ
