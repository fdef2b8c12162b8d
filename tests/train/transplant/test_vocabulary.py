"""A part of a tokenizer's tokens splits texts as the whole does, where it has their tokens."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lithophone.errors import CheckpointError
from lithophone.train.transplant.vocabulary import cut_vocabulary, token_shares

TEXTS = {
    "en": ["the stone sings in the evening", "the stones of the old house", "an evening by the sea", "Ünïcödé"],
    "de": ["der Stein singt am Abend", "die Steine des alten Hauses"],
}
BYTES = 256


@pytest.fixture(scope="module")
def whole() -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=BYTES + 90, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([line for lines in TEXTS.values() for line in lines], trainer)
    core.add_special_tokens(["<|endoftext|>"])
    return core


def tokens(core: Tokenizer, text: str) -> list[str]:
    found: list[str] = core.encode(text, add_special_tokens=False).tokens
    return found


def test_texts_of_kept_tokens_are_split_as_before(whole: Tokenizer) -> None:
    short = cut_vocabulary(whole, token_shares(whole, {"en": ["the stone the evening"]}), BYTES + 40)
    assert short.get_vocab_size() < whole.get_vocab_size()
    for text in ("the stone", "the evening", "the stone the evening the stone"):
        assert tokens(short, text) == tokens(whole, text)
        assert len(tokens(short, text)) < len(text)


def test_every_text_comes_back(whole: Tokenizer) -> None:
    short = cut_vocabulary(whole, token_shares(whole, TEXTS), BYTES + 20)
    assert short.get_vocab_size() == BYTES + 20
    for text in ("the stone sings", "Ünïcödé", "石が歌う", "<|endoftext|>"):
        assert short.decode(short.encode(text).ids) == text
    assert len(tokens(short, "the stone sings")) > len(tokens(whole, "the stone sings"))


def test_a_language_with_few_lines_counts_as_much(whole: Tokenizer) -> None:
    shares = token_shares(whole, {"en": TEXTS["en"] * 100, "de": TEXTS["de"]})
    assert sum(shares.values()) == pytest.approx(2.0)
    assert shares == pytest.approx(token_shares(whole, TEXTS))
    assert sum(token_shares(whole, TEXTS, {"de": 3.0}).values()) == pytest.approx(4.0)


def test_what_cannot_be_cut_is_refused(whole: Tokenizer) -> None:
    with pytest.raises(CheckpointError, match="does not hold the 256 single bytes"):
        cut_vocabulary(whole, {}, 100)
    with pytest.raises(CheckpointError, match="is a WordLevel"):
        cut_vocabulary(tokenizers.Tokenizer(models.WordLevel({"a": 0}, "a")), {}, 1000)
