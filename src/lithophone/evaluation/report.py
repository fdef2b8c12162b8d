"""HTML report in one file: tables, plots, confusions, and the worst clips with their sound.

Data for `page.html`, a jinja2 template that escapes every text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template

import lithophone
from lithophone.errors import AudioError
from lithophone.evaluation.confusions import Pair, aligned, confusions
from lithophone.evaluation.player import EMBEDDED_BYTES, Player, Players
from lithophone.evaluation.plots import Plot, Point, Series, rate_plot
from lithophone.evaluation.sound import clip_samples, snr_db
from lithophone.evaluation.summary import (
    AS_USUAL,
    DURATION_EDGES_S,
    Comparison,
    Evaluation,
    Resampling,
    System,
    duration_name,
    grouped,
    interval_of,
)  # fmt: skip
from lithophone.evaluation.tables import (
    Grid,
    comparisons_grid,
    durations_grid,
    few_clips_lines,
    measures_grid,
    normalizer_lines,
    percent,
    rates_grid,
    speed_lines,
)  # fmt: skip
from lithophone.evaluation.tally import total
from lithophone.metrics.significance import Interval

SNR_EDGES_DB = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
SNR_CLIPS = 2000
"""Clips whose sound is read for the plot over SNR, evenly spaced in the manifest."""

TOP_CONFUSIONS = 15
NAMES_SHOWN = 200


@dataclass(frozen=True)
class Page:
    title: str
    worst: int = 50
    """Number of clips with the most errors."""
    embedded_bytes: int = EMBEDDED_BYTES
    resampling: Resampling = AS_USUAL


def report(
    page: Page, systems: Sequence[System], evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]
) -> str:
    """The page as HTML; systems in the order shown."""
    scored = {system.name: evaluation for system, evaluation in zip(systems, evaluations, strict=True)}
    snr = _snr_of_clips(systems[0])
    measures = measures_grid(scored)
    worst, worst_line = _worst(page, systems, snr)
    return _template().render(
        title=page.title, facts=_facts(systems[0]), names=list(scored), version=lithophone.__version__,
        css=_file("page.css"), script=_file("page.js"),
        rates=_table(rates_grid(scored)),
        comparisons=_table(comparisons_grid(comparisons)) if comparisons else None,
        measures=_table(measures) if len(measures.headings) > measures.text_columns else None,
        few_clips=few_clips_lines(scored, comparisons, page.resampling.level),
        speed=speed_lines(scored), durations=_table(durations_grid(scored)), **_resampling(page.resampling),
        figures=_figures(page, systems, scored, snr), snr_clips=f"{len(snr):,}",
        confusions=[one for system in systems for one in _confusions(system)],
        worst=worst, worst_line=worst_line, notes=_notes(systems, scored),
    ) + "\n"  # fmt: skip


@cache
def _template() -> Template:
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(_file("page.html"))


def _file(name: str) -> str:
    return (resources.files("lithophone.evaluation") / name).read_text(encoding="utf-8")


def _facts(system: System) -> str:
    tally = total(clip.tally for clip in system.clips)
    languages = sorted({clip.entry.lang for clip in system.clips})
    hours = tally.audio_s / 3600
    length = f"{hours:.1f} h" if hours >= 1 else f"{tally.audio_s / 60:.1f} min"
    return f"{tally.clips:,} clips, {length}, {', '.join(languages)}"


def _resampling(r: Resampling) -> dict[str, str]:
    return {
        "level": f"{100 * r.level:g}", "resamples": f"{r.resamples:,}", "seed": str(r.seed),
        "smallest_p": f"{2 / (r.resamples + 1):.3f}",
    }  # fmt: skip


# --- tables


@dataclass(frozen=True)
class _Row:
    cells: tuple[str, ...]
    emphasized: bool


@dataclass(frozen=True)
class _Body:
    name: str
    rows: tuple[_Row, ...]


@dataclass(frozen=True)
class _Table:
    """A grid with a body per system."""

    title: str
    headings: tuple[str, ...]
    text_columns: int
    bodies: tuple[_Body, ...]


def _table(grid: Grid) -> _Table:
    shown = int(grid.headings[0] == "system")
    bodies: dict[str, list[_Row]] = {}
    for number, row in enumerate(grid.rows):
        bodies.setdefault(row[0] if shown else "", []).append(_Row(row[shown:], number in grid.emphasized))
    named = tuple(_Body(name, tuple(rows)) for name, rows in bodies.items())
    return _Table(grid.title, grid.headings[shown:], grid.text_columns - shown, named)


# --- plots


@dataclass(frozen=True)
class _Figure:
    plot: Plot
    axis: str


def _figures(
    page: Page, systems: Sequence[System], scored: Mapping[str, Evaluation], snr: Mapping[int, float]
) -> list[_Figure]:
    languages = sorted({clip.entry.lang for clip in systems[0].clips})
    found = [(_length_plot(scored, lang), _snr_plot(page, systems, lang, snr)) for lang in languages]
    return [figure for pair in found for figure in pair if figure is not None]


def _length_plot(scored: Mapping[str, Evaluation], lang: str) -> _Figure:
    names = [duration_name(i) for i in range(len(DURATION_EDGES_S) - 1)]
    of_lang = {
        name: {score.duration: score for score in evaluation.durations if score.lang == lang}
        for name, evaluation in scored.items()
    }
    first = next(iter(of_lang.values()))
    shown = [name for name in names if name in first]
    measure = first[shown[0]].measure
    series = [
        Series(name, tuple(_point(s[d].counts.rate, s[d].interval) if d in s else None for d in shown))
        for name, s in of_lang.items()
    ]
    notes = [f"{first[d].clips:,}" for d in shown]
    label = f"{measure} over the length of the clips, {lang}"
    return _Figure(rate_plot(label, [d.removesuffix(" s") for d in shown], notes, series), "Seconds, and clips")


def _snr_plot(page: Page, systems: Sequence[System], lang: str, snr: Mapping[int, float]) -> _Figure | None:
    clips = systems[0].clips
    classes = grouped((i for i in snr if clips[i].entry.lang == lang), lambda i: sum(snr[i] >= e for e in SNR_EDGES_DB))
    if not classes:
        return None
    series = []
    for system in systems:
        tallies = [[system.clips[i].tally for i in members] for members in classes.values()]
        points = [_point(total(some).counts.rate, interval_of(some, page.resampling)) for some in tallies]
        series.append(Series(system.name, tuple(points)))
    names = [_snr_name(number) for number in classes]
    label = f"{systems[0].texts.measure(lang)} over the signal-to-noise ratio, {lang}"
    notes = [f"{len(members):,}" for members in classes.values()]
    return _Figure(rate_plot(label, names, notes, series), "dB, estimated, and clips")


def _snr_name(number: int) -> str:
    low = SNR_EDGES_DB[number - 1]
    return f"{low:g} to {SNR_EDGES_DB[number]:g}" if number < len(SNR_EDGES_DB) else f"{low:g} and more"


def _point(rate: float, interval: Interval | None) -> Point | None:
    if not math.isfinite(rate):
        return None
    return Point(rate, rate, rate) if interval is None else Point(rate, interval.low, interval.high)


def _snr_of_clips(system: System) -> dict[int, float]:
    """SNR in dB by clip number."""
    stride = max(1, math.ceil(len(system.clips) / SNR_CLIPS))
    found: dict[int, float] = {}
    for number in range(0, len(system.clips), stride):
        try:
            value = snr_db(clip_samples(system.clips[number].entry))
        except AudioError:
            value = None  # noted beside its player
        if value is not None:
            found[number] = value
    return found


# --- confusions


@dataclass(frozen=True)
class _Count:
    text: str
    count: str
    percent: str


@dataclass(frozen=True)
class _Column:
    name: str
    total: str
    rows: tuple[_Count, ...]


@dataclass(frozen=True)
class _Confusions:
    title: str
    columns: tuple[_Column, ...]


def _confusions(system: System) -> list[_Confusions]:
    found = []
    for lang, clips in grouped(system.clips, lambda clip: clip.entry.lang).items():
        errors = confusions(clips, system.texts)
        pairs = Counter({f"{ref} → {hyp}": n for (ref, hyp), n in errors.substitutions.items()})
        kinds = {"substituted": pairs, "deleted": errors.deletions, "inserted": errors.insertions}
        columns = tuple(_column(name, counter) for name, counter in kinds.items())
        found.append(_Confusions(f"{system.name}, {lang}", columns))
    return found


def _column(name: str, counter: Counter[str]) -> _Column:
    several = {word: n for word, n in counter.items() if n > 1}
    top = sorted((several or counter).items(), key=lambda item: (-item[1], item[0]))[:TOP_CONFUSIONS]
    rows = tuple(_Count(word, f"{n:,}", f"{100 * n / top[0][1]:.0f}") for word, n in top)
    return _Column(name, f"{counter.total():,}", rows)


# --- the worst clips


@dataclass(frozen=True)
class _Answer:
    """A system's hypothesis aligned with the reference; `system` is empty if it is the only one."""

    system: str
    rate: str
    steps: tuple[Pair, ...]
    joiner: str
    failed: bool


@dataclass(frozen=True)
class _Clip:
    name: str
    facts: str
    lang: str
    text: str
    player: Player
    answers: tuple[_Answer, ...]


def _worst(page: Page, systems: Sequence[System], snr: Mapping[int, float]) -> tuple[list[_Clip], str]:
    """The clips with the most errors, and a note of how many are shown."""
    errors = [sum(system.clips[i].tally.counts.errors for system in systems) for i in range(len(systems[0].clips))]
    worst = sorted((i for i, n in enumerate(errors) if n), key=lambda i: (-errors[i], i))[: page.worst]
    players = Players(page.embedded_bytes)
    by = "the sum over systems" if len(systems) > 1 else "the number of errors"
    line = f"{len(worst):,} of {sum(n > 0 for n in errors):,} clips with errors, by {by}."
    return [_clip(systems, number, players, snr.get(number)) for number in worst], line


def _clip(systems: Sequence[System], number: int, players: Players, snr: float | None) -> _Clip:
    first = systems[0].clips[number]
    entry = first.entry
    facts = [entry.lang, entry.corpus, entry.speaker, f"{first.tally.audio_s:.1f} s" if first.tally.audio_s else ""]
    facts.append("" if snr is None else f"SNR {snr:.0f} dB")
    return _Clip(
        entry.name or entry.audio.name, " · ".join(fact for fact in facts if fact),
        systems[0].texts.language(entry.lang), entry.text, players.player(entry),
        tuple(_answer(system, number, len(systems) > 1) for system in systems),
    )  # fmt: skip


def _answer(system: System, number: int, is_named: bool) -> _Answer:
    clip = system.clips[number]
    c = clip.tally.counts
    rate = f"{c.errors} / {c.reference_length}" + ("" if math.isinf(c.rate) else f", {percent(c.rate, 0)} %")
    joiner = "" if system.texts.measure(clip.entry.lang) == "CER" else " "
    steps = tuple(aligned(clip, system.texts))
    return _Answer(system.name if is_named else "", rate, steps, joiner, bool(clip.tally.failed))


# --- notes


@dataclass(frozen=True)
class _Note:
    text: str
    names: str = ""


def _notes(systems: Sequence[System], scored: Mapping[str, Evaluation]) -> list[_Note]:
    notes = [_Note(line) for line in normalizer_lines(scored)]
    for system in systems:
        about = ", ".join(f"{key} {value}" for key, value in system.about.items())
        notes.append(_Note(f"{system.name}: {about or 'no more is known'}"))
        notes += _unmatched(system)
    return notes


def _unmatched(system: System) -> list[_Note]:
    notes = []
    for names, what in (
        (system.without_hypothesis, "clips without a hypothesis, counted as empty"),
        (system.without_reference, "hypotheses without a reference, not counted"),
    ):
        if names:
            more = f", and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
            notes.append(_Note(f"{system.name}: {len(names):,} {what}", ", ".join(names[:NAMES_SHOWN]) + more))
    empty = sum(clip.tally.empty_references for clip in system.clips)
    if empty:
        notes.append(_Note(f"{system.name}: {empty:,} references are empty: every word there is an insertion"))
    return notes
