"""Alignments of clips, and the most frequent substitutions, deletions and insertions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lithophone.evaluation.summary import Clip
from lithophone.evaluation.tally import Texts
from lithophone.metrics.alignment import Op, align


@dataclass(frozen=True)
class Pair:
    """One step of an alignment as words, or characters; empty where a side has none."""

    op: Op
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class Confusions:
    substitutions: Counter[tuple[str, str]] = field(default_factory=Counter)
    deletions: Counter[str] = field(default_factory=Counter)
    insertions: Counter[str] = field(default_factory=Counter)


def aligned(clip: Clip, texts: Texts) -> list[Pair]:
    """Alignment of the normalised reference and hypothesis."""
    ref, hyp = (texts.units(text, clip.entry.lang) for text in (clip.entry.text, clip.text))
    return [
        Pair(
            step.op,
            "" if step.reference is None else ref[step.reference],
            "" if step.hypothesis is None else hyp[step.hypothesis],
        )
        for step in align(ref, hyp)
    ]


def confusions(clips: Iterable[Clip], texts: Texts) -> Confusions:
    """Errors of many clips, counted by their words."""
    found = Confusions()
    for clip in clips:
        for pair in aligned(clip, texts) if clip.tally.counts.errors else ():
            if pair.op is Op.SUBSTITUTE:
                found.substitutions[pair.reference, pair.hypothesis] += 1
            elif pair.op is Op.DELETE:
                found.deletions[pair.reference] += 1
            elif pair.op is Op.INSERT:
                found.insertions[pair.hypothesis] += 1
    return found
