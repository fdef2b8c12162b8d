"""Sound of clips in a page: Opus in a data URI, or a link to the file."""

from __future__ import annotations

import base64
import io
import logging
from dataclasses import dataclass

import soundfile

from lithophone.audio.reader import RATE_HZ, Samples
from lithophone.data.manifest import Entry
from lithophone.errors import AudioError
from lithophone.evaluation.sound import clip_samples

MAX_EMBEDDED_S = 60.0
EMBEDDED_BYTES = 24_000_000
"""Per page; further clips are linked."""

OPUS_LEVEL = 0.85
"""libsndfile's scale, 0 (best) to 1 (smallest): clear speech at about 4 kB a second."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Player:
    """Address for an `audio` element, and a note beside it."""

    source: str = ""
    preload: str = "none"
    note: str = ""


class Players:
    """Players of clips; sound is embedded until `embedded_bytes` are used."""

    def __init__(self, embedded_bytes: int = EMBEDDED_BYTES) -> None:
        self._left = embedded_bytes

    def player(self, entry: Entry) -> Player:
        """Player of a clip; a note alone where it cannot be read."""
        linked = Player(_link(entry), note="linked file")
        length_s = _length_s(entry)
        if self._left <= 0 or (length_s is not None and length_s > MAX_EMBEDDED_S):
            return linked
        try:
            samples = clip_samples(entry)
        except AudioError as error:
            logger.warning("no player: %s", error)
            return Player(note="no sound: the file cannot be read")
        if len(samples) > MAX_EMBEDDED_S * RATE_HZ:
            return linked
        source = opus_uri(samples)
        self._left -= len(source)
        return Player(source, "metadata")


def opus_uri(samples: Samples) -> str:
    """Samples (n,) at 16 kHz as a data URI of an Ogg Opus file."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", RATE_HZ, 1, format="OGG", subtype="OPUS", compression_level=OPUS_LEVEL
    ) as sound:
        for start in range(0, len(samples), RATE_HZ):
            sound.write(samples[start : start + RATE_HZ])
    return "data:audio/ogg;base64," + base64.b64encode(file.getvalue()).decode()


def _length_s(entry: Entry) -> float | None:
    if entry.start_s is not None and entry.end_s is not None:
        return entry.end_s - entry.start_s
    return entry.duration_s


def _link(entry: Entry) -> str:
    address = entry.audio.resolve().as_uri()
    if entry.start_s is None and entry.end_s is None:
        return address
    return f"{address}#t={entry.start_s or 0:g}" + ("" if entry.end_s is None else f",{entry.end_s:g}")
