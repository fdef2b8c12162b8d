"""Scores: groups, intervals, averages, comparisons, and what the JSON says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import sacrebleu

from lithophone.data.manifest import Entry
from lithophone.errors import OptionError
from lithophone.evaluation.hypotheses import Hypothesis
from lithophone.evaluation.report import Page, report
from lithophone.evaluation.run import from_hypotheses
from lithophone.evaluation.summary import Resampling, Score, System, compare, duration_name, summarize
from lithophone.evaluation.tables import comparisons_grid, durations_grid, few_clips_lines, rates_grid
from lithophone.evaluation.tally import Tally, Texts
from lithophone.metrics.counts import ErrorCounts
from lithophone.metrics.significance import bootstrap_interval, paired_test

ROWS = [
    # corpus, lang, seconds, reference, one system, another one
    ("a", "en", 1.0, "red stone in the river", "red stone in the river", "red stain in river"),
    ("a", "en", 3.0, "quick light", "quick light", "light"),
    ("b", "en", 4.0, "never tell", "never", "ever tell it"),
    ("b", "ja", 70.0, "今日は", "今日は", "今日"),
]
FEW = Resampling(resamples=200)


def entries() -> list[Entry]:
    return [Entry(Path(f"{i}.wav"), row[3], row[1], row[2], row[0], name=f"{i}.wav") for i, row in enumerate(ROWS)]


def system(name: str, column: int, texts: Texts | None = None) -> System:
    hypotheses = {f"{i}.wav": Hypothesis(f"{i}.wav", str(row[column])) for i, row in enumerate(ROWS)}
    return from_hypotheses(name, entries(), hypotheses, texts=texts or Texts())


def test_scores_of_corpora_languages_and_lengths() -> None:
    evaluation = summarize(system("x", 5), FEW)
    assert [(s.corpus, s.lang, s.measure, s.counts.errors, s.clips) for s in evaluation.scores] == [
        ("a", "en", "WER", 3, 2), ("b", "en", "WER", 2, 1), ("b", "ja", "CER", 1, 1),
    ]  # fmt: skip
    assert [(s.corpus, s.lang, s.counts.errors) for s in evaluation.languages] == [("", "en", 5), ("", "ja", 1)]
    assert [(s.lang, s.duration, s.clips) for s in evaluation.durations] == [
        ("en", "0 to 2 s", 1), ("en", "2 to 5 s", 2), ("ja", "60 s and more", 1),
    ]  # fmt: skip
    assert evaluation.averages == {"en": pytest.approx((3 / 7 + 2 / 2) / 2)}


def test_a_clip_at_an_edge_belongs_to_the_longer_ones() -> None:
    clip = system("x", 4).clips[0]
    at_edge = System("x", (replace(clip, tally=replace(clip.tally, audio_s=2.0)),))
    assert summarize(at_edge, FEW).durations[0].duration == "2 to 5 s" == duration_name(1)


def test_intervals_are_those_of_the_bootstrap() -> None:
    resampling = Resampling(level=0.5, resamples=200)  # a level that two clips have an interval of
    evaluation = summarize(system("x", 5), resampling)
    expected = bootstrap_interval([2, 1], [5, 2], **vars(resampling))
    assert expected is not None
    assert evaluation.scores[0].interval == expected
    assert expected.low <= evaluation.scores[0].counts.rate < expected.high


def test_comparisons_are_paired_by_clip() -> None:
    found = compare([system("x", 4), system("y", 5)], FEW)
    assert [(c.a, c.b, c.corpus, c.lang) for c in found] == [
        ("x", "y", None, "en"), ("x", "y", "a", "en"), ("x", "y", "b", "en"), ("x", "y", None, "ja"),
    ]  # fmt: skip
    assert found[0].test == paired_test([0, 0, 1], [2, 1, 2], [5, 2, 2], resamples=200)
    assert found[0].test.difference == pytest.approx(1 / 9 - 5 / 9)


def test_a_few_clips_have_rates_alone_and_a_note_that_says_so() -> None:
    systems = [system("x", 4), system("y", 5)]
    scored = {one.name: summarize(one, FEW) for one in systems}
    comparisons = compare(systems, FEW)
    assert {s.interval for e in scored.values() for s in (*e.scores, *e.languages, *e.durations)} == {None}
    assert {(c.to_dict()["interval"], c.to_dict()["p_value"]) for c in comparisons} == {(None, None)}
    assert comparisons_grid(comparisons).headings == ("a", "b", "corpus", "lang", "a - b")
    assert "interval" not in rates_grid(scored).headings + durations_grid(scored).headings
    note = "No interval and no p-value where there are fewer than 6 clips (level 0.95)."
    assert few_clips_lines(scored, comparisons, 0.95) == [note]
    page = report(Page("few"), systems, tuple(scored.values()), comparisons)
    assert note in page


def test_enough_clips_have_no_note() -> None:
    one = system("x", 5)
    many = replace(one, clips=one.clips[:1] * 6)
    assert few_clips_lines({"x": summarize(many, FEW)}, compare([many, many], FEW), 0.95) == []


def test_three_systems_are_three_pairs() -> None:
    systems = [system("x", 4), system("y", 5), system("z", 4)]
    assert {(c.a, c.b) for c in compare(systems, FEW)} == {("x", "y"), ("x", "z"), ("y", "z")}


def test_systems_of_other_clips_cannot_be_compared() -> None:
    one, other = system("x", 4), system("y", 5)
    with pytest.raises(AssertionError, match="the same clips"):
        compare([one, replace(other, clips=other.clips[::-1])])


def test_scores_add() -> None:
    one = Score("c", "en", Tally(counts=ErrorCounts(1, 2, 3, 4), clips=1, audio_s=1.0))
    assert one + one == Score("c", "en", Tally(counts=ErrorCounts(2, 4, 6, 8), clips=2, audio_s=2.0))
    with pytest.raises(AssertionError, match="not counted the same way"):
        one + replace(one, lang="fr")


def test_json_has_no_number_that_is_none() -> None:
    hypotheses = {"0.wav": Hypothesis("0.wav", "hello")}
    silent = [replace(entries()[0], text="")]
    written = summarize(from_hypotheses("x", silent, hypotheses), FEW).to_dict()
    score = json.loads(json.dumps(written, allow_nan=False))["scores"][0]
    assert (score["rate"], score["interval"], score["empty_references"]) == (None, None, 1)


def test_json_says_what_the_data_allow() -> None:
    clips = [replace(entries()[0], text="Red stone, red river.", keywords=("stone",))]
    hypotheses = {"0.wav": Hypothesis("0.wav", "Red stone. Red river.")}
    score = summarize(from_hypotheses("x", clips, hypotheses), FEW).to_dict()["scores"][0]
    assert score["per"]["rate"] == pytest.approx(1 / 2)
    assert score["capitals"]["f1"] == pytest.approx(2 / 3)
    assert (score["keywords"]["f1"], score["b_wer"], score["u_wer"]) == (1.0, 0.0, 0.0)
    assert not {"times", "wder", "cpwer", "translation"} & set(score)


def test_translations_are_scored_as_they_are_written() -> None:
    evaluation = summarize(system("x", 5, Texts(to="en")), FEW)
    references, texts = [row[3] for row in ROWS[:2]], [row[5] for row in ROWS[:2]]
    translation = evaluation.scores[0].translation
    assert translation is not None
    assert translation.bleu == pytest.approx(sacrebleu.corpus_bleu(texts, [references]).score)
    assert evaluation.scores[0].to_dict()["translation"]["to"] == "en"
    assert evaluation.durations[0].translation is None


@pytest.mark.parametrize(("level", "resamples", "words"), [(1.0, 10, "level 1.0"), (0.9, 0, "0 resamples")])
def test_resampling_that_makes_no_sense(level: float, resamples: int, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Resampling(level, resamples)
