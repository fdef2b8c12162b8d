"""PER by hand, and against the full matrix; capitals by hand."""

from __future__ import annotations

import random
import re

import pytest

from lithophone.errors import OptionError
from lithophone.metrics.counts import F1Counts
from lithophone.metrics.punctuation import PunctuationCounts, capital_counts, is_capitalized, punctuation_counts
from tests.metrics.plain import walk


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("Yes, I can. Can you?", "Yes, I can. Can you?", PunctuationCounts(correct=3)),
        ("Yes, I can.", "Yes. I can.", PunctuationCounts(correct=1, substitutions=1)),
        ("Yes, I can.", "Yes I can.", PunctuationCounts(correct=1, deletions=1)),
        ("Yes I can.", "Yes, I can.", PunctuationCounts(correct=1, insertions=1)),
        # , -> . substituted; the last full stop lost; a question mark too many
        ("One, two three.", "One. two? three", PunctuationCounts(substitutions=1, deletions=1, insertions=1)),
        # a word in the place of a mark: the mark is lost, and no other takes its place
        ("Stop. Now", "Stop right Now", PunctuationCounts(deletions=1)),
        ("Stop right Now", "Stop. Now", PunctuationCounts(insertions=1)),
        # wrong words do not move the marks
        ("The cat sat, and slept.", "A dog sits, but dreams.", PunctuationCounts(correct=2)),
        # a missing clause takes its marks with it
        ("Well, no. Not now, not here.", "Well, no.", PunctuationCounts(correct=2, deletions=2)),
        # a tie: "x P" and "P y" meet word with mark twice, as in the published scorer
        ("x .", ". y", PunctuationCounts(deletions=1, insertions=1)),
        ("no marks here", "none here", PunctuationCounts()),
        ("", "Oh.", PunctuationCounts(insertions=1)),
        ("Oh.", "", PunctuationCounts(deletions=1)),
        ("", "", PunctuationCounts()),
        # marks that are not asked for are not seen; every dot of an ellipsis is
        ("Oh! (wait); go: on - now…", "Oh wait go on now", PunctuationCounts()),
        ("Well...", "Well.", PunctuationCounts(correct=1, deletions=2)),
        # marks inside numbers and abbreviations are marks; apostrophes and quotation marks are none
        ("It's 3.5, he said.", "It’s 3.5, “he” said.", PunctuationCounts(correct=3)),
        ("'Tis, he said", "Tis, he said", PunctuationCounts(correct=1)),
        # Japanese: characters are words, full-width marks are the narrow ones
        ("今日は、晴れ。", "今日は晴れ。", PunctuationCounts(correct=1, deletions=1)),
        ("本当？", "本・当。", PunctuationCounts(substitutions=1)),
    ],
)  # fmt: skip
def test_marks_by_hand(reference: str, hypothesis: str, expected: PunctuationCounts) -> None:
    assert punctuation_counts(reference, hypothesis) == expected


def plain_counts(reference: str, hypothesis: str, marks: str) -> PunctuationCounts:
    said, heard = (re.findall(rf"\w+|[{re.escape(marks)}]", text) for text in (reference, hypothesis))
    masked = ([("MARK" if token in marks else token) for token in tokens] for tokens in (said, heard))
    correct = substitutions = deletions = insertions = 0
    for step in walk(*masked):
        lost = said[step.reference] if step.reference is not None else ""
        new = heard[step.hypothesis] if step.hypothesis is not None else ""
        is_lost, is_new = lost != "" and lost in marks, new != "" and new in marks
        correct += is_lost and lost == new
        substitutions += is_lost and is_new and lost != new
        deletions += is_lost and not is_new
        insertions += is_new and not is_lost
    return PunctuationCounts(correct, substitutions, deletions, insertions)


def drawn(seed: int) -> tuple[str, str]:
    draw = random.Random(seed)
    reference, hypothesis = (draw.choices(["a", "b", "c", ".", ",", "?"], k=draw.randint(0, 15)) for _ in range(2))
    if seed % 2:  # one text and what became of it, as in life, beside two that have nothing to do with each other
        hypothesis = [draw.choice([token, token, token, ".", "b", ""]) for token in reference]
    return " ".join(reference), " ".join(hypothesis)


def test_marks_against_the_full_matrix() -> None:
    pairs = [drawn(seed) for seed in range(600)]
    counts = [punctuation_counts(*pair) for pair in pairs]
    assert counts == [plain_counts(*pair, ".,?") for pair in pairs]
    whole = sum(counts, PunctuationCounts())
    assert min(whole.correct, whole.substitutions, whole.deletions, whole.insertions) > 100
    assert sum((sum(counts[start::5], PunctuationCounts()) for start in range(5)), PunctuationCounts()) == whole


def test_other_marks_can_be_asked_for() -> None:
    assert punctuation_counts("Oh! No.", "Oh. No.", "!") == PunctuationCounts(deletions=1)
    assert punctuation_counts("¿Qué?", "Qué?", "¿?") == PunctuationCounts(correct=1, deletions=1)


def test_letters_are_no_marks() -> None:
    with pytest.raises(OptionError, match="'a'"):
        punctuation_counts("a", "b", ".a")


def test_the_rate_is_a_share_of_all_that_happened() -> None:
    assert PunctuationCounts(correct=6, substitutions=1, deletions=2, insertions=1).rate == pytest.approx(0.4)
    assert PunctuationCounts(insertions=3).rate == 1.0
    assert PunctuationCounts().rate == 0.0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("He met Anna in Rome.", "He met anna In Rome", F1Counts(tp=2, fp=1, fn=1)),
        ("he met Anna", "he met Hanna", F1Counts()),  # words that do not match are not asked
        ("das Haus am See", "Das Haus see", F1Counts(tp=1, fp=1, fn=1)),
        ("Straße", "STRASSE", F1Counts(tp=1)),
        ("'Twas Élan, iPhone!", "‘twas élan; IPhone", F1Counts(fp=1, fn=2)),
        ("", "Oh", F1Counts()),
        ("今日 OK", "今日 ok", F1Counts(fn=1)),
    ],
)
def test_capitals_by_hand(reference: str, hypothesis: str, expected: F1Counts) -> None:
    assert capital_counts(reference, hypothesis) == expected


def test_sums_of_capitals_over_shards_are_the_whole() -> None:
    counts = [capital_counts("Ann saw a Bear in may", text) for text in ("ann Saw a Bear", "Ann saw", "in May", "")]
    assert sum(counts, F1Counts()) == sum(counts[:2], F1Counts()) + sum(counts[2:], F1Counts()) == F1Counts(2, 2, 1)


@pytest.mark.parametrize(("word", "expected"), [("Ann", True), ("3D", True), ("ǅ", True), ("5th", False), ("é", False),
                                                ("iPhone", False), ("日", False), ("42", False)])  # fmt: skip
def test_a_capital_is_the_first_letter(word: str, expected: bool) -> None:
    assert is_capitalized(word) is expected
