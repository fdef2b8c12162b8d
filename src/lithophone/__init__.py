"""Speech to text with the Granite Speech models.

    import lithophone

    transcript = lithophone.load().transcribe("talk.mp3")

Torch is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lithophone.errors import LithophoneError
from lithophone.transcript import LanguageGuess, Segment, Transcript, TranscriptWarning, Word
from lithophone.version import __version__

if TYPE_CHECKING:
    from lithophone.diarization.known import RttmDiarizer
    from lithophone.memory import keep_freed_memory
    from lithophone.pipeline.assembly import RecordingDone, WindowDone
    from lithophone.pipeline.journal import Journal
    from lithophone.pipeline.options import TranscribeOptions
    from lithophone.pipeline.sources import AudioSource
    from lithophone.pipeline.transcriber import Transcriber, load

__all__ = [
    "AudioSource",
    "Journal",
    "LanguageGuess",
    "LithophoneError",
    "RecordingDone",
    "RttmDiarizer",
    "Segment",
    "TranscribeOptions",
    "Transcriber",
    "Transcript",
    "TranscriptWarning",
    "WindowDone",
    "Word",
    "__version__",
    "keep_freed_memory",
    "load",
]

_LAZY = {
    "AudioSource": "lithophone.pipeline.sources",
    "Journal": "lithophone.pipeline.journal",
    "RecordingDone": "lithophone.pipeline.assembly",
    "RttmDiarizer": "lithophone.diarization.known",
    "TranscribeOptions": "lithophone.pipeline.options",
    "Transcriber": "lithophone.pipeline.transcriber",
    "WindowDone": "lithophone.pipeline.assembly",
    "keep_freed_memory": "lithophone.memory",
    "load": "lithophone.pipeline.transcriber",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
