"""Where a draft goes on: wrong, missing and extra words, other splits, tokens without text."""

from __future__ import annotations

import random

import pytest

from lithophone.decode.draft_alignment import resume


@pytest.mark.parametrize(
    ("taken", "rest", "behind"),
    [
        ("", "the dog", 0),
        ("cat", "dog barked", 1),  # another word
        ("cat sat", "dog barked loudly", 2),
        ("big dog", "dog barked", 1),  # a word the draft lacks
        ("very big dog", "dog barked", 1),
        ("dog", "big dog barked", 2),  # a word too many
        ("dog barked", "big red dog barked", 4),
        ("the", "a cat on the mat", 1),  # the same word, but too far off
        ("hel lo", "hello there", 1),  # other splits
        ("hello", "hel lo there", 2),
        ("katherine", "k ath er ine went", 4),
        ("lothere", "hel lo there you", 3),
        ("cat sat", "dog", 1),  # beyond the end
        ("cat", "", 0),
    ],
)
def test_where_a_draft_goes_on(taken: str, rest: str, behind: int) -> None:
    assert resume(taken.split(), rest.split()) == behind


def test_tokens_without_text_stand_for_nothing() -> None:
    assert resume([""], ["the", "dog"]) == 0
    assert resume(["the", "", "dog", ""], ["the", "dog", "barked"]) == 2
    assert resume(["dog"], ["big", "", "dog", "barked"]) == 3


def test_a_draft_that_was_decoded_is_used_up() -> None:
    rng = random.Random(0)
    for _ in range(200):
        rest = [rng.choice(("a", "b", "ab", "ba", "c")) for _ in range(rng.randint(0, 8))]
        n = rng.randint(0, len(rest))
        assert resume(rest[:n], rest) == n
        assert 0 <= resume(rest[::-1], rest) <= len(rest)
