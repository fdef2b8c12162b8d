"""Tokens that spell the best path."""

from __future__ import annotations

import pytest

from lithophone.ctc.characters import character_labels
from lithophone.ctc.token_spellings import MOST, TokenSpellings, token_spellings
from lithophone.hub import DEFAULT_MODEL, resolve
from lithophone.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(resolve(DEFAULT_MODEL))


def test_proposed_tokens_spell_a_beginning_the_longest_first(tokenizer: Tokenizer) -> None:
    heard = " there was"
    found = [tokenizer.decode([token]) for token in TokenSpellings(tokenizer)(character_labels(heard), False)]
    assert found
    assert len(found) <= MOST
    assert all(heard.startswith(text.lower()) for text in found)
    assert [len(text) for text in found] == sorted(map(len, found), reverse=True)


def test_the_first_word_may_have_a_space_before_it(tokenizer: Tokenizer) -> None:
    first, later = (
        {tokenizer.decode([token]) for token in TokenSpellings(tokenizer)(character_labels("the"), at_start)}
        for at_start in (True, False)
    )
    assert any(text.startswith(" ") for text in first)
    assert not any(text.startswith(" ") for text in later)


def test_no_labels_propose_nothing(tokenizer: Tokenizer) -> None:
    assert token_spellings(tokenizer)([], False) == []
    assert token_spellings(tokenizer) is token_spellings(tokenizer)
