"""Players for a page: the sound of a clip inside the page as Opus, or a link to its file."""

from __future__ import annotations

import base64
import io
import logging
from html import escape

import soundfile

from lithophone.audio.reader import RATE_HZ, Samples
from lithophone.data.manifest import Entry
from lithophone.errors import AudioError
from lithophone.evaluation.sound import clip_samples

MAX_EMBEDDED_S = 60.0
EMBEDDED_BYTES = 24_000_000
"""Of a whole page: what comes after is linked."""

OPUS_LEVEL = 0.85
"""libsndfile's scale from 0, the best, to 1, the smallest: speech is clear, and a second takes about 4 kB."""

logger = logging.getLogger(__name__)


class Players:
    """Gives every clip its player, as long as there is room in the page."""

    def __init__(self, embedded_bytes: int = EMBEDDED_BYTES) -> None:
        self._left = embedded_bytes

    def player(self, entry: Entry) -> str:
        """An `audio` element; a note where the clip cannot be read."""
        length_s = _length_s(entry)
        if self._left <= 0 or (length_s is not None and length_s > MAX_EMBEDDED_S):
            return _element(_link(entry), "none") + '<span class="note">linked file</span>'
        try:
            samples = clip_samples(entry)
        except AudioError as error:
            logger.warning("no player: %s", error)
            return '<span class="note">no sound: the file cannot be read</span>'
        if len(samples) > MAX_EMBEDDED_S * RATE_HZ:
            return _element(_link(entry), "none") + '<span class="note">linked file</span>'
        source = opus_uri(samples)
        self._left -= len(source)
        return _element(source, "metadata")


def opus_uri(samples: Samples) -> str:
    """Samples (n,) at 16 kHz as a data URI with an Ogg Opus file in it."""
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


def _element(source: str, preload: str) -> str:
    return f'<audio controls preload="{preload}" src="{escape(source)}"></audio>'
