"""The report: one file that is well-formed, holds everything, and shows what a text says, not what it does."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lithophone.data.manifest import Entry
from lithophone.evaluation.confusions import Pair, aligned, confusions
from lithophone.evaluation.hypotheses import Hypothesis
from lithophone.evaluation.player import Players, opus_uri
from lithophone.evaluation.plots import Point, Series, rate_plot
from lithophone.evaluation.report import Page, report
from lithophone.evaluation.run import from_hypotheses
from lithophone.evaluation.summary import Resampling, System, compare, summarize
from lithophone.evaluation.tables import durations_grid, measures_grid, rates_grid, short_name
from lithophone.evaluation.tally import AS_SPOKEN
from lithophone.metrics.alignment import Op
from tests.sounds import tone

FEW = Resampling(resamples=50)
VOID = {"meta", "link", "input", "img", "br"}


class Checked(HTMLParser):
    """Every element is closed in its turn; counts elements, and keeps text and addresses."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.texts.append(data)


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    texts = ["red stone <b>river</b> & more", "quick light", "今日は"]
    found = []
    for i, text in enumerate(texts):
        soundfile.write(tmp_path / f"{i}.wav", tone(0.8 + 2 * i), 16_000)
        lang = "ja" if i == 2 else "en"
        found.append(Entry(tmp_path / f"{i}.wav", text, lang, 0.8 + 2 * i, "c", name=f"clips/{i}.wav"))
    return found


def system(name: str, entries: list[Entry], *texts: str | None) -> System:
    names = [entry.name for entry in entries]
    heard = {n: Hypothesis(n, text) for n, text in zip(names, texts, strict=True) if text is not None}
    return from_hypotheses(name, entries, {**heard, "other.wav": Hypothesis("other.wav", "x")})


@pytest.fixture
def systems(entries: list[Entry]) -> list[System]:
    return [
        system("first", entries, "red stain river more now", None, "今日"),
        system("<second>", entries, "red stone more", "quick light", "今日は"),
    ]


def page_of(systems: list[System], page: Page | None = None) -> str:
    page = page or Page("a <title>", resampling=FEW)
    return report(page, systems, [summarize(s, FEW) for s in systems], compare(systems, FEW))


def test_the_page_is_whole_and_needs_nothing_else(systems: list[System]) -> None:
    page = Checked(page_of(systems))
    assert page.elements["section"] == 5
    assert page.elements["article"] == 3
    assert page.elements["audio"] == 3
    assert page.elements["svg"] == 5  # the mark; length and SNR of two languages
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    text = "".join(page.texts)
    for shown in ("a <title>", "<second>", "<b>river</b>", "first: 1 clips without a hypothesis", "clips/1.wav"):
        assert shown in text
    assert "first: 1 hypotheses without a reference" in text


def test_the_same_scores_give_the_same_page(systems: list[System]) -> None:
    assert page_of(systems).split("<article>")[0] == page_of(systems).split("<article>")[0]


def test_sound_goes_into_the_page_as_opus(entries: list[Entry]) -> None:
    file = io.BytesIO(base64.b64decode(opus_uri(tone(1.5)).removeprefix("data:audio/ogg;base64,")))
    samples, rate_hz = soundfile.read(file)
    assert (rate_hz, len(samples)) == (16_000, pytest.approx(24_000, abs=320))
    assert np.corrcoef(samples[2000:20_000], tone(1.5)[2000:20_000])[0, 1] > 0.95


def test_sound_beyond_the_limit_is_linked(entries: list[Entry]) -> None:
    players = Players(embedded_bytes=1)
    assert players.player(entries[0]).source.startswith("data:audio/ogg")
    linked = players.player(replace(entries[1], start_s=0.5, end_s=1.5))
    assert linked.source == f"{entries[1].audio.as_uri()}#t=0.5,1.5"
    assert Players().player(replace(entries[0], duration_s=61.0)).source.startswith("file:")
    entries[0].audio.write_bytes(b"broken")
    assert "cannot be read" in Players().player(entries[0]).note


def test_only_so_many_clips_are_shown(systems: list[System]) -> None:
    page = Checked(page_of(systems, Page("x", worst=1, resampling=FEW)))
    assert page.elements["article"] == 1
    assert "1 of 3 clips with errors" in "".join(page.texts)
    perfect = [system("x", [clip.entry for clip in systems[0].clips], *[c.entry.text for c in systems[0].clips])]
    assert "No clip has an error." in page_of(perfect)


def test_errors_are_shown_as_they_are_counted(systems: list[System]) -> None:
    pairs = aligned(systems[0].clips[0], AS_SPOKEN)
    assert Pair(Op.SUBSTITUTE, "stone", "stain") in pairs
    assert sum(pair.op is not Op.HIT for pair in pairs) == systems[0].clips[0].tally.counts.errors
    page = page_of(systems)
    assert '<span class="sub"><s>stone</s><b>stain</b></span>' in page
    assert "<del>light</del>" in page
    assert "今日<del>は</del>" in page  # without a space


def test_confusions_count_every_error(systems: list[System]) -> None:
    found = confusions(systems[0].clips, AS_SPOKEN)
    counts = sum((clip.tally.counts for clip in systems[0].clips[1:]), systems[0].clips[0].tally.counts)
    assert found.substitutions.total() == counts.substitutions
    assert (found.deletions.total(), found.insertions.total()) == (counts.deletions, counts.insertions)
    assert found.substitutions["stone", "stain"] == 1


def test_a_plot_places_its_points() -> None:
    series = [Series("a & b", (Point(0.1, 0.05, 0.2), None)), Series("c", (Point(0.0, 0.0, 0.0), Point(0.2, 0.1, 9.0)))]
    plot = rate_plot("x < y", ["0 to 2", "2 to 5"], ["1", "2"], series)
    first, third = plot.series[0].points[0], plot.series[1].points
    assert [len(one.points) for one in plot.series] == [1, 2]
    assert first.x < third[0].x < third[1].x
    assert third[1].y < first.y < third[0].y == plot.bottom
    assert min(point.high_y for one in plot.series for point in one.points) >= 0  # an endless interval stays inside
    assert (plot.lines[0].text, plot.lines[-1].text) == ("0 %", "40 %")
    assert plot.series[0].path == f"{first.x},{first.y}"


def test_tables_leave_out_what_nobody_has(systems: list[System]) -> None:
    evaluations = {system.name: summarize(system, FEW) for system in systems}
    rates = rates_grid(evaluations)
    assert rates.headings[:5] == ("system", "corpus", "lang", "measure", "normaliser")
    assert all(len(row) == len(rates.headings) for row in rates.rows)
    assert measures_grid(evaluations).headings == ("system", "corpus", "lang", "CER %")
    alone = rates_grid({"first": evaluations["first"]})
    assert "system" not in alone.headings
    assert alone.rows[0][:4] == ("c", "en", "WER", "english")
    assert durations_grid(evaluations).rows[0][:4] == ("first", "en", "0 to 2 s", "WER")
    assert short_name("english (whisper, 2025)") == "english"


def test_means_and_sums_stand_below_their_corpora(entries: list[Entry]) -> None:
    two = [entries[0], replace(entries[1], corpus="d")]
    grid = rates_grid({"x": summarize(system("x", two, "red", "quick light"), FEW)})
    assert [row[0] for row in grid.rows] == ["c", "d", "all", "mean of corpora"]
    assert grid.emphasized == {2, 3}
    rate = [float(row[grid.headings.index("%")]) for row in grid.rows]
    assert rate[3] == pytest.approx((rate[0] + rate[1]) / 2, abs=0.01)


def test_script_and_style_name_what_the_page_has(systems: list[System]) -> None:
    page = page_of(systems)
    for wanted in re.findall(r'querySelector(?:All)?\("([^"]+)"\)', page):
        found = {"audio": "<audio", "article": "<article", "input[type=search]": 'type="search"'}
        assert found.get(wanted, "<output>") in page


HOSTILE = "\"><script>alert(1)</script>&amp;' onmouseover=x {{ 7 * 7 }} </style></svg>"


def test_hostile_text_is_escaped_wherever_it_comes_from(tmp_path: Path) -> None:
    """Names of clips, corpora, speakers and systems, references, hypotheses, options, languages and titles."""
    soundfile.write(tmp_path / "a.wav", tone(0.8), 16_000)
    soundfile.write(tmp_path / "b.wav", tone(0.8), 16_000)
    entries = [
        Entry(tmp_path / f"{n}.wav", f"{HOSTILE} {n}", "en", 0.8, HOSTILE, HOSTILE, f"{HOSTILE}{n}") for n in "ab"
    ]
    hypotheses = {
        entries[0].name: Hypothesis(entries[0].name, f"{HOSTILE} stone"),
        HOSTILE: Hypothesis(HOSTILE, HOSTILE),
    }
    about = {HOSTILE: HOSTILE}
    systems = [from_hypotheses(f"{HOSTILE}{n}", entries, hypotheses, about=about) for n in (1, 2)]
    page = page_of(systems, Page(HOSTILE, resampling=FEW))
    checked = Checked(page)
    plain = Checked(page_of([from_hypotheses(f"{n}", entries, hypotheses) for n in (1, 2)], Page("x", resampling=FEW)))
    assert checked.elements == plain.elements
    assert checked.elements["script"] == 1
    assert "alert(1)" not in re.sub(r"&lt;script&gt;alert\(1\)&lt;/script&gt;", "", page)
    assert "onmouseover=x" not in "".join(re.findall(r"<[^>]*>", page))
    assert "{{ 7 * 7 }}" in page
    assert " 49 " not in page
    assert "".join(checked.texts).count(HOSTILE) >= 20
