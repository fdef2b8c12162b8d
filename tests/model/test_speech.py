"""The three parts joined: slots, limits, ragged batches, gradients."""

from __future__ import annotations

import pytest
import torch

from lithophone.errors import PromptError
from lithophone.model.speech import GraniteSpeech
from tests.tiny import AUDIO, BPE_LABELS, audio_prompt, tiny_config, tiny_frames, tiny_model

LENGTHS = (437, 1, 201, 200, 199, 16, 90, 400)


@pytest.fixture(scope="module")
def model() -> GraniteSpeech:
    return tiny_model().requires_grad_(False)


@pytest.mark.parametrize("kind", ["base", "plus", "wide"])
def test_a_ragged_batch_of_eight_equals_its_items_alone(kind: str) -> None:
    model = tiny_model(kind, bpe=True).requires_grad_(False)
    frames, lengths = tiny_frames(*LENGTHS)
    encoded = model.encode(frames, lengths)
    embeddings, counts = model.project(encoded)
    pieces, n_pieces = model.bpe_head.logits(encoded)
    for i, n in enumerate(LENGTHS):
        alone = model.encode(frames[i : i + 1, :n], lengths[i : i + 1])
        for name in ("states", "last", "logits", "mid_logits"):
            torch.testing.assert_close(getattr(encoded, name)[i, :n], getattr(alone, name)[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(embeddings[i, : counts[i]], model.project(alone)[0][0], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(pieces[i, : n_pieces[i]], model.bpe_head.logits(alone)[0][0], atol=1e-5, rtol=1e-5)
    assert pieces.shape[2] == BPE_LABELS


def test_audio_takes_its_slots_and_text_its_own(model: GraniteSpeech) -> None:
    audio, counts = model.audio_embeddings(*tiny_frames(45, 16))
    prompts = [audio_prompt(9), audio_prompt(6, before=2)]
    for ids, row, own, count in zip(prompts, model.embed(prompts, audio, counts), audio, counts, strict=True):
        slots = torch.tensor(ids) == AUDIO
        torch.testing.assert_close(row[slots], own[:count], atol=0, rtol=0)
        text = torch.tensor(ids)[~slots]
        torch.testing.assert_close(row[~slots], model.language_model.embed(text), atol=0, rtol=0)


@pytest.mark.parametrize("n_slots", [8, 10, 0])
def test_slots_and_embeddings_must_be_equally_many(model: GraniteSpeech, n_slots: int) -> None:
    audio, counts = model.audio_embeddings(*tiny_frames(45))
    with pytest.raises(PromptError, match=rf"{n_slots} audio slots .* 9 audio embeddings"):
        model.embed([audio_prompt(n_slots)], audio, counts)


def test_slots_without_audio_are_refused(model: GraniteSpeech) -> None:
    with pytest.raises(PromptError, match=r"2 audio slots .* 0 audio embeddings"):
        model.embed([audio_prompt(2)])


def test_a_prompt_beyond_the_models_positions_is_refused(model: GraniteSpeech) -> None:
    limit = model.config.text_config.max_position_embeddings
    assert len(model.embed([[1] * limit])[0]) == limit
    with pytest.raises(PromptError, match=f"{limit + 1} positions, the model at most {limit}"):
        model.embed([[1] * (limit + 1)])


def test_an_audio_token_outside_the_table_is_fine() -> None:
    from dataclasses import replace

    model = tiny_model()
    model.config = replace(tiny_config(), audio_token_index=100_352)
    audio, counts = model.audio_embeddings(*tiny_frames(15))
    ids = [100_352 if i == AUDIO else i for i in audio_prompt(3)]
    assert model.embed([ids], audio, counts)[0].isfinite().all()


def test_every_part_learns_through_the_prompt() -> None:
    model = tiny_model(bpe=True).train()
    frames, lengths = tiny_frames(40, 20)
    logits, n_tokens = model([audio_prompt(9), audio_prompt(6)], frames, lengths)
    encoded = model.encode(frames, lengths)
    (logits[1, : n_tokens[1]].sum() + logits[0].pow(2).sum() + model.bpe_head.logits(encoded)[0].sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_model_can_be_laid_out_without_memory() -> None:
    with torch.device("meta"):
        model = GraniteSpeech(tiny_config("lora"), BPE_LABELS)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
