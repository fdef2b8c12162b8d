"""Whisper's decoder, read from every kind of folder, computes what `transformers` does; losses of its text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.errors import CheckpointError
from lithophone.model.conformer import Conformer
from lithophone.train.transplant import whisper_decoder
from lithophone.train.transplant.statistics import Statistics
from lithophone.train.transplant.weights import block_input, conformer_blocks, student_config, transplant
from lithophone.train.transplant.whisper import WhisperEncoder
from lithophone.train.transplant.whisper_decoder import IGNORED, DecoderInput, TextTeacher, WhisperDecoder
from tests.train.transplant.tiny_whisper import (
    N_TOKENS,
    POSITIONS,
    SIZE,
    noise_windows,
    tiny_whisper,
    write_ctranslate2,
    write_transformers,
)

TEXTS, LANGS = ["the stone sings", "ein Stein", ""], ["en", "de", "en"]


def states_of(seed: int, rows: int = 3, length: int = 12) -> Tensor:
    return torch.randn(rows, length, SIZE, generator=torch.Generator().manual_seed(seed))


def all_valid(states: Tensor) -> Tensor:
    return torch.ones(states.shape[:2], dtype=torch.bool)


@torch.no_grad()
def test_hidden_states_equal_those_of_transformers(tmp_path: Path) -> None:
    model = tiny_whisper()
    decoder = WhisperDecoder.from_folder(write_transformers(model, tmp_path / "whisper"))
    ids, states = torch.arange(40).view(2, 20), states_of(1, rows=2)
    expected = model.decoder(input_ids=ids, encoder_hidden_states=states).last_hidden_state
    hidden = decoder(ids, states, all_valid(states))
    torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(decoder.logits(hidden), expected @ model.decoder.embed_tokens.weight.T)


@torch.no_grad()
def test_a_folder_of_ctranslate2_has_the_same_decoder(tmp_path: Path) -> None:
    model = tiny_whisper()
    exact = WhisperDecoder.from_folder(write_transformers(model, tmp_path / "whisper")).state_dict()
    found = WhisperDecoder.from_folder(write_ctranslate2(model, tmp_path / "converted", torch.float32)).state_dict()
    assert found.keys() == exact.keys()
    for name, tensor in exact.items():
        torch.testing.assert_close(found[name], tensor)


@torch.no_grad()
def test_invalid_states_change_nothing(text_teacher: TextTeacher) -> None:
    decoder, ids, states = text_teacher.decoder, torch.arange(10)[None], states_of(1, rows=1)
    expected = decoder(ids, states, all_valid(states))
    padded = F.pad(states, (0, 0, 0, 5), value=3.0)
    valid = F.pad(all_valid(states), (0, 5))
    torch.testing.assert_close(decoder(ids, padded, valid), expected)


def test_targets_are_the_transcripts(text_teacher: TextTeacher) -> None:
    ids, targets = text_teacher.rows(TEXTS, LANGS)
    assert ids.shape == targets.shape
    tokenizer = text_teacher.tokenizer
    start, end = tokenizer.id_of("<|startoftranscript|>"), tokenizer.id_of("<|endoftext|>")
    assert (ids[:, 0] == start).all()
    for n, text in enumerate(TEXTS[:2]):
        kept = targets[n][targets[n] != IGNORED].tolist()
        assert (tokenizer.decode(kept), kept[-1]) == (" " + text, end)
        first = (targets[n] != IGNORED).nonzero()[0].item()
        assert ids[n, first + 1 : first + len(kept)].tolist() == kept[:-1], "the input is the target, one step later"
    assert (targets[2] == IGNORED).all()


def test_a_text_in_capitals_is_read_in_lower_case(text_teacher: TextTeacher) -> None:
    rows = [text_teacher.rows([text], ["en"]) for text in ("THE STONE", "the stone")]
    assert all(torch.equal(one, other) for one, other in zip(*rows, strict=True))
    assert not torch.equal(text_teacher.rows(["The stone"], ["en"])[0], rows[1][0])


def test_a_text_longer_than_the_positions_has_no_targets(text_teacher: TextTeacher) -> None:
    ids, targets = text_teacher.rows(["a" * POSITIONS, "b"], ["en", "en"])
    assert ids.shape[1] == POSITIONS
    assert (targets != IGNORED).sum(1).tolist() == [0, len([" ", "b", "end"])]
    longest = "a" * (POSITIONS - 3)  # with the prompt, the blank in front and without the end: all positions
    assert (text_teacher.rows([longest], ["en"])[1] != IGNORED).sum() == len(longest) + 2


def test_a_multilingual_prompt_names_language_and_task(
    text_teacher: TextTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {name: text_teacher.tokenizer.id_of(f"<|{name}|>") for name in ("startoftranscript", "de", "transcribe")}
    assert text_teacher.prompt("de")[1] != names["de"]
    monkeypatch.setattr(whisper_decoder, "MULTILINGUAL", N_TOKENS)
    assert text_teacher.prompt("de")[:3] == list(names.values())
    with pytest.raises(CheckpointError, match=r"<\|fr\|>"):
        text_teacher.prompt("fr")


def test_states_of_the_teacher_have_no_divergence(text_teacher: TextTeacher) -> None:
    states = states_of(1)
    same = text_teacher.losses(states, states, all_valid(states), TEXTS, LANGS)
    assert same["teacher_text"].mean == pytest.approx(0.0, abs=1e-5)
    other = text_teacher.losses(states_of(2), states, all_valid(states), TEXTS, LANGS)
    assert other["teacher_text"].mean > 0.01
    count = sum(len(text) + 2 for text in TEXTS[:2])
    assert {loss.count for loss in (*same.values(), *other.values())} == {count}


def test_text_is_the_cross_entropy_of_the_transcript(text_teacher: TextTeacher) -> None:
    states = states_of(1, rows=1)
    found = text_teacher.losses(states, states, all_valid(states), TEXTS[:1], LANGS[:1])["text"]
    total = 0.0
    reply = [*text_teacher.tokenizer.encode(" " + TEXTS[0]), text_teacher.tokenizer.id_of("<|endoftext|>")]
    used = text_teacher.prompt("en")
    for token in reply:
        logits = text_teacher.decoder.logits(text_teacher.decoder(torch.tensor([used]), states, all_valid(states)))
        total -= float(logits[0, -1].log_softmax(-1)[token])
        used.append(token)
    assert found.mean * found.count == pytest.approx(total, rel=1e-4)


def test_rows_without_text_have_no_loss(text_teacher: TextTeacher) -> None:
    states = states_of(1, rows=1).requires_grad_()
    found = text_teacher.losses(states, states.detach(), all_valid(states), [""], ["en"])
    assert {(loss.mean, loss.count) for loss in found.values()} == {(0.0, 0.0)}
    sum(loss.total for loss in found.values()).backward()  # type: ignore[union-attr]


@torch.no_grad()
def test_the_decoder_input_adds_the_positions(teacher: WhisperEncoder, statistics: Statistics) -> None:
    """To the output of the last block, which starts as the final norm; a frame's deviation is taken for the usual."""
    stream = teacher(noise_windows(1)[0][None])[-1].output
    target = statistics.targets([stream] * len(statistics.scale))[-1]
    encoder = Conformer(student_config(teacher)).eval()
    transplant(teacher, encoder, statistics)
    output = conformer_blocks(encoder)[-1](block_input(target), torch.ones(1, target.shape[1], dtype=torch.bool))
    expected = teacher.norm(stream)
    error, without = (
        float((x - expected).square().mean() / expected.var())
        for x in (DecoderInput(teacher, statistics)(output), output[..., : teacher.size])
    )
    assert error < 0.5 * without


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_transformers(tiny_whisper(), tmp_path / "whisper")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        TextTeacher.from_folder(folder)


def test_an_incomplete_decoder_is_refused(tmp_path: Path) -> None:
    folder = write_transformers(tiny_whisper(), tmp_path / "whisper")
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in weights.items() if "decoder.layers.0.fc2" not in n}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="no complete Whisper model"):
        WhisperDecoder.from_folder(folder)
