"""One page that holds everything: tables, plots, confusions, and the worst clips with their sound.

The page needs no other file and no network: style, script, plots and sound are in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

import lithophone
from lithophone.errors import AudioError
from lithophone.evaluation.confusions import Confusions, aligned, confusions
from lithophone.evaluation.player import EMBEDDED_BYTES, Players
from lithophone.evaluation.plots import Point, Series, rate_plot
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
    measures_grid,
    normalizer_lines,
    percent,
    rates_grid,
    speed_lines,
)  # fmt: skip
from lithophone.evaluation.tally import total
from lithophone.metrics.alignment import Op
from lithophone.metrics.significance import Interval

SNR_EDGES_DB = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
SNR_CLIPS = 2000
"""Clips whose sound is read for the plot over SNR, evenly spread over the manifest."""

TOP_CONFUSIONS = 15
NAMES_SHOWN = 200

SVG_MARK = (
    '<svg class="mark" viewBox="0 0 32 32" aria-hidden="true">'
    '<path d="M5 20V12M10.5 25V7M16 21v-10M21.5 27V5M27 19v-6"/></svg>'
)


@dataclass(frozen=True)
class Page:
    """What the page shows beside the scores."""

    title: str
    worst: int = 50
    """Clips with the most errors."""
    embedded_bytes: int = EMBEDDED_BYTES
    resampling: Resampling = AS_USUAL


def report(
    page: Page, systems: Sequence[System], evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]
) -> str:
    """The page as HTML; systems, and their evaluations, in the order in which they are shown."""
    scored = {system.name: evaluation for system, evaluation in zip(systems, evaluations, strict=True)}
    snr = _snr_of_clips(systems[0])
    sections = {
        "Summary": _summary(page, scored, comparisons),
        "Over length and noise": _plots(page, systems, scored, snr),
        "Confusions": "".join(_confusions(system) for system in systems),
        "Worst clips": _worst(page, systems, snr),
        "Notes": _notes(page, systems, scored),
    }
    body = "".join(_section(name, content) for name, content in sections.items())
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(page.title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_file("page.css")}</style></head><body>'
        f"<header><div>{SVG_MARK}<span>lithophone evaluate</span></div><h1>{escape(page.title)}</h1>"
        f"<p>{_facts(systems[0])}</p><nav>{links}</nav></header><main>{body}</main>"
        f"<footer>lithophone {lithophone.__version__}</footer><script>{_file('page.js')}</script></body></html>\n"
    )


def _file(name: str) -> str:
    return (resources.files("lithophone.evaluation") / name).read_text(encoding="utf-8")


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _section(name: str, content: str) -> str:
    return f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{content}</section>'


def _facts(system: System) -> str:
    tally = total(clip.tally for clip in system.clips)
    languages = sorted({clip.entry.lang for clip in system.clips})
    hours = tally.audio_s / 3600
    length = f"{hours:.1f} h" if hours >= 1 else f"{tally.audio_s / 60:.1f} min"
    return escape(f"{tally.clips:,} clips, {length}, {', '.join(languages)}")


# --- tables


def _summary(page: Page, scored: Mapping[str, Evaluation], comparisons: Sequence[Comparison]) -> str:
    r = page.resampling
    note = (
        f"Intervals hold {100 * r.level:g} % of {r.resamples:,} bootstrap draws over clips (seed {r.seed}). Rates are "
        "taken from sums over clips; the mean of corpora weighs every corpus the same."
    )
    parts = [_table(rates_grid(scored)), f'<p class="note">{note}</p>']
    if comparisons:
        parts += [
            _table(comparisons_grid(comparisons)),
            '<p class="note">Rate of a minus rate of b on the same clips, drawn together; p is two-sided, and no '
            f"smaller than {2 / (r.resamples + 1):.3f} with so many draws.</p>",
        ]
    measures = measures_grid(scored)
    if len(measures.headings) > measures.text_columns:
        parts.append(_table(measures))
    parts += [f"<p>{escape(line)}</p>" for line in speed_lines(scored)]
    return "".join(parts)


def _table(grid: Grid) -> str:
    """A table; where systems are told apart, each has a part of its own under its name."""
    by_system = grid.headings[0] == "system"
    shown = 1 if by_system else 0
    head = "".join(_cell("th", grid, i, text) for i, text in enumerate(grid.headings) if i >= shown)
    bodies: dict[str, list[str]] = {}
    for number, row in enumerate(grid.rows):
        cells = "".join(_cell("td", grid, i, text) for i, text in enumerate(row) if i >= shown)
        line = f"<tr{' class=sum' if number in grid.emphasized else ''}>{cells}</tr>"
        bodies.setdefault(row[0] if by_system else "", []).append(line)
    parts = "".join(
        f"<tbody>{_heading(name, len(grid.headings) - shown)}{''.join(lines)}</tbody>" for name, lines in bodies.items()
    )
    return (
        f'<div class="wide"><table><caption>{escape(grid.title)}</caption><thead><tr>{head}</tr></thead>'
        f"{parts}</table></div>"
    )


def _cell(tag: str, grid: Grid, column: int, text: str) -> str:
    kind = "" if column < grid.text_columns else ' class="n"'
    return f"<{tag}{kind}>{escape(text)}</{tag}>"


def _heading(name: str, columns: int) -> str:
    return f'<tr class="group"><th colspan="{columns}" scope="rowgroup">{escape(name)}</th></tr>' if name else ""


# --- plots


def _plots(page: Page, systems: Sequence[System], scored: Mapping[str, Evaluation], snr: Mapping[int, float]) -> str:
    languages = sorted({clip.entry.lang for clip in systems[0].clips})
    legend = "".join(f'<li class="s{i % 6}">{escape(system.name)}</li>' for i, system in enumerate(systems))
    figures = "".join(_length_plot(scored, lang) + _snr_plot(page, systems, lang, snr) for lang in languages)
    return (
        f'<ul class="legend">{legend}</ul><div class="figures">{figures}</div>'
        '<p class="note">Lines up and down are the intervals of the summary. SNR is an estimate: the power that a '
        "twentieth of a clip's frames of 20 ms exceeds, less the power that a tenth stays below, over the latter; "
        f"taken of {len(snr):,} clips.</p><details><summary>Numbers by length</summary>"
        f"{_table(durations_grid(scored))}</details>"
    )


def _length_plot(scored: Mapping[str, Evaluation], lang: str) -> str:
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
    return _figure(label, "Seconds, and clips", rate_plot(label, [d.removesuffix(" s") for d in shown], notes, series))


def _snr_plot(page: Page, systems: Sequence[System], lang: str, snr: Mapping[int, float]) -> str:
    clips = systems[0].clips
    classes = grouped((i for i in snr if clips[i].entry.lang == lang), lambda i: sum(snr[i] >= e for e in SNR_EDGES_DB))
    if not classes:
        return ""
    series = []
    for system in systems:
        tallies = [[system.clips[i].tally for i in members] for members in classes.values()]
        points = [_point(total(some).counts.rate, interval_of(some, page.resampling)) for some in tallies]
        series.append(Series(system.name, tuple(points)))
    names = [_snr_name(number) for number in classes]
    label = f"{systems[0].texts.measure(lang)} over the signal-to-noise ratio, {lang}"
    notes = [f"{len(members):,}" for members in classes.values()]
    return _figure(label, "dB, estimated, and clips", rate_plot(label, names, notes, series))


def _snr_name(number: int) -> str:
    low = SNR_EDGES_DB[number - 1]
    return f"{low:g} to {SNR_EDGES_DB[number]:g}" if number < len(SNR_EDGES_DB) else f"{low:g} and more"


def _point(rate: float, interval: Interval | None) -> Point | None:
    if interval is None or not math.isfinite(rate):
        return None
    return Point(rate, interval.low, interval.high)


def _figure(label: str, axis: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(label)}<span>{escape(axis)}</span></figcaption>{svg}</figure>"


def _snr_of_clips(system: System) -> dict[int, float]:
    """SNR in dB by the number of the clip."""
    stride = max(1, math.ceil(len(system.clips) / SNR_CLIPS))
    found: dict[int, float] = {}
    for number in range(0, len(system.clips), stride):
        try:
            value = snr_db(clip_samples(system.clips[number].entry))
        except AudioError:
            value = None  # the player of a clip that cannot be read says so
        if value is not None:
            found[number] = value
    return found


# --- confusions


def _confusions(system: System) -> str:
    parts = []
    for lang, clips in grouped(system.clips, lambda clip: clip.entry.lang).items():
        found = confusions(clips, system.texts)
        parts.append(f"<h3>{escape(system.name)}, {escape(lang)}</h3>{_confusion_tables(found)}")
    return "".join(parts)


def _confusion_tables(found: Confusions) -> str:
    substitutions = Counter({f"{said} → {heard}": n for (said, heard), n in found.substitutions.items()})
    kinds = {"substituted": substitutions, "deleted": found.deletions, "inserted": found.insertions}
    return f'<div class="columns">{"".join(_counted(name, counter) for name, counter in kinds.items())}</div>'


def _counted(name: str, counter: Counter[str]) -> str:
    several = {word: n for word, n in counter.items() if n > 1}
    top = sorted((several or counter).items(), key=lambda item: (-item[1], item[0]))[:TOP_CONFUSIONS]
    most = top[0][1] if top else 1
    rows = "".join(
        f'<tr><td>{escape(word)}</td><td class="n">{n:,}</td>'
        f'<td class="bar"><i style="width:{100 * n / most:.0f}%"></i></td></tr>'
        for word, n in top
    )
    return f"<table><caption>{name}, {counter.total():,} in all</caption><tbody>{rows}</tbody></table>"


# --- the worst clips


def _worst(page: Page, systems: Sequence[System], snr: Mapping[int, float]) -> str:
    errors = [sum(system.clips[i].tally.counts.errors for system in systems) for i in range(len(systems[0].clips))]
    worst = sorted((i for i, n in enumerate(errors) if n), key=lambda i: (-errors[i], i))[: page.worst]
    if not worst:
        return "<p>No clip has an error.</p>"
    players = Players(page.embedded_bytes)
    clips = "".join(_clip(systems, number, players, snr.get(number)) for number in worst)
    of_all = "the sum over systems" if len(systems) > 1 else "the number of errors"
    return (
        f'<p class="note">{len(worst):,} of {sum(n > 0 for n in errors):,} clips with errors, by {of_all}. Texts are '
        'shown as they are counted: <span class="aligned"><del>lost</del> <ins>added</ins> <span class="sub"><s>said'
        "</s><b>heard</b></span></span>.</p>"
        '<p class="filter"><input type="search" placeholder="Find a name or a word" aria-label="Find a clip"> '
        "<output></output></p>"
        f'<div class="clips">{clips}</div>'
    )


def _clip(systems: Sequence[System], number: int, players: Players, snr: float | None) -> str:
    first = systems[0].clips[number]
    entry = first.entry
    facts = [entry.lang, entry.corpus, entry.speaker, f"{first.tally.audio_s:.1f} s" if first.tally.audio_s else ""]
    facts.append("" if snr is None else f"SNR {snr:.0f} dB")
    line = " · ".join(fact for fact in facts if fact)
    texts = "".join(_text(system, number, len(systems) > 1) for system in systems)
    lang = escape(systems[0].texts.language(entry.lang))
    return (
        f'<article><div class="head"><h3>{escape(entry.name or entry.audio.name)}</h3>'
        f'<p class="note">{escape(line)}</p>{players.player(entry)}</div>'
        f'<p class="said" lang="{lang}">{escape(entry.text)}</p>{texts}</article>'
    )


def _text(system: System, number: int, is_named: bool) -> str:
    clip = system.clips[number]
    c = clip.tally.counts
    name = f"<span>{escape(system.name)}</span>" if is_named else ""
    rate = f"{c.errors} / {c.reference_length}" + ("" if math.isinf(c.rate) else f", {percent(c.rate, 0)} %")
    joiner = "" if system.texts.measure(clip.entry.lang) == "CER" else " "
    pairs = joiner.join(_pair(pair.op, pair.reference, pair.hypothesis) for pair in aligned(clip, system.texts))
    missing = ' <span class="note">no hypothesis</span>' if clip.tally.failed else ""
    lang = escape(system.texts.language(clip.entry.lang))
    return (
        f'<div class="heard"><p class="of">{name}<span class="note">{rate}</span></p>'
        f'<p class="aligned" lang="{lang}">{pairs}{missing}</p></div>'
    )


def _pair(op: Op, reference: str, hypothesis: str) -> str:
    said, heard = escape(reference), escape(hypothesis)
    return {
        Op.HIT: said,
        Op.DELETE: f"<del>{said}</del>",
        Op.INSERT: f"<ins>{heard}</ins>",
        Op.SUBSTITUTE: f'<span class="sub"><s>{said}</s><b>{heard}</b></span>',
    }[op]


# --- notes


def _notes(page: Page, systems: Sequence[System], scored: Mapping[str, Evaluation]) -> str:
    lines = [escape(line) for line in normalizer_lines(scored)]
    for system in systems:
        about = ", ".join(f"{key} {value}" for key, value in system.about.items())
        lines.append(f"{escape(system.name)}: {escape(about or 'no more is known')}")
        lines += _listed(system)
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _listed(system: System) -> list[str]:
    """What does not match, counted and by name."""
    lines = []
    for names, what in (
        (system.without_hypothesis, "clips without a hypothesis, counted as empty"),
        (system.without_reference, "hypotheses without a reference, not counted"),
    ):
        if names:
            more = f", and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
            shown = escape(", ".join(names[:NAMES_SHOWN])) + more
            lines.append(
                f"<details><summary>{escape(system.name)}: {len(names):,} {what}</summary><p>{shown}</p></details>"
            )
    empty = sum(clip.tally.empty_references for clip in system.clips)
    if empty:
        lines.append(f"{escape(system.name)}: {empty:,} references are empty: all that was heard there is inserted")
    return lines
