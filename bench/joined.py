"""A long recording of clips with silences of 5 to 60 s between them, compared with the clips alone.

Silences are white noise at the level of the quietest frames of the clip before. A word of the recording belongs to the
clip whose seams, the middles of the silences around it, enclose the word's middle; words are matched clip by clip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from lithophone.audio.reader import RATE_HZ, Samples, load_audio
from lithophone.data.manifest import Entry
from lithophone.errors import LithophoneError
from lithophone.metrics.alignment import Op, align
from lithophone.metrics.counts import ErrorCounts, count_errors
from lithophone.metrics.normalize import basic
from lithophone.metrics.wer import measure_name, score
from lithophone.pipeline.transcriber import Transcriber
from lithophone.transcript import Transcript, Word, join_text

SILENCE_S = 5.0, 60.0
HOP = RATE_HZ // 100
QUIET_SHARE = 0.05
FLOOR_DB = -80.0
"""Noise is not below this level, as it would be after a clip with digital silence."""

LIMIT_MS = 100.0
LONGEST_REPEAT = 60
"""Words of the longest phrase that is looked for a second time."""


@dataclass(frozen=True)
class Clip:
    entry: Entry
    samples: Samples
    start_s: float
    """In the recording."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


def compared(
    transcriber: Transcriber, entries: Sequence[Entry], seconds: float, seed: int, folder: Path, **options: Any
) -> dict[str, Any]:
    """Differences between a recording of at least `seconds`, where the entries suffice, and its clips alone."""
    clips, samples = concatenated(entries, seconds, seed)
    soundfile.write(folder / "joined.flac", samples, RATE_HZ, subtype="PCM_24")
    options = {"word_timestamps": True, **options}
    recording = transcriber.transcribe(folder / "joined.flac", **options)
    alone = [_result(one) for _, one in transcriber.transcribe_many([c.samples for c in clips], RATE_HZ, **options)]
    return {
        "clips": len(clips),
        "speech_s": round(sum(clip.duration_s for clip in clips), 1),
        "duration_s": round(len(samples) / RATE_HZ, 1),
        "warnings": {"alone": warnings(alone), "joined": warnings([recording])},
        **differences(clips, alone, recording.words),
    }


def warnings(transcripts: Iterable[Transcript]) -> dict[str, int]:
    return dict(Counter(warning.code for one in transcripts for warning in one.warnings))


def _result(found: Transcript | LithophoneError) -> Transcript:
    if isinstance(found, LithophoneError):
        raise found
    return found


# --- the recording


def concatenated(entries: Sequence[Entry], seconds: float, seed: int) -> tuple[list[Clip], Samples]:
    """Clips in random order, none twice, and the recording's samples."""
    rng = np.random.default_rng(seed)
    clips: list[Clip] = []
    parts: list[Samples] = []
    n = 0
    for i in rng.permutation(len(entries)):
        if n >= seconds * RATE_HZ:
            break
        samples = load_audio(entries[i].audio, start_s=entries[i].start_s, end_s=entries[i].end_s)
        clips.append(Clip(entries[i], samples, n / RATE_HZ))
        parts += [samples, noise(samples, round(rng.uniform(*SILENCE_S) * RATE_HZ), rng)]
        n += len(parts[-2]) + len(parts[-1])
    return clips, np.concatenate(parts)


def noise(like: Samples, n: int, rng: np.random.Generator) -> Samples:
    """White noise (n,) at the level of the quietest frames of other samples."""
    hops = like[: len(like) // HOP * HOP].reshape(-1, HOP)
    quiet = float(np.quantile(np.sqrt(np.square(hops).mean(1)), QUIET_SHARE))
    return rng.normal(0, max(quiet, 10 ** (FLOOR_DB / 20)), n).astype(np.float32)


# --- the comparison


def differences(clips: Sequence[Clip], alone: Sequence[Transcript], words: Sequence[Word]) -> dict[str, Any]:
    """Word ends, errors, and words dropped, added, repeated or in silence; `words` are those of the recording."""
    lang = clips[0].entry.lang
    joined = words_by_clip(words, clips)
    changes = ErrorCounts()
    for one, some in zip(alone, joined, strict=True):
        changes += count_errors([key for key, _ in keyed(one.words)], [key for key, _ in keyed(some)])
    spoken = [clip.entry.text for clip in clips]
    rates = {
        "alone": score(zip(spoken, (one.text for one in alone), strict=True), lang).rate,
        "joined": score(
            zip(spoken, (join_text((w.text for w in some), lang) for some in joined), strict=True), lang
        ).rate,
    }
    return {
        "word_ends": ends_of_same_words(clips, alone, joined),
        "clip_edges": edges([one.words for one in alone], joined),
        measure_name(lang).lower(): {name: round(100 * rate, 2) for name, rate in rates.items()},
        "words": {
            "alone": sum(len(one.words) for one in alone),
            "joined": len(words),
            "dropped": changes.deletions,
            "added": changes.insertions,
            "changed": changes.substitutions,
            "in_silence": sum(
                not 0 <= middle_s(word) <= clip.duration_s
                for clip, some in zip(clips, joined, strict=True)
                for word in some
            ),
        },
        "repeated_words": {
            "alone": repeated([key for one in alone for key, _ in keyed(one.words)]),
            "joined": repeated([key for key, _ in keyed(words)]),
        },
        "clips_without_words": {
            "alone": sum(not one.words for one in alone),
            "joined": sum(not some for some in joined),
        },
    }


def words_by_clip(words: Sequence[Word], clips: Sequence[Clip]) -> list[list[Word]]:
    """Words between the seams of each clip, timed from its start."""
    seams_s = [(before.end_s + after.start_s) / 2 for before, after in pairwise(clips)]
    found: list[list[Word]] = [[] for _ in clips]
    for word in words:
        i = int(np.searchsorted(seams_s, middle_s(word)))
        start_s = clips[i].start_s
        found[i].append(replace(word, start_s=word.start_s - start_s, end_s=word.end_s - start_s))
    return found


def middle_s(word: Word) -> float:
    return (word.start_s + word.end_s) / 2


def ends_of_same_words(
    clips: Sequence[Clip], alone: Sequence[Transcript], joined: Sequence[Sequence[Word]]
) -> dict[str, Any]:
    """Absolute differences of the ends of matched words in milliseconds, and the word of the largest."""
    pairs = [
        (clip, one, other)
        for clip, before, after in zip(clips, alone, joined, strict=True)
        for one, other in same_words(before.words, after)
    ]
    if not pairs:
        return {"compared": 0}
    differences_ms = np.array([1000 * (other.end_s - one.end_s) for _, one, other in pairs])
    absolute_ms = np.abs(differences_ms)
    clip, one, _ = pairs[int(absolute_ms.argmax())]
    return {
        "compared": len(pairs),
        "mean_ms": round(float(absolute_ms.mean()), 1),
        "p95_ms": round(float(np.percentile(absolute_ms, 95)), 1),
        "largest_ms": round(float(absolute_ms.max()), 1),
        "bias_ms": round(float(differences_ms.mean()), 1),
        "above_100_ms": int((absolute_ms > LIMIT_MS).sum()),
        "largest": {"clip": clip.entry.id, "word": one.text, "end_s": round(one.end_s, 2)},
    }


def edges(alone: Iterable[Sequence[Word]], joined: Iterable[Sequence[Word]]) -> dict[str, float]:
    """Absolute differences, in milliseconds, of the start of each clip's first word and the end of its last.

    They are large where words are lost or invented at the ends of a clip, whatever the words are.
    """
    found = [
        1000 * abs(difference_s)
        for before, after in zip(alone, joined, strict=True)
        if before and after
        for difference_s in (after[0].start_s - before[0].start_s, after[-1].end_s - before[-1].end_s)
    ]
    if not found:
        return {"compared": 0}
    return {
        "compared": len(found),
        "mean_ms": round(float(np.mean(found)), 1),
        "largest_ms": round(max(found), 1),
        "above_100_ms": sum(difference_ms > LIMIT_MS for difference_ms in found),
    }


def same_words(alone: Sequence[Word], joined: Sequence[Word]) -> Iterator[tuple[Word, Word]]:
    """Words that the alignment of both matches, without case and punctuation."""
    ones, others = keyed(alone), keyed(joined)
    for step in align([key for key, _ in ones], [key for key, _ in others]):
        if step.op is Op.HIT and step.reference is not None and step.hypothesis is not None:
            yield ones[step.reference][1], others[step.hypothesis][1]


def keyed(words: Sequence[Word]) -> list[tuple[str, Word]]:
    """Words with their form for comparison; punctuation alone is left out."""
    normalise = basic()
    return [(key, word) for word in words if (key := "".join(normalise(word.text).split()))]


def repeated(words: Sequence[str]) -> int:
    """Words of phrases that are those directly before them, the longest phrases first."""
    n = i = 0
    while i < len(words):
        longest = min(i, len(words) - i, LONGEST_REPEAT)
        length = next((k for k in range(longest, 0, -1) if words[i : i + k] == words[i - k : i]), 0)
        n += length
        i += max(length, 1)
    return n
