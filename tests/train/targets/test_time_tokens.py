"""Times as tokens: found in any reply, bent in the input alone, and drawn into the order of the times they tell."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from lithophone.errors import OptionError
from lithophone.text.replies import parse_word_times
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.augment import seeded
from lithophone.train.targets.plus_tags import word_time_reply
from lithophone.train.targets.time_tokens import (
    NUMBERS,
    Perturbation,
    TimeTokens,
    TokenScale,
    perturb_history,
    similarity_loss,
)
from lithophone.transcript import Word
from tests.tiny_tokenizer import SPECIAL, tiny_tokenizer

ALWAYS = Perturbation(share=1.0)
REPLY = " hello [T:45] _ [T:600] world 45 [T:7] [T:x] [45]"


@cache
def trained(*words: str) -> Tokenizer:
    """A byte-level BPE that has learnt all of these words as single tokens."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=5000, initial_alphabet=alphabet, show_progress=False)
    )
    core.add_special_tokens(list(SPECIAL))
    return Tokenizer(core, {"eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}, None)


def whole_numbers() -> Tokenizer:
    """As the family's vocabulary has them: every number up to 999 is one token."""
    return trained(*map(str, range(NUMBERS)))


def both() -> list[Tokenizer]:
    return [whole_numbers(), tiny_tokenizer()]


def test_numbers_are_found_as_the_tokenizer_writes_them() -> None:
    whole, digits = map(TimeTokens.of, both())
    assert {len(ids) for ids in whole.numbers} == {1}
    assert [len(digits.numbers[n]) for n in (7, 45, 600)] == [1, 2, 3]
    for tokenizer, times in zip(both(), (whole, digits), strict=True):
        assert [tokenizer.decode(ids) for ids in times.numbers] == list(map(str, range(NUMBERS)))
        ids = tokenizer.encode(REPLY)
        assert [tokenizer.decode(ids[i:j]) for i, j in times.places(ids)] == ["45", "600", "7"]


def test_a_tokenizer_that_joins_numbers_and_marks_is_refused() -> None:
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"\S+"), "isolated")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(
        ["[T:45]"], trainers.BpeTrainer(vocab_size=5000, initial_alphabet=alphabet, show_progress=False)
    )
    with pytest.raises(OptionError, match="merges 45 with the brackets"):
        TimeTokens.of(Tokenizer(core, {}, None))


@pytest.mark.parametrize("kind", [0, 1])
def test_a_bent_history_has_other_times_and_nothing_else(kind: int) -> None:
    tokenizer = both()[kind]
    times = TimeTokens.of(tokenizer)
    reply = tokenizer.encode(REPLY)
    kept = list(reply)
    bent = perturb_history(reply, times, ALWAYS, seeded(1))
    assert reply == kept
    assert len(bent) == len(reply)
    changed = [i for i, (a, b) in enumerate(zip(reply, bent, strict=True)) if a != b]
    assert changed == [end - 1 for _, end in times.places(reply)]
    assert times.places(bent) == times.places(reply)
    text = tokenizer.decode(bent)
    assert " 45 [" in text
    assert text.endswith("] [T:x] [45]")


def test_a_bent_reply_is_still_read_with_the_words_it_has() -> None:
    tokenizer = whole_numbers()
    reply = word_time_reply([Word("a", 0.0, 3.0), Word("b", 3.0, 6.5), Word("c", 6.5, 11.0)])
    bent = perturb_history(tokenizer.encode(reply), TimeTokens.of(tokenizer), ALWAYS, seeded(5))
    read = parse_word_times(tokenizer.decode(bent))
    assert [word.text for word in read.words] == ["a", "b", "c"]
    assert read.malformed == 0
    assert [word.end_s for word in read.words] == pytest.approx([3.0, 6.5, 11.0], abs=0.5)
    assert [word.end_s for word in read.words] != [3.0, 6.5, 11.0]


def test_times_are_bent_as_often_and_as_far_as_was_said() -> None:
    """Round at 1000: the neighbours of 2 are 997 and 7."""
    tokenizer = whole_numbers()
    times = TimeTokens.of(tokenizer)
    reply = tokenizer.encode("[T:2]" * 4000)
    bent = perturb_history(reply, times, Perturbation(share=0.25, spread_cs=5.0), seeded(2))
    values = np.array([times.values[tuple(bent[i:j])] for i, j in times.places(bent)])
    moved = (values[values != 2] - 2 + 500) % NUMBERS - 500
    assert len(moved) / len(values) == pytest.approx(0.25, abs=0.02)
    around = np.arange(-499, 501)[np.arange(-499, 501) != 0]
    weights = np.exp(-((around / 5.0) ** 2) / 2)
    assert np.std(moved) == pytest.approx(np.sqrt(np.average(around**2, weights=weights)), rel=0.08)
    assert moved.mean() == pytest.approx(0.0, abs=0.5)
    assert perturb_history(reply, times, Perturbation(share=0.0), seeded(2)) == reply
    assert perturb_history(reply, times, Perturbation(share=0.25, spread_cs=5.0), seeded(2)) == bent


@pytest.mark.parametrize("options", [{"share": 1.5}, {"share": -0.1}, {"spread_cs": 0.0}])
def test_impossible_perturbations_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="the share must be 0 to 1, the spread above 0"):
        Perturbation(**options)


def test_scales_are_the_numbers_or_their_digits() -> None:
    (scale,) = TimeTokens.of(whole_numbers()).scales
    assert scale.values == tuple(range(NUMBERS))
    (digits,) = TimeTokens.of(tiny_tokenizer()).scales
    assert (digits.values, digits.spread) == (tuple(range(10)), 1.0)
    assert [tiny_tokenizer().decode([token]) for token in digits.ids] == list("0123456789")


def plain_similarity(table: np.ndarray, scale: TokenScale) -> tuple[float, float]:
    """The slow, obvious version: sum over pairs, and their number."""
    total, count = 0.0, 0
    for a in range(len(scale.ids)):
        for b in range(a + 1, len(scale.ids)):
            u, v = table[scale.ids[a]], table[scale.ids[b]]
            cosine = u @ v / (np.linalg.norm(u) * np.linalg.norm(v))
            wanted = np.exp(-((scale.values[a] - scale.values[b]) ** 2) / (2 * scale.spread**2))
            total += (cosine - wanted) ** 2
            count += 1
    return total, count


def test_the_regulariser_is_the_plain_one() -> None:
    table = torch.randn(30, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    scales = (TokenScale((3, 7, 9, 20), (0, 1, 2, 9), 1.0), TokenScale((11, 12, 13), (5, 25, 99), 10.0))
    loss = similarity_loss(table, scales)
    expected = [plain_similarity(table.numpy(), scale) for scale in scales]
    assert loss.count == sum(count for _, count in expected) == 6 + 3
    assert float(loss.total) == pytest.approx(sum(total for total, _ in expected), rel=1e-5)


def test_the_regulariser_pulls_towards_the_gaussian_and_touches_nothing_else() -> None:
    scale = TokenScale(tuple(range(2, 12)), tuple(range(10)), 1.5)
    table = torch.nn.Parameter(torch.randn(14, 16, generator=torch.Generator().manual_seed(4)))
    before = table.detach().clone()
    optimizer = torch.optim.Adam([table], lr=0.03)
    first = similarity_loss(table, (scale,)).mean
    for _ in range(300):
        loss = similarity_loss(table, (scale,))
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
    vectors = torch.nn.functional.normalize(table.detach()[2:12], dim=-1)
    places = np.arange(10)
    wanted = np.exp(-((places[:, None] - places) ** 2) / (2 * 1.5**2))
    assert first > 0.05
    assert np.abs((vectors @ vectors.T).numpy() - wanted).max() < 0.02
    others = [0, 1, 12, 13]
    assert torch.equal(table.detach()[others], before[others])


def test_a_single_token_has_no_pairs() -> None:
    assert similarity_loss(torch.ones(3, 2), (TokenScale((1,), (5,), 1.0),)).count == 0
