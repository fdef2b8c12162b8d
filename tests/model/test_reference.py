"""The whole model against transformers, in float32, one recording at a time, on random weights.

transformers 5.23 does not divide the logits of Granite Speech by `logits_scaling`: the tests do.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from lithophone.decode.greedy import greedy_decode
from lithophone.decode.options import Greedy
from lithophone.decode.scheduler import decode_batch
from lithophone.model.speech import GraniteSpeech
from tests.tiny import EOS, audio_prompt, load_reference, reference_model, tiny_config, tiny_frames

N_NEW = 64
LENGTHS = (1, 199, 200, 201, 437)


@pytest.fixture(scope="module", params=["base", "plus", "wide", "biased"])
def pair(request: pytest.FixtureRequest) -> tuple[GraniteSpeech, nn.Module]:
    """Ours and theirs, with the same weights."""
    reference = reference_model(request.param)
    reference.lm_head.weight.data[EOS] = 0.0  # never the most probable, so that replies are long
    return load_reference(GraniteSpeech(tiny_config(request.param)), reference), reference


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-4, and within 1e-5 of the largest value."""
    assert ours.shape == theirs.shape
    difference = float((ours - theirs).abs().max())
    assert difference < min(1e-4, 1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("length", LENGTHS)
def test_encoder_and_its_characters(pair: tuple[GraniteSpeech, nn.Module], length: int) -> None:
    ours, theirs = pair
    frames, lengths = tiny_frames(length)
    encoded = ours.encode(frames, lengths)
    states, mid = _reference_states(theirs, frames)
    last = states[..., -theirs.config.encoder_config.hidden_dim :]
    assert_same(encoded.states, states)
    assert_same(encoded.last, last)
    assert_same(encoded.logits, theirs.model.encoder.out(last))
    assert_same(encoded.mid_logits, theirs.model.encoder.out(mid))


@pytest.mark.parametrize("length", LENGTHS)
def test_audio_embeddings(pair: tuple[GraniteSpeech, nn.Module], length: int) -> None:
    ours, theirs = pair
    frames, lengths = tiny_frames(length)
    embeddings, counts = ours.audio_embeddings(frames, lengths)
    assert counts.tolist() == [embeddings.shape[1]]
    assert_same(embeddings, theirs.get_audio_features(frames).pooler_output)


@pytest.mark.parametrize("length", [1, 201, 437])
def test_logits_of_a_prompt_with_audio(pair: tuple[GraniteSpeech, nn.Module], length: int) -> None:
    ours, theirs = pair
    frames, lengths = tiny_frames(length)
    ids = torch.tensor([audio_prompt(_n_audio(length))])
    expected = theirs(input_ids=ids, input_features=frames).logits / ours.config.text_config.logits_scaling
    assert_same(ours(ids, frames, lengths)[0], expected)


def test_logits_of_text_alone(pair: tuple[GraniteSpeech, nn.Module]) -> None:
    ours, theirs = pair
    ids = torch.tensor([audio_prompt(0, before=20)])
    expected = theirs(input_ids=ids).logits / ours.config.text_config.logits_scaling
    assert_same(ours(ids)[0], expected)


@pytest.mark.parametrize("length", [30, 437])
def test_greedy_tokens(pair: tuple[GraniteSpeech, nn.Module], length: int) -> None:
    ours, theirs = pair
    frames, lengths = tiny_frames(length)
    ids = torch.tensor([audio_prompt(_n_audio(length))])
    expected = theirs.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), input_features=frames, max_new_tokens=N_NEW, do_sample=False
    )[0, ids.shape[1] :].tolist()
    audio, counts = ours.audio_embeddings(frames, lengths)
    prompts = ours.embed(ids, audio, counts)
    slow = greedy_decode(ours, prompts[0], Greedy(N_NEW), int(counts))
    fast = decode_batch(ours, prompts, Greedy(N_NEW), counts.tolist())[0]
    assert slow.ids == fast.ids == tuple(expected)
    assert len(expected) == N_NEW
    assert len(set(expected)) > 10, "a degenerate model proves nothing"


def _n_audio(length: int) -> int:
    return -(-length // 15) * 3


def _reference_states(theirs: nn.Module, frames: Tensor) -> tuple[Tensor, Tensor]:
    """What the reference encoder gives, and its middle layer before the feedback is added."""
    encoder = theirs.model.encoder
    seen: list[Tensor] = []
    # A clone: the feedback is added in place.
    hook = encoder.layers[encoder.num_layers // 2 - 1].register_forward_hook(lambda *call: seen.append(call[2].clone()))
    try:
        return encoder(frames).last_hidden_state, seen[0]
    finally:
        hook.remove()
