"""Speech to text with the Granite Speech models.

    import lithophone

    transcript = lithophone.load().transcribe("talk.mp3")

Torch is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lithophone.errors import LithophoneError
from lithophone.transcript import Segment, Transcript, TranscriptWarning, Word

if TYPE_CHECKING:
    from lithophone.pipeline.assembly import RecordingDone, WindowDone
    from lithophone.pipeline.options import TranscribeOptions
    from lithophone.pipeline.sources import AudioSource
    from lithophone.pipeline.transcriber import Transcriber, load

__version__ = "0.2.0"

__all__ = [
    "AudioSource",
    "LithophoneError",
    "RecordingDone",
    "Segment",
    "TranscribeOptions",
    "Transcriber",
    "Transcript",
    "TranscriptWarning",
    "WindowDone",
    "Word",
    "load",
]

_LAZY = {
    "AudioSource": "lithophone.pipeline.sources",
    "RecordingDone": "lithophone.pipeline.assembly",
    "TranscribeOptions": "lithophone.pipeline.options",
    "Transcriber": "lithophone.pipeline.transcriber",
    "WindowDone": "lithophone.pipeline.assembly",
    "load": "lithophone.pipeline.transcriber",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
