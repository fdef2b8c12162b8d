"""Keyword biasing: what is boosted, what is proposed, and what beams make of it."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
import torch.nn.functional as F

from lithophone.ctc.forced_alignment import WILDCARD, edit_distance
from lithophone.ctc.prefix_score import PrefixScorer
from lithophone.decode.beam import Search
from lithophone.decode.ctc_scorer import CTCScorer, Pronunciation
from lithophone.decode.keyword_biasing import KeywordTrie
from lithophone.decode.options import BeamSearch

SPACE = ord(" ")


def labels(text: str) -> list[int]:
    return [ord(c) for c in text]


def words(*texts: str, space: int | None = SPACE) -> KeywordTrie:
    return KeywordTrie(map(labels, texts), space)


@pytest.mark.parametrize(
    ("text", "ended", "count"),
    [
        ("and dashwood had", False, 8),
        ("and dashwood", True, 8),
        ("and dashwood", False, 8),
        ("and dashw", False, 5),
        ("and dashw", True, 0),
        ("and dashwoods", False, 0),
        ("and adashw", False, 0),
        ("dashwood dashwood", False, 16),
        ("in new york", True, 8),
        ("in new y", False, 5),
        ("", False, 0),
        ("", True, 0),
    ],
)
def test_labels_of_keywords_count_complete_or_begun(text: str, ended: bool, count: int) -> None:
    assert words("dashwood", "new york").matched(labels(text), ended) == count


def test_without_spaces_words_stand_anywhere() -> None:
    assert words("bcd", space=None).matched(labels("abcdabc"), ended=False) == 5
    assert words("bcd", space=None).matched(labels("abcdabc"), ended=True) == 3


def test_keywords_are_continued_and_those_like_the_best_path_are_tried() -> None:
    listed = words("dashwood", "dash", "prudent")
    assert listed.continuations(labels("mister dashw"), labels("ould")) == [tuple(labels("ood"))]
    assert listed.continuations(labels("mister"), labels(" dush wood")) == [
        tuple(labels(" dash")),
        tuple(labels(" dashwood")),
    ]
    assert listed.continuations([], labels("prutent in")) == [tuple(labels("prudent"))]
    assert listed.continuations(labels("mister"), labels(" table")) == []
    assert listed.continuations(labels("mis"), labels("ter prudent")) == [], "no word begins inside another"


def test_keywords_without_labels_are_left_out() -> None:
    assert not KeywordTrie([[], [WILDCARD], [1, WILDCARD]], SPACE)


def test_distractors_are_pruned() -> None:
    listed = words("dashwood", "prudent", "table")
    assert listed.pruned(labels("and dush wood be prutent")).words == words("dashwood", "prudent").words
    assert words("new york").pruned(labels("in nuyork")).continuations(labels("in new"), []) == [tuple(labels(" york"))]
    assert words("bcd", space=None).pruned(labels("abccab")).matched(labels("abcd"), ended=True) == 3
    assert not listed.pruned([])
    assert not KeywordTrie([]).pruned(labels("table"))


@pytest.mark.parametrize("anywhere", [False, True])
def test_distances_are_the_least_to_any_stretch(anywhere: bool) -> None:
    drawn = random.Random(0)
    for _ in range(100):
        listed = KeywordTrie([[drawn.randrange(4) for _ in range(drawn.randrange(1, 8))] for _ in range(5)])
        heard = [drawn.randrange(4) for _ in range(drawn.randrange(12))]
        ends = range(len(heard) + 1)
        stretches = [heard[start:end] for end in ends for start in (range(end + 1) if anywhere else [0])]
        slow = [min(edit_distance(stretch, word) for stretch in stretches) for word in listed.words]
        assert listed.distances(heard, anywhere).tolist() == slow


def spelled(ids: tuple[int, ...]) -> Pronunciation:
    """Tokens 0..9 are the labels 1..10, spaces among them none; 11 ends."""
    return Pronunciation([i + 1 for i in ids])


def best(boost: float, *listed: tuple[int, ...]) -> tuple[int, ...]:
    """The reply of a uniform language model to CTC posteriors of 4 2 6 that are a little like 4 2 5."""
    frames = (
        F.one_hot(torch.tensor([4, 0, 2, 0, 6, 0]), 12) * 6.0 + F.one_hot(torch.tensor([0, 0, 0, 0, 5, 0]), 12) * 4.5
    )
    scorer = CTCScorer(PrefixScorer(frames.log_softmax(-1)), spelled, keywords=KeywordTrie(listed) if boost else None)
    search = Search(BeamSearch(num_beams=12, ctc_weight=0.5, keyword_boost=boost), 10, 11, scorer)
    while not search.done:
        search.step(torch.full((len(search.beams), 12), 1 / 12).log())
    return search.reply().ids


def test_a_keyword_near_the_best_path_is_decoded_and_no_other() -> None:
    assert best(0.0) == (3, 1, 5)
    assert best(0.5, (4, 2, 5)) == (3, 1, 4)
    assert best(0.5, (7, 8, 9)) == (3, 1, 5), "the best path has nothing like it"
    assert best(0.5) == best(0.0), "an empty list changes nothing"


def test_a_prefix_that_becomes_another_word_loses_its_boost() -> None:
    listed = words("dashwood")
    paid = [listed.matched(labels("dashboard"[:n]), ended=False) for n in range(10)]
    assert paid == [0, 1, 2, 3, 4, 0, 0, 0, 0, 0]


def test_overlapping_lists_are_paid_for_once() -> None:
    listed = words("new", "new york", "york")
    for text in map(" ".join, itertools.product(["new", "york"], repeat=2)):
        assert listed.matched(labels(text), ended=True) <= len(text)
