"""Durations of files: from the header where it is exact, else by decoding."""

from __future__ import annotations

from pathlib import Path

import soundfile

from lithophone.audio.reader import RATE_HZ, open_audio
from lithophone.errors import AudioError

EXACT = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW", "OPUS", "VORBIS")
"""Beginnings of libsndfile's names of codecs whose header, or last page, tells the number of samples."""

UNKNOWN = 1 << 40
"""Samples (a year at 32 kHz) from which a header is taken to hold no length, as that of FLAC from a pipe."""

XING = (b"Xing", b"Info", b"VBRI")
"""Names of the frame in an MP3 that tells its length."""

SEARCHED = 1 << 12
"""Bytes at the start of an MP3 in which that frame is looked for, behind a tag."""


def duration_s(path: Path) -> float | None:
    """Seconds of a recording; None where it cannot be read."""
    try:
        return _of_header(path) or _decoded(path)
    except (AudioError, OSError):
        return None


def _of_header(path: Path) -> float | None:
    """Seconds as the header tells them; None where it does not, or only guesses."""
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError:
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
