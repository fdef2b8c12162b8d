"""Corpora of a recipe's command line, their sampling shares, and a report of dropped clips."""

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
from lithophone.train.data.batches import MixtureSource
from lithophone.train.data.clips import DecodedCorpus, TeacherStates
from lithophone.train.targets.ctc_transcripts import training_language

CACHE = Path("data/pcm")
"""Default folder of decoded samples."""

DATA_SYNTAX = "MANIFEST[:LANGS[@CORPORA][:WEIGHT[:TEACHER]]]"

SHOWN = 20
"""Most reasons of unreadable clips in the report."""

ALPHA = 0.6
"""Exponent of sampling by hours, as in the papers."""


@dataclass(frozen=True)
class CorpusPart:
    """One corpus in one language: training clips, and dropped clips by reason; `weight` multiplies its share."""

    name: str
    corpus: DecodedCorpus
    dropped: dict[str, int]
    weight: float = 1.0
    teacher: TeacherStates | None = None


def read_parts(text: str, longest_s: float, cache: Path) -> list[CorpusPart]:
    """`MANIFEST[:LANGS[@CORPORA][:WEIGHT[:TEACHER]]]` -> one part per corpus and language.

    LANGS and CORPORA are joined by `+`, none means all; languages are compared without regions. TEACHER: path of dense
    targets without suffix. Raises ManifestError without clips, OptionError for a bad weight.
    """
    manifest, which, weight, teacher, *_ = [*text.split(":"), "", "", ""]
    langs, _, corpora = which.partition("@")
    wanted = {training_language(lang) for lang in langs.split("+") if lang}
    groups: dict[str, list[Entry]] = {}
    for entry in read_entries(manifest):
        lang = training_language(entry.lang)
        if (not wanted or lang in wanted) and (not corpora or entry.corpus in corpora.split("+")):
            groups.setdefault(f"{entry.corpus or Path(manifest).stem}:{lang}", []).append(entry)
    if not groups:
        raise ManifestError(f"{manifest} has no clips of {which!r}: give languages, and after @ corpora, that it has")
    states = TeacherStates(Path(teacher)) if teacher else None
    share = _weight(weight, text)
    return [_read_part(name, entries, longest_s, cache, share, states) for name, entries in groups.items()]


def _weight(text: str, spec: str) -> float:
    try:
        weight = float(text or 1.0)
    except ValueError:
        weight = -1.0
    if not 0.0 < weight < float("inf"):
        raise OptionError(f"--data {spec}: the weight is {text!r}: it must be a number above 0 ({DATA_SYNTAX})")
    return weight


def _read_part(
    name: str, entries: Sequence[Entry], longest_s: float, cache: Path, weight: float, teacher: TeacherStates | None
) -> CorpusPart:
    """Decode clips within `longest_s` by the manifest; keep those within it in fact."""
    with_text = [entry for entry in entries if raw_text(entry.text)]
    short = [entry for entry in with_text if (entry.duration_s or 0.0) <= longest_s]
    corpus = copy.copy(DecodedCorpus(short, cache)) if short else None
    decoded = corpus.clips if corpus else []
    kept = [clip for clip in decoded if clip.length <= longest_s * RATE_HZ]
    dropped = {
        "no text": len(entries) - len(with_text),
        f"longer than {longest_s:.4g} s": len(with_text) - len(short) + len(decoded) - len(kept),
        "unreadable": len(short) - len(decoded),
    }
    if corpus is None or not kept:
        raise ManifestError(f"none of the {len(entries)} clips of {name} can be used; dropped: {dropped}")
    corpus.clips, corpus.hours = kept, sum(clip.length for clip in kept) / RATE_HZ / 3600
    return CorpusPart(name, corpus, dropped, weight, teacher)


def corpus_shares(parts: Sequence[CorpusPart], alpha: float) -> list[float]:
    """Sampling shares, proportional to weight * hours ** alpha."""
    powers = [part.weight * part.corpus.hours**alpha for part in parts]
    return [power / sum(powers) for power in powers]


def as_sources(parts: Sequence[CorpusPart], alpha: float) -> list[MixtureSource]:
    shares = corpus_shares(parts, alpha)
    return [MixtureSource(part.corpus, share, part.teacher) for part, share in zip(parts, shares, strict=True)]


def data_report(parts: Sequence[CorpusPart], alpha: float, longest_row_s: float) -> list[dict[str, Any]]:
    """Rows of `data.json`. Clips longer than a row are used only where nothing shorter is drawn."""
    return [
        {
            "name": part.name, "clips": len(part.corpus.clips), "hours": round(part.corpus.hours, 3),
            "share": round(share, 4), "dropped": part.dropped, "unreadable": part.corpus.unreadable[:SHOWN],
            "longer than a row": sum(clip.length > longest_row_s * RATE_HZ for clip in part.corpus.clips),
        }
        for part, share in zip(parts, corpus_shares(parts, alpha), strict=True)
    ]  # fmt: skip
