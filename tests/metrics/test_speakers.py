"""cpWER against meeteval's, WDER by hand and against all permutations."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from meeteval.wer import cp_word_error_rate

from lithophone.metrics.alignment import align
from lithophone.metrics.counts import ErrorCounts
from lithophone.metrics.speakers import SpeakerCounts, cpwer, wder

WORDS = ["yes", "no", "well", "so", "right", "we", "should"]


def meeting(draw: random.Random) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Who said what, and what was heard of it: words changed or lost, speakers renamed, one too many or too few."""
    said = {f"speaker {n}": draw.choices(WORDS, k=draw.randint(1, 12)) for n in range(draw.randint(1, 4))}
    heard = {f"s{n}": [w if draw.random() < 0.8 else draw.choice(WORDS) for w in words if draw.random() < 0.9]
             for n, words in enumerate(draw.sample(list(said.values()), len(said)))}  # fmt: skip
    if draw.random() < 0.3:
        heard["extra"] = draw.choices(WORDS, k=draw.randint(1, 5))
    elif draw.random() < 0.3 and len(heard) > 1:
        heard.popitem()
    return said, heard


def test_cpwer_is_that_of_meeteval() -> None:
    draw = random.Random(0)
    counts = []
    for _ in range(200):
        said, heard = meeting(draw)
        judge = cp_word_error_rate(
            reference={name: " ".join(words) for name, words in said.items()},
            hypothesis={name: " ".join(words) for name, words in heard.items()},
        )
        ours = cpwer(said, heard)
        assert (ours.errors, ours.reference_length) == (judge.errors, judge.length)
        assert ours.rate == pytest.approx(judge.error_rate)
        counts.append(ours)
    assert sum(counts[:80], ErrorCounts()) + sum(counts[80:], ErrorCounts()) == sum(counts, ErrorCounts())
    assert len({count.errors for count in counts}) > 10


def test_cpwer_by_hand() -> None:
    said = {"A": ["good", "morning"], "B": ["hello", "there"]}
    assert cpwer(said, {"2": ["good", "morning"], "1": ["hello"]}) == ErrorCounts(hits=3, deletions=1)
    assert cpwer(said, {}) == ErrorCounts(deletions=4)
    assert cpwer({}, {"1": ["oh"]}) == ErrorCounts(insertions=1)
    assert cpwer({}, {}) == ErrorCounts()


def turns(text: str) -> list[tuple[str, str]]:
    """`A: good morning B: hello` -> words with their speakers."""
    spoken: list[tuple[str, str]] = []
    speaker = ""
    for word in text.split():
        if word.endswith(":"):
            speaker = word
        else:
            spoken.append((word, speaker))
    return spoken


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("A: good morning B: hello", "1: good morning 2: hello", SpeakerCounts(words=3)),
        ("A: good morning B: hello", "2: good morning 1: hello", SpeakerCounts(words=3)),
        ("A: good morning B: hello", "1: good 2: morning hello", SpeakerCounts(words=3, wrong=1)),
        ("A: good morning B: hello", "1: good morning hello", SpeakerCounts(words=3, wrong=1)),
        # a word that was heard wrongly has a speaker all the same; a word that was not heard has none
        ("A: good morning B: hello", "1: good evening 2: hello", SpeakerCounts(words=3)),
        ("A: good morning all B: hello now", "1: good 2: hello now oh", SpeakerCounts(words=3)),
        # more speakers than there are: only one of them can be A
        ("A: one two three four", "1: one two three 2: four", SpeakerCounts(words=4, wrong=1)),
        ("A: good morning", "", SpeakerCounts()),
    ],
)
def test_words_in_the_wrong_mouth_by_hand(reference: str, hypothesis: str, expected: SpeakerCounts) -> None:
    assert wder(turns(reference), turns(hypothesis)) == expected


def test_no_permutation_of_speakers_is_better() -> None:
    draw = random.Random(1)
    counts = []
    for _ in range(100):
        said = [(draw.choice(WORDS), draw.choice("ABC")) for _ in range(20)]
        heard = [(word, draw.choice("123")) for word, _ in said if draw.random() < 0.9]
        steps = align([word for word, _ in said], [word for word, _ in heard])
        met = [(said[s.reference][1], heard[s.hypothesis][1]) for s in steps if None not in (s.reference, s.hypothesis)]
        wrong = min(
            sum(names[b] != a for a, b in met)
            for names in (dict(zip("123", order, strict=True)) for order in itertools.permutations("ABC"))
        )
        counts.append(wder(said, heard))
        assert counts[-1] == SpeakerCounts(len(met), wrong)
    whole = sum(counts, SpeakerCounts())
    assert (
        sum(counts[::3], SpeakerCounts()) + sum(counts[1::3], SpeakerCounts()) + sum(counts[2::3], SpeakerCounts())
        == whole
    )
    assert 0 < whole.rate < 1


def test_rates() -> None:
    assert SpeakerCounts(8, 2).rate == 0.25
    assert math.isnan(SpeakerCounts().rate)
