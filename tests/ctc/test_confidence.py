"""Tokens mapped to words, and what they and the encoder say together."""

from __future__ import annotations

import math

import pytest

from lithophone.ctc.confidence import combined, confidence_of, token_pieces, token_words, with_decoder_confidence
from lithophone.transcript import Word
from tests.tiny_tokenizer import tiny_tokenizer


@pytest.mark.parametrize(
    ("pieces", "words", "indices"),
    [
        (["he", "llo", ",", " wor", "ld"], ["hello,", "world"], [0, 0, 0, 1, 1]),
        ([" a", "  ", "b", "\n"], ["a", "b"], [0, None, 1, None]),
        (["hello", " [T:", "45", "] ", "T"], ["hello", "T"], [0, None, None, None, 1]),
        (["[Speaker 1", "]: ", "1", " one"], ["1", "one"], [None, None, 0, 1]),
        (["", "", "漢", "字", "。"], ["漢", "字。"], [0, 0, 0, 1, 1]),
        (["a", ""], ["a"], [0, None]),
        (["no", " no", " no"], ["no", "no", "no"], [0, 1, 2]),
        (["a", " b"], ["a", "x", "b"], [0, 2]),
        ([], [], []),
    ],
)
def test_a_token_writes_the_word_its_first_letter_stands_in(
    pieces: list[str], words: list[str], indices: list[int | None]
) -> None:
    assert token_words(pieces, words) == indices


def test_pieces_are_the_text_and_half_characters_wait() -> None:
    tokenizer = tiny_tokenizer()
    text = "hello 漢字 wörld 🪨"
    ids = tokenizer.encode(text)
    pieces = token_pieces(ids, tokenizer.decode)
    assert "".join(pieces) == text
    assert len(pieces) == len(ids) > len(text)
    assert pieces.count("") > 4
    words = token_words(pieces, text.split())
    assert [word for word in dict.fromkeys(words) if word is not None] == [0, 1, 2, 3]


def test_bytes_that_never_make_a_character_end_no_text() -> None:
    tokenizer = tiny_tokenizer()
    first_byte = tokenizer.encode("漢")[0]
    ids = [*tokenizer.encode("ab"), first_byte, *tokenizer.encode("cd"), first_byte]
    assert "".join(token_pieces(ids, tokenizer.decode)) == "ab\ufffdcd"


def test_confidence_is_a_geometric_mean_of_what_is_known() -> None:
    assert confidence_of([math.log(0.5), None, math.log(0.125)]) == pytest.approx(0.25)
    assert confidence_of([None]) is None
    assert confidence_of([1e-9]) == 1.0
    assert combined(0.25, 1.0) == 0.5
    assert combined(None, 0.3) == combined(0.3, None) == 0.3
    assert combined(None, None) is None


def test_acoustic_and_decoder_confidence_count_alike() -> None:
    words = (Word("one", 0, 1, 0.36), Word("1999", 1, 2), Word("-", 2, 2), Word("two", 2, 3, 0.5))
    pieces = ["one", " 19", "99", " -"]
    logprobs = [math.log(p) for p in (1.0, 0.4, 0.1, 0.9)]
    weighed = with_decoder_confidence(words, pieces, logprobs)
    assert [w.confidence for w in weighed] == pytest.approx([0.6, 0.2, 0.9, 0.5])
    assert [(w.text, w.start_s, w.end_s) for w in weighed] == [(w.text, w.start_s, w.end_s) for w in words]


def test_without_log_probabilities_words_stay_as_they_are() -> None:
    words = (Word("one", 0, 1, 0.36),)
    assert with_decoder_confidence(words, ["one"], []) == words
