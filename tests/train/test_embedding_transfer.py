"""A table of vectors for another vocabulary."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers, trainers

from lithophone.text.tokenizer import Tokenizer
from lithophone.train.embedding_transfer import carry_over


def tokenizer(texts: list[str], size: int, special: list[str]) -> Tokenizer:
    core = Core(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    core.add_special_tokens(special)
    return Tokenizer(core, {}, None)


def test_known_tokens_keep_their_vectors_and_new_ones_begin_as_their_pieces() -> None:
    old = tokenizer(["low lower"] * 9, 260, ["<|pad|>"])
    new = tokenizer(["lo best rest vest"] * 9, 268, ["<|pad|>", "<|more|>"])
    rows = torch.randn(len(old), 3, generator=torch.Generator().manual_seed(1))
    table = carry_over(rows, old, new)
    assert table.shape == (len(new), 3)
    ours, theirs = list(new.pieces), list(old.pieces)
    for token in ("a", "lo", "<|pad|>"):
        assert torch.equal(table[ours.index(token)], rows[theirs.index(token)])
    assert "est" in ours
    assert "est" not in theirs
    letters = [rows[theirs.index(c)] for c in "est"]
    torch.testing.assert_close(table[ours.index("est")], torch.stack(letters).mean(0))
    torch.testing.assert_close(table[ours.index("<|more|>")], rows.mean(0))


def test_the_same_vocabulary_changes_nothing() -> None:
    same = tokenizer(["some words"] * 9, 262, ["<|pad|>"])
    rows = torch.randn(len(same), 2)
    assert torch.equal(carry_over(rows, same, same), rows)
    assert torch.equal(carry_over(rows[:, 0], same, same), rows[:, 0])
