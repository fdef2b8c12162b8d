"""The model that edits: part by part against plain loops; ragged batches, limits, names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lithophone.errors import PromptError
from lithophone.model.conformer import Conformer
from lithophone.model.nar import GraniteSpeechNar
from tests.plain_nar import plain_audio, plain_encoding, plain_hypothesis_logits, plain_logits
from tests.tiny import (
    ENCODER,
    GENERATIONS,
    randomise,
    reference_model,
    tiny_config,
    tiny_frames,
    tiny_nar_config,
    tiny_nar_model,
)

LENGTHS = (203, 1, 4, 14, 15, 16, 45)


@pytest.fixture(scope="module", params=GENERATIONS)
def model(request: pytest.FixtureRequest) -> GraniteSpeechNar:
    return tiny_nar_model(request.param).requires_grad_(False)


@pytest.fixture
def undisturbed(model: GraniteSpeechNar) -> Iterator[GraniteSpeechNar]:
    """For tests that change weights: they are put back."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    yield model
    model.load_state_dict(before)


def assert_close(ours: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(ours, wanted, atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 4, 16, 203])
def test_every_part_equals_the_plain_loop(model: GraniteSpeechNar, length: int) -> None:
    frames, lengths = tiny_frames(length)
    states, last, posteriors = plain_encoding(model, frames[0])
    encoded = model.encode(frames, lengths)
    assert_close(encoded.states[0], states)
    assert_close(model.encoder.out_bpe.logits(encoded)[0][0], plain_hypothesis_logits(model, last, posteriors))
    audio, counts = model.project(encoded)
    assert counts.tolist() == [length // 5]
    assert_close(audio[0, : length // 5], plain_audio(model, states))
    slots = [97, 3, 97, 60, 97, 97, 97, 97]
    (hidden,) = model(audio, counts, [slots])
    assert_close(model.language_model.logits(hidden), plain_logits(model, plain_audio(model, states), slots))


def test_a_ragged_batch_equals_its_items_alone(model: GraniteSpeechNar) -> None:
    frames, lengths = tiny_frames(*LENGTHS)
    encoded = model.encode(frames, lengths)
    audio, counts = model.project(encoded)
    slots = [[i % 90] * (8 + i) for i in range(len(LENGTHS))]
    hidden = model(audio, counts, slots)
    for i, n in enumerate(LENGTHS):
        own = model.project(model.encode(frames[i : i + 1, :n], lengths[i : i + 1]))
        assert counts[i] == own[1] == n // 5
        assert_close(audio[i, : counts[i]], own[0][0, : counts[i]])
        assert not audio[i, counts[i] :].any()
        assert_close(hidden[i], model(*own, slots[i : i + 1])[0])


def test_every_slot_sees_all_others(model: GraniteSpeechNar) -> None:
    audio, counts = model.project(model.encode(*tiny_frames(40)))
    slots = [97, 3, 97, 60, 97, 7, 97, 97]
    (before,) = model(audio, counts, [slots])
    (last_changed,) = model(audio, counts, [[*slots[:-1], 5]])
    (first_changed,) = model(audio, counts, [[5, *slots[1:]]])
    assert ((before - last_changed).abs().amax(-1) > 1e-4).all()
    assert ((before - first_changed).abs().amax(-1) > 1e-4).all()


def test_all_joined_layers_are_heard(undisturbed: GraniteSpeechNar) -> None:
    encoded = undisturbed.encode(*tiny_frames(20))
    before = undisturbed.project(encoded)[0]
    for part in range(3):
        states = encoded.states.clone()
        states[..., 32 * part : 32 * part + 16] += 1.0
        changed = undisturbed.project(replace(encoded, states=states))[0]
        assert (before - changed)[0, :4].abs().amax(-1).min() > 1e-4


def test_the_layer_of_the_self_conditioning_is_joined_as_in_the_reference() -> None:
    """With its feedback: `transformers` adds it in place."""
    layers = (0, 2)
    reference = reference_model("plus").model.encoder
    reference.config.cat_hidden_layers = list(layers)
    ours = Conformer(replace(ENCODER, cat_hidden_layers=layers))
    assert tiny_config("plus").encoder_config.mid_layer == layers[-1]
    ours.load_state_dict({k: v for k, v in reference.state_dict().items() if "attention_dists" not in k})
    frames, lengths = tiny_frames(30)
    with torch.no_grad():
        assert_close(ours.eval()(frames, lengths).states, reference(frames).last_hidden_state)


def test_too_many_positions_are_refused(model: GraniteSpeechNar) -> None:
    limit = model.config.text_config.max_position_embeddings
    audio, counts = model.project(model.encode(*tiny_frames(50)))
    assert len(model(audio, counts, [[1] * (limit - 10)])[0]) == limit - 10
    with pytest.raises(PromptError, match=f"10 audio embeddings and {limit - 9} slots take {limit + 1} positions"):
        model(audio, counts, [[1] * (limit - 9)])


def test_every_parameter_learns() -> None:
    model = randomise(GraniteSpeechNar(tiny_nar_config("G2"))).train()
    encoded = model.encode(*tiny_frames(40, 23))
    hidden = model(*model.project(encoded), [[97, 3, 97], [97, 4, 97, 5, 97]])
    outputs = (torch.cat(hidden), model.encoder.out_bpe.logits(encoded)[0], encoded.logits)
    sum(output.logsumexp(-1).square().sum() for output in outputs).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_only_in_training() -> None:
    config = tiny_nar_config("G2")
    config = replace(config, projector_config=replace(config.projector_config, dropout_prob=0.5))
    model = randomise(GraniteSpeechNar(config)).requires_grad_(False)
    encoded = model.encode(*tiny_frames(30))
    still = model.project(encoded)[0]
    assert_close(model.project(encoded)[0], still)
    assert not torch.allclose(model.train().project(encoded)[0], still)


def test_parameters_are_named_as_in_the_checkpoint(model: GraniteSpeechNar) -> None:
    names = set(model.state_dict())
    layer = [
        f"projector.qformer.layers.1.cross_attention.{p}_proj.{kind}" for p in "qkvo" for kind in ("weight", "bias")
    ]
    always = {
        "encoder.out_bpe.weight", "encoder.out_bpe.bias", "projector.query", "projector.window_positions",
        "projector.layer_projector.weight", "projector.out_linear.bias", "projector.qformer.layers.0.mlp.fc1.bias",
        "projector.qformer.layers.0.mlp.fc2.weight", "language_model.model.embed_tokens.weight", *layer,
    }  # fmt: skip
    norms = {
        f"projector.{name}.{kind}" for kind in ("weight", "bias")
        for name in ("layer_norms.2", "out_norm", "qformer.layers.1.attn_norm", "qformer.layers.0.mlp_norm")
    }  # fmt: skip
    assert always <= names
    assert names & norms == (set() if model.config.generation == "G3" else norms)
    assert "language_model.lm_head.weight" not in names
