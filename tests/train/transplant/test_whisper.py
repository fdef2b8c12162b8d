"""Whisper's encoder, read from every kind of folder, computes what `transformers` does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lithophone.errors import CheckpointError
from lithophone.train.transplant.whisper import WINDOW_SAMPLES, WhisperEncoder, log_mel
from tests.train.transplant.tiny_whisper import (
    HEADS,
    LAYERS,
    SIZE,
    noise_windows,
    tiny_whisper,
    write_ctranslate2,
    write_transformers,
)

SAMPLES = torch.randn(2, 32_000, generator=torch.Generator().manual_seed(1)) * 0.1


@pytest.mark.parametrize("n_mels", [80, 128])
@torch.no_grad()
def test_states_equal_those_of_transformers(tmp_path: Path, n_mels: int) -> None:
    model = tiny_whisper(n_mels)
    encoder = WhisperEncoder.from_folder(write_transformers(model, tmp_path / "whisper"))
    assert (encoder.size, encoder.n_mels, len(encoder.layers)) == (SIZE, n_mels, LAYERS)
    (window,) = noise_windows(1)
    expected = model.encoder(log_mel(window[None], n_mels)).last_hidden_state
    torch.testing.assert_close(encoder.norm(encoder(window[None])[-1].output), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_the_input_equals_that_of_transformers(n_mels: int) -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    expected = extractor(list(SAMPLES.numpy()), sampling_rate=16_000, padding="max_length", return_tensors="pt")
    padded = F.pad(SAMPLES, (0, WINDOW_SAMPLES - SAMPLES.shape[1]))
    torch.testing.assert_close(log_mel(padded, n_mels), expected.input_features, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        (torch.float32, 1e-4),
        (torch.float16, 2e-2),
        (torch.bfloat16, 0.2),
        (torch.int16, 5e-2),
        (torch.int8, 0.3),
    ],
    ids=str,
)
@torch.no_grad()
def test_a_folder_of_ctranslate2_has_the_same_weights(tmp_path: Path, kind: torch.dtype, tolerance: float) -> None:
    model = tiny_whisper()
    exact = WhisperEncoder.from_folder(write_transformers(model, tmp_path / "whisper"))
    rounded = WhisperEncoder.from_folder(write_ctranslate2(model, tmp_path / "converted", kind))
    assert [layer.num_heads for layer in rounded.layers] == [HEADS] * LAYERS
    found, expected = (encoder(SAMPLES)[-1].output for encoder in (rounded, exact))
    assert (found - expected).abs().max() < tolerance * expected.std()


def test_a_folder_of_several_files_has_the_same_weights(tmp_path: Path) -> None:
    whole = WhisperEncoder.from_folder(write_transformers(tiny_whisper(), tmp_path / "whole"))
    folder = write_transformers(tiny_whisper(), tmp_path / "shards", shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    for name, tensor in WhisperEncoder.from_folder(folder).state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


@torch.no_grad()
def test_streams_are_the_stem_and_the_outputs_of_the_first_layers(tmp_path: Path) -> None:
    encoder = WhisperEncoder.from_folder(write_transformers(tiny_whisper(), tmp_path / "whisper"))
    stem, first, *rest = encoder.streams(SAMPLES)
    assert (len(rest), len(encoder.streams(SAMPLES, 0)), len(encoder.streams(SAMPLES, 1))) == (LAYERS - 1, 1, 2)
    assert torch.equal(stem, encoder.stem(SAMPLES))
    assert torch.equal(first, encoder(SAMPLES)[0].output)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"must have model\.bin \(CTranslate2\) or model\.safetensors"):
        WhisperEncoder.from_folder(tmp_path)


def test_another_version_of_the_format_is_refused(tmp_path: Path) -> None:
    folder = write_ctranslate2(tiny_whisper(), tmp_path / "whisper", version=3)
    with pytest.raises(CheckpointError, match=r"version 3 of CTranslate2's format: 4 to 6 can be read"):
        WhisperEncoder.from_folder(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = write_ctranslate2(tiny_whisper(), tmp_path / "whisper") / "model.bin"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match="no complete Whisper model"):
        WhisperEncoder.from_folder(path.parent)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    folder = write_transformers(tiny_whisper(), tmp_path / "whisper")
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="encoder_attention_heads"):
        WhisperEncoder.from_folder(folder)
