"""A manifest through a transcriber -> error rates per corpus and language, and the speed.

A clip that cannot be transcribed counts as an empty transcript: all of its words are deletions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lithophone.errors import LithophoneError
from lithophone.longform.options import TranscribeOptions
from lithophone.longform.transcriber import OnPiece, Transcriber
from lithophone.manifest import Entry
from lithophone.metrics.counts import ErrorCounts
from lithophone.metrics.normalize import normalizer_for
from lithophone.metrics.wer import measure_name, score
from lithophone.transcript import Transcript

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """The errors of one corpus in one language; scores of the same language add."""

    corpus: str
    lang: str
    counts: ErrorCounts = field(default_factory=ErrorCounts)
    clips: int = 0
    failed: int = 0
    audio_s: float = 0.0

    def __add__(self, other: Score) -> Score:
        assert self.lang == other.lang, f"{self.lang} and {other.lang} are not counted the same way"
        return Score(
            self.corpus,
            self.lang,
            self.counts + other.counts,
            self.clips + other.clips,
            self.failed + other.failed,
            self.audio_s + other.audio_s,
        )

    @property
    def measure(self) -> str:
        """`WER` or `CER`."""
        return measure_name(self.lang)

    @property
    def normalizer(self) -> str:
        """Name and version of what both texts went through."""
        return str(normalizer_for(self.lang))

    def to_dict(self) -> dict[str, Any]:
        c = self.counts
        return {
            "corpus": self.corpus, "lang": self.lang, "measure": self.measure, "rate": c.rate, "hits": c.hits,
            "substitutions": c.substitutions, "deletions": c.deletions, "insertions": c.insertions,
            "clips": self.clips, "failed": self.failed, "audio_s": self.audio_s, "normalizer": self.normalizer,
        }  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """Scores, and the seconds of processing, decoding of the files included."""

    scores: tuple[Score, ...]
    processing_s: float

    @property
    def audio_s(self) -> float:
        return sum(score.audio_s for score in self.scores)

    @property
    def failed(self) -> int:
        return sum(score.failed for score in self.scores)

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of processing."""
        return self.audio_s / self.processing_s

    def to_dict(self) -> dict[str, Any]:
        speed = {"audio_s": self.audio_s, "processing_s": self.processing_s, "rtfx": self.rtfx}
        return {"scores": [score.to_dict() for score in self.scores], **speed, "rtfx_includes_file_decoding": True}


def evaluate(
    transcriber: Transcriber,
    entries: Sequence[Entry],
    options: TranscribeOptions | None = None,
    on_piece: OnPiece | None = None,
) -> Evaluation:
    """Transcribe all entries and score them, corpus by corpus and language by language, sorted by name."""
    scores: dict[tuple[str, str], Score] = {}
    began = time.perf_counter()
    results = transcriber.transcribe_many([entry.audio for entry in entries], options=options, on_piece=on_piece)
    for entry, (_, result) in zip(entries, results, strict=True):
        key = (entry.corpus, entry.lang)
        scores[key] = scores.get(key, Score(*key)) + score_entry(entry, result)
    return Evaluation(tuple(scores[key] for key in sorted(scores)), time.perf_counter() - began)


def score_entry(entry: Entry, result: Transcript | LithophoneError) -> Score:
    """The score of a single clip."""
    if isinstance(result, LithophoneError):
        logger.warning("counted as empty: %s", result)
        return Score(entry.corpus, entry.lang, score([(entry.text, "")], entry.lang), 1, 1, entry.duration_s or 0.0)
    counts = score([(entry.text, result.text)], entry.lang)
    return Score(entry.corpus, entry.lang, counts, 1, 0, result.duration_s)
