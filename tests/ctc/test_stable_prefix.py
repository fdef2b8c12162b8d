"""Stable text is never rewritten, and holds what two passes agree on."""

from __future__ import annotations

import numpy as np
import pytest

from lithophone.ctc.characters import character_labels
from lithophone.ctc.stable_prefix import StablePrefix


def path(text: str, *, each: int = 3, shift: int = 0) -> list[int]:
    """Every character for `each` frames, the last of them a blank; `shift` blanks before."""
    return [0] * shift + [label for c in character_labels(text) for label in [c] * (each - 1) + [0]]


def read(*texts: str, each: int = 3) -> StablePrefix:
    prefix = StablePrefix()
    for text in texts:
        prefix.update(path(text, each=each))
    return prefix


def test_one_pass_makes_nothing_stable() -> None:
    prefix = read("the cat sat ")
    assert (prefix.stable, prefix.unstable) == ("", "the cat sat ")


def test_words_that_two_passes_share_are_stable() -> None:
    prefix = read("the cat sa", "the cat sat on")
    assert (prefix.stable, prefix.unstable) == ("the cat ", "sat on")


def test_a_word_without_its_end_is_not_stable() -> None:
    prefix = read("the cat", "the cat")
    assert (prefix.stable, prefix.unstable) == ("the ", "cat")


def test_words_that_differ_stay_unstable_until_they_agree() -> None:
    prefix = read("the cot sat", "the cat sat on")
    assert (prefix.stable, prefix.unstable) == ("the ", "cat sat on")
    prefix.update(path("the cat sat on a"))
    assert (prefix.stable, prefix.unstable) == ("the cat sat ", "on a")


def test_stable_words_are_kept_where_a_later_pass_has_others() -> None:
    prefix = read("the cat sat", "the cat sat on")
    prefix.update(path("dog cat sat on a"))
    assert prefix.stable == "the cat sat "
    assert prefix.unstable == "on a"


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_path_that_moves_by_a_frame_neither_loses_nor_repeats_letters(shift: int) -> None:
    prefix = StablePrefix()
    prefix.update(path("the cat sat", shift=1))
    prefix.update(path("the cat sat on", shift=1))
    prefix.update(path("the cat sat on a m", shift=1 + shift))
    assert prefix.stable + prefix.unstable == "the cat sat on a m"


def test_kana_have_no_spaces_and_are_stable_one_by_one() -> None:
    prefix = read("アシタハ", "アシタハレ")
    assert (prefix.stable, prefix.unstable) == ("アシタ", "ハレ")


def test_spaces_are_single_and_none_is_first() -> None:
    prefix = StablePrefix()
    first = [32, 0, 97, 0, 32, 0, 32, 0, 98, 0, 32]
    prefix.update(first)
    assert prefix.unstable == "a b "
    prefix.update([*first, 0, 99])
    assert (prefix.stable, prefix.unstable) == ("a b ", "c")


def test_blanks_alone_give_no_text() -> None:
    prefix = StablePrefix()
    for n in (0, 10, 20):
        prefix.update([0] * n)
    assert (prefix.stable, prefix.unstable) == ("", "")


@pytest.mark.parametrize("seed", range(50))
def test_stable_text_begins_with_all_stable_texts_before(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([0, 0, 0, 32, 97, 98, 300, 301])
    whole = labels[rng.integers(0, len(labels), 200)]
    prefix, before = StablePrefix(), ""
    for n in range(5, 201, 5):
        whole = np.where(rng.random(200) < 0.02, labels[rng.integers(0, len(labels), 200)], whole)
        prefix.update(whole[:n].tolist())
        assert prefix.stable.startswith(before)
        assert "  " not in prefix.stable + prefix.unstable
        before = prefix.stable
    assert before
