"""Cues by sound, and the tagger that tells where words of the list are said."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lithophone.train.targets.biasing import (
    CUES,
    KEYWORD,
    OTHER,
    Cues,
    PositionTagger,
    sounds,
    tagged,
    tagger_loss,
    with_cues,
)

COMMON = ("the", "dash", "wood", "quill", "will", "brass", "stock")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dashwood", "dash wood"),
        ("physics", "fisiks"),
        ("Schmidt", "smit"),
        ("Quiz", "kwis"),
        ("Müller", "muler"),
        ("rough", "rou"),
        ("vice", "fise"),
    ],
)
def test_what_sounds_alike_is_spelled_alike(one: str, other: str) -> None:
    assert sounds(one) == sounds(other)


def test_what_sounds_different_is_not() -> None:
    assert sounds("cat") != sounds("mat")
    assert sounds("千葉") == "千葉"


def test_cues_are_the_common_words_that_sound_most_like_the_keyword() -> None:
    cues = Cues(COMMON)
    assert set(cues.of("Dashwood")) == {"dash", "wood"}
    assert cues.of("Quillim")[0] == "quill"
    assert cues.of("Brastok")[0] == "brass"


def test_no_cue_where_nothing_is_alike() -> None:
    assert Cues(COMMON).of("Yggdrasil") == ()
    assert with_cues(["Yggdrasil"], COMMON) == ("Yggdrasil",)


def test_a_common_word_is_no_cue_for_itself() -> None:
    assert Cues(["House"]).of("house") == ()
    assert Cues(["House"]).of("houses") == ("house",)


def test_keywords_with_cues_stand_in_their_order() -> None:
    cues = Cues(COMMON, count=1)
    found = with_cues(["Yggdrasil", "Quillim"], cues)
    assert found == ("Yggdrasil", "Quillim (quill)")
    assert with_cues(["Dashwood"], COMMON) == (f"Dashwood ({' '.join(Cues(COMMON).of('Dashwood'))})",)


def test_at_most_so_many_cues() -> None:
    many = Cues(f"hous{letter}" for letter in "abcdefg")
    assert len(many.of("houses")) == CUES


def test_tags_of_words() -> None:
    text = "Mr. Dashwood, of New York, said so."
    found = tagged(text, ["dashwood", "New York", "Norland"])
    assert found == [OTHER, KEYWORD, OTHER, KEYWORD, KEYWORD, OTHER, OTHER]
    assert tagged(text, []) == [OTHER] * 7


def rows(sizes: list[int], channels: int, generator: torch.Generator) -> list[torch.Tensor]:
    return [torch.randn(n, channels, generator=generator, requires_grad=True) for n in sizes]


def test_the_loss_is_ctc_of_every_row() -> None:
    generator = torch.Generator().manual_seed(3)
    tagger = PositionTagger(8)
    audio, states = rows([9, 5], 8, generator), rows([4, 7], 8, generator)
    tags = [[OTHER, KEYWORD, OTHER], [KEYWORD]]
    found = tagger_loss(tagger, audio, states, tags)
    slow = [
        F.ctc_loss(tagger(row, listed).log_softmax(-1), torch.tensor(tag), (len(row),), (len(tag),), reduction="sum")
        for row, listed, tag in zip(audio, states, tags, strict=True)
    ]
    torch.testing.assert_close(found.total, torch.stack(slow).sum())
    assert found.count == 4
    found.total.backward()
    for tensor in (*audio, *states, *tagger.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0 or tensor is tagger.key.bias


def test_no_lists_no_loss() -> None:
    loss = tagger_loss(PositionTagger(8), [], [], [])
    assert (loss.total.item(), loss.count) == (0.0, 0.0)


def test_a_tagger_learns_where_the_words_of_a_list_are() -> None:
    """Words are points, with silence behind each. Lists are drawn anew, so nothing can be learned by heart."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    words = torch.randn(12, 16, generator=generator)
    tagger = PositionTagger(16)
    optimizer = torch.optim.Adam(tagger.parameters(), lr=1.5e-2)

    def draw() -> tuple[list[torch.Tensor], list[torch.Tensor], list[list[int]]]:
        audio, states, tags = [], [], []
        for _ in range(8):
            said = torch.randperm(12, generator=generator)[:4]
            listed = torch.randperm(12, generator=generator)[:4]
            audio.append(torch.stack([words[said], torch.zeros(4, 16)], 1).flatten(0, 1))
            states.append(words[listed])
            tags.append([KEYWORD if word in listed.tolist() else OTHER for word in said.tolist()])
        return audio, states, tags

    losses = []
    for _ in range(160):
        loss = tagger_loss(tagger, *draw())
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
        losses.append(loss.mean)
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
