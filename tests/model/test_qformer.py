"""The projector: windows, counts, and rows of a batch that do not touch each other."""

from __future__ import annotations

import pytest
import torch

from lithophone.model.qformer import WindowQFormer
from tests.tiny import randomise, tiny_config

LENGTHS = (1, 14, 15, 16, 45, 44, 31, 30)


@pytest.fixture(scope="module", params=["base", "wide"])
def projector(request: pytest.FixtureRequest) -> WindowQFormer:
    config = tiny_config(request.param)
    built = WindowQFormer(config.projector_config, config.text_config.hidden_size, 15, 5)
    return randomise(built).requires_grad_(False)


def states_for(projector: WindowQFormer, batch: int, frames: int) -> torch.Tensor:
    size = projector.qformer.encoder.layer[0].crossattention.attention.key.in_features
    return torch.randn(batch, frames, size, generator=torch.Generator().manual_seed(1))


def test_three_embeddings_for_every_window_begun(projector: WindowQFormer) -> None:
    lengths = torch.tensor(LENGTHS)
    embeddings, counts = projector(states_for(projector, len(LENGTHS), 45), lengths)
    assert counts.tolist() == [3, 3, 3, 6, 9, 9, 9, 6]
    assert embeddings.shape == (len(LENGTHS), 9, projector.linear.out_features)


def test_a_batch_equals_its_items_alone_whatever_the_padding_holds(projector: WindowQFormer) -> None:
    lengths = torch.tensor(LENGTHS)
    states = states_for(projector, len(LENGTHS), 45)  # nothing but noise behind each row's length
    embeddings, counts = projector(states, lengths)
    for row, n, count, state in zip(embeddings, LENGTHS, counts, states, strict=True):
        alone, _ = projector(state[None, :n], torch.tensor([n]))
        torch.testing.assert_close(row[:count], alone[0], atol=1e-5, rtol=0)
        assert not row[count:].any()


def test_dropout_only_in_training(projector: WindowQFormer) -> None:
    states, lengths = states_for(projector, 1, 30), torch.tensor([30])
    still = projector(states, lengths)[0]
    torch.testing.assert_close(projector(states, lengths)[0], still)
    try:
        assert not torch.allclose(projector.train()(states, lengths)[0], still)
    finally:
        projector.eval()


def test_parameters_are_named_as_in_the_checkpoint(projector: WindowQFormer) -> None:
    names = set(projector.state_dict())
    layer = "qformer.encoder.layer.1."
    expected = {"query", "linear.weight", "qformer.layernorm.bias"} | {
        layer + name
        for name in (
            "attention.attention.query.weight", "attention.output.dense.bias", "attention.output.LayerNorm.weight",
            "crossattention.attention.key.weight", "crossattention.attention.value.bias",
            "crossattention.output.dense.weight", "intermediate_query.dense.weight", "output_query.dense.weight",
            "output_query.LayerNorm.bias",
        )
    }  # fmt: skip
    assert expected <= names
