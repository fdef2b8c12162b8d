"""A checkpoint folder <-> a model ready to run, its tokenizer and its configuration.

Loading is where everything about a folder is checked: what is missing, what does not fit together and what we would
compute differently from how the model was trained raises here, before the first recording is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lithophone import features
from lithophone.config import ModelConfig
from lithophone.errors import CheckpointError, ConfigError
from lithophone.model.lora import LoraConfig
from lithophone.model.speech import GraniteSpeech
from lithophone.model.weights import (
    ADAPTER,
    ADAPTER_CONFIG,
    BPE_HEAD,
    load_weights,
    save_weights,
    stored_tensors,
    weight_files,
)
from lithophone.tokenizer import AUDIO_TOKEN, Tokenizer, read_json

CONFIG = "config.json"
PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

FRONT_END = {
    "sample_rate": features.RATE_HZ, "n_fft": features.N_FFT, "win_length": features.WIN_LENGTH,
    "hop_length": features.HOP_LENGTH, "n_mels": features.N_MELS,
}  # fmt: skip
"""What `features.py` computes, in the words of a preprocessor's `melspec_kwargs`."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that belongs to it; `folder` is where it was read from."""

    model: GraniteSpeech
    tokenizer: Tokenizer
    config: ModelConfig
    folder: Path


def load_checkpoint(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Checkpoint:
    """Read a checkpoint folder; the model comes in eval mode, its tensors in `dtype` on `device`.

    Raises CheckpointError for missing or misfitting files and tensors, ConfigError for a configuration that is not
    understood.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder")
    config = read_config(folder)
    check_front_end(folder, config)
    tokenizer = Tokenizer.from_folder(folder)
    _check_tokenizer(tokenizer, config)
    files = weight_files(folder)
    with torch.device("meta"):
        model = GraniteSpeech(config, _bpe_labels(folder), _lora(folder, config))
    load_weights(model, files, dtype=dtype, device=device)
    return Checkpoint(model.eval(), tokenizer, config, folder)


def save_checkpoint(checkpoint: Checkpoint, folder: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a folder that `load_checkpoint` and `transformers` read; `dtype` None keeps the number types."""
    folder = Path(folder)
    save_weights(checkpoint.model, folder, dtype=dtype)
    _write_json(folder / CONFIG, checkpoint.config.to_dict())
    _write_json(folder / PREPROCESSOR_FILES[0], _preprocessor(checkpoint.config))
    checkpoint.tokenizer.save(folder)


def read_config(folder: Path) -> ModelConfig:
    """The model's configuration; raises CheckpointError without `config.json`, ConfigError for what it says."""
    return ModelConfig.from_dict(read_json(folder / CONFIG))


def check_front_end(folder: Path, config: ModelConfig) -> None:
    """ConfigError where a preprocessor's file asks for other frames, or other windows, than are built."""
    ours = _preprocessor(config)
    expected = FRONT_END | {key: value for key, value in ours.items() if isinstance(value, int)}
    for path in (folder / name for name in PREPROCESSOR_FILES):
        seen = _flat(read_json(path)) if path.is_file() else {}
        wrong = [f"{k}={seen[k]!r} (built: {v})" for k, v in expected.items() if seen.get(k, v) != v]
        if wrong:
            raise ConfigError(f"{path.name} asks for a front end that is not built: {', '.join(wrong)}")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a preprocessor's file, whichever section of which generation they stand in."""
    sections = [_flat(value) for value in values.values() if isinstance(value, Mapping)]
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    return {key: value for section in [*sections, plain] for key, value in section.items()}


def _preprocessor(config: ModelConfig) -> dict[str, Any]:
    return {
        "feature_extractor_type": "GraniteSpeechFeatureExtractor",
        "processor_class": "GraniteSpeechProcessor",
        "sampling_rate": features.RATE_HZ,
        "melspec_kwargs": FRONT_END,
        "projector_window_size": config.window_size,
        "projector_downsample_rate": config.downsample_rate,
    }


def _check_tokenizer(tokenizer: Tokenizer, config: ModelConfig) -> None:
    audio = config.audio_token_index
    if tokenizer.audio_id != audio:
        raise CheckpointError(f"{AUDIO_TOKEN} is {tokenizer.audio_id} in the tokenizer, {audio} in {CONFIG}")
    eos = config.text_config.eos_token_id
    if tokenizer.eos_id != eos:
        raise CheckpointError(f"the end of text is {tokenizer.eos_id} in the tokenizer, {eos} in {CONFIG}")


def _bpe_labels(folder: Path) -> int | None:
    """Labels of the BPE head, where the checkpoint has one."""
    path = folder / BPE_HEAD
    if not path.is_file():
        return None
    bias = stored_tensors([path]).get("bpe_head.bias")
    if bias is None:
        raise CheckpointError(f"{path} holds no tensor 'bias'")
    return bias.shape[0]


def _lora(folder: Path, config: ModelConfig) -> LoraConfig | None:
    """The adapters' configuration, by `has_lora_adapter`; the files have to agree with it."""
    present = (folder / ADAPTER).is_file()
    if present != config.has_lora_adapter:
        state = "is there" if present else "is missing"
        raise CheckpointError(f"has_lora_adapter is {config.has_lora_adapter} in {CONFIG}, but {ADAPTER} {state}")
    return LoraConfig.from_dict(read_json(folder / ADAPTER_CONFIG)) if present else None


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
