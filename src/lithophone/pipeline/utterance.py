"""Input and output of the engine: a window of a recording, and its decoded result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lithophone.audio.cuts import Cut, cut_s, restored
from lithophone.audio.reader import RATE_HZ
from lithophone.decode.reply import Reply
from lithophone.pipeline.request import Request
from lithophone.text.replies import ParsedReply, Turn
from lithophone.transcript import Word


class Previous(Protocol):
    """A window that the next one continues, once it is decoded."""

    @property
    def samples(self) -> Tensor | None: ...

    @property
    def done(self) -> bool: ...

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Its text once done; empty where it is not to be continued."""
        ...


@dataclass(frozen=True, eq=False)
class Utterance:
    """A window of a recording, with its own samples and its request."""

    samples: Tensor
    """(n,) float32, 16 kHz."""
    start: int
    """Index of the first sample in the recording."""
    request: Request
    recording: object = None
    """The caller's object for the recording, which the engine refers to weakly; None: a recording of its own."""
    cuts: tuple[Cut, ...] = ()
    """Silences that are not in `samples`."""
    previous: Previous | None = None
    """The window before, to be continued (incremental decoding)."""

    @property
    def start_s(self) -> float:
        return self.start / RATE_HZ

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ

    @property
    def end_s(self) -> float:
        return (self.start + len(self.samples) + sum(cut.length for cut in self.cuts)) / RATE_HZ


@dataclass(frozen=True)
class WindowResult:
    """A decoded window; `start_s`, `end_s` in the recording, times of words and turns in the window."""

    start_s: float
    end_s: float
    reply: Reply
    parsed: ParsedReply
    has_speech: bool
    """Whether the character head's best path has any label."""
    ctc_text: str | None = None
    """Best path of the character head; None where the reply has other words (translation)."""
    ctc_confidence: float | None = None
    """Geometric mean posterior of that path's labels; None without `ctc_text`."""
    min_confidence: float = 0.0
    """Of the request."""
    language: str | None = None
    """Of the text, as the request gives it."""
    aligned: tuple[Word, ...] = ()
    """Timed words with acoustic confidence."""
    untimed: str = ""
    """Why words lack times."""
    cuts: tuple[Cut, ...] = ()
    """Silences that are not in the window's samples, and not in the times of `parsed` and `aligned`."""
    renumbered: bool = False
    """Whether speakers are numbered anew, since the window before could not be continued."""
    retimed: tuple[Word, ...] = ()
    """Words whose time tags differ from the alignment, with the times of the alignment."""
    unchecked: str = ""
    """Why time tags could not be compared with the alignment."""
    largest_shift_s: float = 0.0
    """Largest difference between a time tag and the alignment."""

    @property
    def duration_s(self) -> float:
        """Of the samples."""
        return self.end_s - self.start_s - cut_s(self.cuts)

    def in_recording(self, start_s: float, end_s: float) -> tuple[float, float]:
        """A span of the window's samples in times of the recording, not behind the window's end."""
        start_s, end_s = restored(start_s, end_s, self.cuts)
        return min(self.start_s + start_s, self.end_s), min(self.start_s + end_s, self.end_s)
