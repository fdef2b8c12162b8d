"""Scores as tables of text, for terminal and report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lithophone.evaluation.summary import Comparison, Evaluation, Score
from lithophone.metrics.counts import ErrorCounts
from lithophone.metrics.significance import Interval, fewest_clips

Evaluations = Mapping[str, Evaluation]
"""Scores by system name."""

NONE = ""


@dataclass(frozen=True)
class Grid:
    """Headings, rows of cells, and the number of text columns at the left."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int
    emphasized: frozenset[int] = frozenset()
    """Indices of rows that sum others."""


def percent(rate: float, digits: int = 2) -> str:
    """`0.0512` -> `5.12`; empty for nan, `inf` for insertions into empty references."""
    if math.isnan(rate):
        return NONE
    return "inf" if math.isinf(rate) else f"{100 * rate:.{digits}f}"


def interval_text(interval: Interval | None) -> str:
    return NONE if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"


def rates_grid(evaluations: Evaluations) -> Grid:
    """Rates with intervals: per corpus, per language with several, and the mean of its corpora."""
    headings = ("system", "corpus", "lang", "measure", "normaliser", "%", "interval", "S", "D", "I", "N")
    rows: list[tuple[str, ...]] = []
    sums: set[int] = set()
    for name, evaluation in evaluations.items():
        rows += (_rate_row(name, score.corpus, score) for score in evaluation.scores)
        for score in evaluation.languages:
            if score.lang in evaluation.averages:
                sums |= {len(rows), len(rows) + 1}
                rows.append(_rate_row(name, "all", score))
                rows.append(_mean_row(name, score, evaluation.averages[score.lang], len(headings) + 3))
    return _without_empty(
        Grid("Error rates", (*headings, "clips", "failed", "minutes"), tuple(rows), 5, frozenset(sums)),
        {"system"} if len(evaluations) == 1 else set(),
    )


def _rate_row(name: str, corpus: str, score: Score) -> tuple[str, ...]:
    c = score.counts
    counts = (c.substitutions, c.deletions, c.insertions, c.reference_length, score.clips)
    return (
        name, corpus, score.lang, score.measure, short_name(score.normalizer), percent(c.rate),
        interval_text(score.interval), *map(str, counts), str(score.failed or NONE), f"{score.audio_s / 60:.1f}",
    )  # fmt: skip


def _mean_row(name: str, score: Score, mean: float, columns: int) -> tuple[str, ...]:
    row = (name, "mean of corpora", score.lang, score.measure, short_name(score.normalizer), percent(mean))
    return row + (NONE,) * (columns - len(row))


def durations_grid(evaluations: Evaluations) -> Grid:
    headings = ("system", "lang", "length", "measure", "%", "interval", "N", "clips")
    rows = [
        (name, s.lang, s.duration, s.measure, percent(s.counts.rate), interval_text(s.interval),
         str(s.counts.reference_length), str(s.clips))
        for name, evaluation in evaluations.items() for s in evaluation.durations
    ]  # fmt: skip
    return _without_empty(
        Grid("By length of the clip", headings, tuple(rows), 4), {"system"} if len(evaluations) == 1 else set()
    )


MEASURES: Mapping[str, Callable[[Score], str]] = {
    "CER %": lambda s: percent(s.tally.characters.rate) if s.measure == "WER" else NONE,
    "PER %": lambda s: percent(s.tally.punctuation.rate) if s.tally.is_punctuated else NONE,
    "Cap-F1 %": lambda s: percent(s.tally.capitals.f1) if s.tally.is_cased else NONE,
    "keyword P %": lambda s: percent(s.tally.keywords.precision),
    "R %": lambda s: percent(s.tally.keywords.recall),
    "F1 %": lambda s: percent(s.tally.keywords.f1),
    "B-WER %": lambda s: percent(s.tally.biased.biased.rate) if s.tally.has_keywords else NONE,
    "U-WER %": lambda s: percent(s.tally.biased.unbiased.rate) if s.tally.has_keywords else NONE,
    "AAS ms": lambda s: _number(s.tally.times.aas_ms),
    "starts ms": lambda s: _number(s.tally.times.start_aas_ms),
    "malformed %": lambda s: percent(s.tally.times.malformed_share),
    "WDER %": lambda s: percent(s.tally.speakers.rate),
    "cpWER %": lambda s: percent(s.tally.cpwer.rate) if s.tally.cpwer != ErrorCounts() else NONE,
    "BLEU": lambda s: _number(s.translation.bleu if s.translation else math.nan, 2),
    "chrF++": lambda s: _number(s.translation.chrf if s.translation else math.nan, 2),
}
"""Cells of the measures beside the rate; empty where the data do not allow one."""


def measures_grid(evaluations: Evaluations) -> Grid:
    """All other measures that the data allow."""
    rows: list[tuple[str, ...]] = []
    sums: set[int] = set()
    for name, evaluation in evaluations.items():
        several = [s for s in evaluation.languages if s.lang in evaluation.averages]
        for corpus, score in [(s.corpus, s) for s in evaluation.scores] + [("all", s) for s in several]:
            rows.append((name, corpus, score.lang, *(cell(score) for cell in MEASURES.values())))
        sums |= set(range(len(rows) - len(several), len(rows)))
    return _without_empty(
        Grid("Other measures", ("system", "corpus", "lang", *MEASURES), tuple(rows), 3, frozenset(sums)),
        {"system"} if len(evaluations) == 1 else set(),
    )


def comparisons_grid(comparisons: Sequence[Comparison]) -> Grid:
    """Differences of systems in percentage points, with intervals and p-values."""
    headings = ("a", "b", "corpus", "lang", "a - b", "interval", "p")
    rows = [
        (c.a, c.b, "all" if c.corpus is None else c.corpus, c.lang, _signed(c.test.difference),
         _signed_interval(c.test.interval), p_text(c.test.p_value))
        for c in comparisons
    ]  # fmt: skip
    return _without_empty(Grid("Paired test, percentage points", headings, tuple(rows), 4))


def few_clips_lines(evaluations: Evaluations, comparisons: Sequence[Comparison], level: float) -> list[str]:
    """Says why intervals and p-values are missing, where clips are too few for them."""
    fewest = fewest_clips(level)
    parts = [s for e in evaluations.values() for s in (*e.scores, *e.languages, *e.durations)]
    few = any(s.clips < fewest and s.counts.reference_length for s in parts)
    if not few and all(c.test.interval for c in comparisons):
        return []
    return [f"No interval and no p-value where there are fewer than {fewest} clips (level {level:g})."]


def speed_lines(evaluations: Evaluations) -> list[str]:
    """RTFx and latencies of systems that were run."""
    lines = []
    for name, e in evaluations.items():
        if e.processing_s:
            tail = "" if e.latency is None else (
                f"; seconds a clip: p50 {e.latency.p50_s:.2f}, p90 {e.latency.p90_s:.2f}, p95 {e.latency.p95_s:.2f}, "
                f"p99 {e.latency.p99_s:.2f}"
            )  # fmt: skip
            lines.append(f"{name + ': ' if name else ''}RTFx {e.rtfx:.1f}, decoding of the files included{tail}")
    return lines


def normalizer_lines(evaluations: Evaluations) -> list[str]:
    """Full names of normalisers, and signatures of translation scores."""
    scores = [score for evaluation in evaluations.values() for score in evaluation.scores]
    names = {score.normalizer for score in scores}
    signatures = {
        line
        for score in scores
        if score.translation
        for line in (
            f"BLEU in {score.texts.to}: {score.translation.bleu_signature}",
            f"chrF++ in {score.texts.to}: {score.translation.chrf_signature}",
        )
    }
    return [f"normaliser {name}" for name in sorted(names)] + sorted(signatures)


def short_name(normalizer: str) -> str:
    """`english (whisper-normalizer 0.1.15, ...)` -> `english`."""
    return normalizer.split(" (")[0]


def p_text(p_value: float | None) -> str:
    return NONE if p_value is None else f"{p_value:.3f}"


def _number(value: float, digits: int = 1) -> str:
    return NONE if math.isnan(value) else f"{value:.{digits}f}"


def _signed(rate: float) -> str:
    return "inf" if math.isinf(rate) else f"{100 * rate:+.2f}"


def _signed_interval(interval: Interval | None) -> str:
    return NONE if interval is None else f"{_signed(interval.low)} to {_signed(interval.high)}"


def _without_empty(grid: Grid, dropped: Iterable[str] = ()) -> Grid:
    """The grid without empty columns, and without columns `dropped`."""
    kept = [i for i, heading in enumerate(grid.headings) if heading not in dropped and any(row[i] for row in grid.rows)]
    return Grid(
        grid.title,
        tuple(grid.headings[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in grid.rows),
        sum(i < grid.text_columns for i in kept),
        grid.emphasized,
    )
