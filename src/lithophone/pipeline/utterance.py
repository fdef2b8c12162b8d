"""What goes into the engine and what comes out: one window of a recording, and the result of decoding it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lithophone.audio.reader import RATE_HZ
from lithophone.decode.reply import Reply
from lithophone.pipeline.request import Request
from lithophone.text.replies import ParsedReply
from lithophone.transcript import Word


@dataclass(frozen=True, eq=False)
class Utterance:
    """A window of a recording with its request. Holds its own samples, and nothing else of the recording."""

    samples: Tensor
    """(n,) float32, 16 kHz."""
    start: int
    """Position of the first sample in the recording."""
    request: Request
    recording: object = None
    """Identity of the recording, for the caller."""

    @property
    def start_s(self) -> float:
        return self.start / RATE_HZ

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ

    @property
    def end_s(self) -> float:
        return (self.start + len(self.samples)) / RATE_HZ


@dataclass(frozen=True)
class WindowResult:
    """The decoded window: reply, its text and words, and what the character head has of them.

    Times of words and turns count from the start of the window; `start_s` and `end_s` are those of the recording.
    """

    start_s: float
    end_s: float
    reply: Reply
    parsed: ParsedReply
    has_speech: bool
    """Whether the best path of the character head holds any label."""
    ctc_text: str | None = None
    """The best path of the character head, where the reply should have the same words: not for a translation."""
    ctc_confidence: float | None = None
    """Geometric mean posterior of the labels on that path, where `ctc_text` is given."""
    min_confidence: float = 0.0
    """That of the request."""
    aligned: tuple[Word, ...] = ()
    """Timed words of the reply with the confidence of the character head alone."""
    untimed: str = ""
    """Why words that should have times have none."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s
