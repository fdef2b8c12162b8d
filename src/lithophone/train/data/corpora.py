"""What a recipe trains on: corpora named on its command line, their shares, and what was dropped and why."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lithophone.audio.features import RATE_HZ
from lithophone.ctc.characters import raw_text
from lithophone.data.manifest import Entry, read_entries
from lithophone.errors import ManifestError, OptionError
from lithophone.train.data.batches import Corpus, Source, Teacher

CACHE = Path("data/pcm")
"""Where recipes keep decoded samples."""

DATA_SYNTAX = "MANIFEST[:LANGS[@CORPORA][:WEIGHT[:TEACHER]]]"

ALPHA = 0.6
"""The family samples its corpora with hours ** 0.6."""


@dataclass(frozen=True)
class Part:
    """One corpus in one language: the clips that are trained on, and how many were dropped for which reason.

    `weight` multiplies the share that its hours give it.
    """

    name: str
    corpus: Corpus
    dropped: dict[str, int]
    weight: float = 1.0
    teacher: Teacher | None = None


def read_parts(text: str, longest_s: float, cache: Path) -> list[Part]:
    """`MANIFEST[:LANGS[@CORPORA][:WEIGHT[:TEACHER]]]` -> a part for every corpus and language in it.

    LANGS and CORPORA are joined by `+`; none means all. TEACHER is the path of dense targets, without its ending.
    Raises ManifestError where nothing is named, or nothing is left; OptionError for a weight that is none.
    """
    manifest, which, weight, teacher, *_ = [*text.split(":"), "", "", ""]
    langs, _, corpora = which.partition("@")
    groups: dict[str, list[Entry]] = {}
    for entry in read_entries(manifest):
        if (not langs or entry.lang in langs.split("+")) and (not corpora or entry.corpus in corpora.split("+")):
            groups.setdefault(f"{entry.corpus or Path(manifest).stem}:{entry.lang}", []).append(entry)
    if not groups:
        raise ManifestError(
            f"{manifest} has no clips of {which!r}: name languages, and behind @ corpora, that it holds"
        )
    states = Teacher(Path(teacher)) if teacher else None
    share = _weight(weight, text)
    return [_read_part(name, entries, longest_s, cache, share, states) for name, entries in groups.items()]


def _weight(text: str, spec: str) -> float:
    try:
        weight = float(text or 1.0)
    except ValueError:
        weight = -1.0
    if not 0.0 < weight < float("inf"):
        raise OptionError(f"--data {spec}: the weight is {text!r}, it must be a number above 0 ({DATA_SYNTAX})")
    return weight


def _read_part(
    name: str, entries: Sequence[Entry], longest_s: float, cache: Path, weight: float, teacher: Teacher | None
) -> Part:
    """Decode what is short enough by the manifest, and keep what is short enough in truth."""
    with_text = [entry for entry in entries if raw_text(entry.text)]
    short = [entry for entry in with_text if (entry.duration_s or 0.0) <= longest_s]
    corpus = copy.copy(Corpus(short, cache)) if short else None
    decoded = corpus.clips if corpus else []
    kept = [clip for clip in decoded if clip.length <= longest_s * RATE_HZ]
    dropped = {
        "no text": len(entries) - len(with_text),
        f"longer than {longest_s:.4g} s": len(with_text) - len(short) + len(decoded) - len(kept),
        "unreadable": len(short) - len(decoded),
    }
    if corpus is None or not kept:
        raise ManifestError(f"nothing is left of the {len(entries)} clips of {name}; dropped were: {dropped}")
    corpus.clips, corpus.hours = kept, sum(clip.length for clip in kept) / RATE_HZ / 3600
    return Part(name, corpus, dropped, weight, teacher)


def corpus_shares(parts: Sequence[Part], alpha: float) -> list[float]:
    """Shares of the rows, weight * hours ** alpha: small corpora are heard more often than by their size."""
    powers = [part.weight * part.corpus.hours**alpha for part in parts]
    return [power / sum(powers) for power in powers]


def as_sources(parts: Sequence[Part], alpha: float) -> list[Source]:
    """The parts as sources of a mixture."""
    shares = corpus_shares(parts, alpha)
    return [Source(part.corpus, share, part.teacher) for part, share in zip(parts, shares, strict=True)]


def data_report(parts: Sequence[Part], alpha: float, longest_row_s: float) -> list[dict[str, Any]]:
    """What is trained on and what is not. Clips that are longer than a row wait until nothing shorter is drawn."""
    return [
        {
            "name": part.name, "clips": len(part.corpus.clips), "hours": round(part.corpus.hours, 3),
            "share": round(share, 4), "dropped": part.dropped,
            "longer than a row": sum(clip.length > longest_row_s * RATE_HZ for clip in part.corpus.clips),
        }
        for part, share in zip(parts, corpus_shares(parts, alpha), strict=True)
    ]  # fmt: skip
