"""Counts of clips: they add, they agree with jiwer, and what the data cannot judge is left out."""

from __future__ import annotations

import random
from pathlib import Path

import jiwer
import pytest

from lithophone.data.manifest import Entry
from lithophone.errors import OptionError
from lithophone.evaluation.hypotheses import Hypothesis
from lithophone.evaluation.tally import NO_MARKS, NOTHING_FOUND, Tally, Texts, count_clip, total
from lithophone.metrics.counts import ErrorCounts
from lithophone.transcript import Segment, Word

WORDS = ["stone", "river", "light", "under", "green", "quick", "tell", "never", "window", "paper"]


def entry(text: str, lang: str = "en", words: tuple[Word, ...] = (), duration_s: float | None = 2.0) -> Entry:
    return Entry(Path("a.wav"), text, lang, duration_s, name="a.wav", words=words)


def heard(text: str, words: tuple[Word, ...] = (), turns: tuple[Segment, ...] = ()) -> Hypothesis:
    return Hypothesis("a.wav", text, words, turns)


def random_tallies(count: int = 60) -> tuple[list[tuple[str, str]], list[Tally]]:
    draw = random.Random(3)
    pairs = [
        (" ".join(draw.choices(WORDS, k=draw.randint(1, 12))), " ".join(draw.choices(WORDS, k=draw.randint(0, 12))))
        for _ in range(count)
    ]
    return pairs, [count_clip(entry(said), heard(text)) for said, text in pairs]


def test_rates_of_words_and_characters_are_those_of_jiwer() -> None:
    pairs, tallies = random_tallies()
    said, texts = [list(side) for side in zip(*pairs, strict=True)]
    whole = total(tallies)
    assert whole.counts.rate == pytest.approx(jiwer.wer(said, texts))
    assert whole.characters.rate == pytest.approx(jiwer.cer(said, texts))
    assert whole.clips == 60
    assert whole.audio_s == pytest.approx(120)


def test_sums_over_shards_are_the_whole() -> None:
    words = (Word("Red", 0.0, 0.5, speaker="a"), Word("stone.", 0.5, 1.0, speaker="b"))
    said = entry("Red stone.", words=words)
    turns = (Segment("red", 0, 1, speaker="x"), Segment("stain", 1, 2, speaker="x"))
    rich = count_clip(said, heard("red Stain", words[:1], turns), keywords=["stone"], timed=True, has_speakers=True)
    _, tallies = random_tallies()
    tallies += [rich, count_clip(said, None, keywords=["stone"], timed=True, has_speakers=True)]
    assert total(tallies[:20]) + total(tallies[20:41]) + total(tallies[41:]) == total(tallies)
    for name in ("punctuation", "capitals", "keywords", "biased", "times", "speakers", "cpwer"):
        assert getattr(rich, name) != getattr(Tally(), name), name


def test_what_is_missing_is_all_deletions() -> None:
    tally = count_clip(entry("Red stone."), None)
    assert tally.counts == ErrorCounts(deletions=2)
    assert (tally.clips, tally.failed) == (1, 1)


def test_an_empty_reference_is_told_and_what_was_heard_is_inserted() -> None:
    tally = count_clip(entry("[noise]"), heard("hello there"))
    assert tally.counts == ErrorCounts(insertions=2)
    assert tally.empty_references == 1
    assert count_clip(entry("hello"), heard("hello")).empty_references == 0


def test_marks_and_capitals_need_both_sides() -> None:
    both = count_clip(entry("Red stone."), heard("Red stone,"))
    assert both.is_punctuated
    assert both.is_cased
    assert both.punctuation.substitutions == 1
    for reference, text in (("Red stone.", "red stone"), ("red stone", "Red stone."), ("red", "red")):
        one = count_clip(entry(reference), heard(text))
        assert not one.is_punctuated
        assert not one.is_cased


def test_japanese_counts_characters_once() -> None:
    tally = count_clip(entry("今日は、雨。", "ja"), heard("今日雨", turns=()))
    assert tally.counts == tally.characters == ErrorCounts(3, 0, 1, 0)


def test_a_translation_is_counted_in_its_language() -> None:
    texts = Texts(to="ja")
    tally = count_clip(entry("今日は雨", "en"), heard("今日は雨"), texts=texts)
    assert (texts.measure("en"), tally.counts.hits) == ("CER", 4)


def test_a_normalizer_can_be_chosen() -> None:
    said, text = entry("mister colour"), heard("mr color")
    assert count_clip(said, text).counts.errors == 0
    assert count_clip(said, text, texts=Texts(normalizer="basic")).counts.errors == 2
    with pytest.raises(OptionError, match="there is no normaliser 'french'"):
        count_clip(said, text, texts=Texts(normalizer="french"))


def test_times_are_measured_where_the_system_gives_any() -> None:
    words = (Word("red", 0.0, 0.5), Word("stone", 0.5, 1.0))
    said = entry("red stone", words=words)
    late = (Word("red", 0.0, 0.6), Word("stone", 0.5, 1.1))
    assert count_clip(said, heard("red stone", late), timed=True).times.aas_ms == pytest.approx(100)
    assert count_clip(said, heard("red stone"), timed=True).times.malformed == 1
    assert count_clip(said, heard("red stone")).times.outputs == 0


def test_speakers_are_paired_at_their_best() -> None:
    words = tuple(Word(text, i, i + 1, speaker=s) for i, (text, s) in enumerate([("red", "a"), ("stone", "b")]))
    said = entry("red stone", words=words)
    swapped = (Segment("red", 0, 1, speaker="2"), Segment("stone", 1, 2, speaker="1"))
    one = (Segment("red stone", 0, 2, speaker="1"),)
    right, wrong = (count_clip(said, heard("red stone", turns=turns), has_speakers=True) for turns in (swapped, one))
    assert (right.speakers.rate, right.cpwer.rate) == (0.0, 0.0)
    assert (wrong.speakers.rate, wrong.cpwer.rate) == (0.5, 1.0)
    silent = count_clip(said, None, has_speakers=True)
    assert silent.cpwer == ErrorCounts(deletions=2)


@pytest.mark.parametrize("reference", ["IT WAS A LIFE", "it was a life"])
def test_a_reference_without_marks_in_one_case_judges_neither(reference: str) -> None:
    tally = count_clip(entry(reference), heard("It was, a life."))
    assert tally.counts.errors == 0
    assert (tally.punctuation, tally.capitals) == (NO_MARKS, NOTHING_FOUND)
