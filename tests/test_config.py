"""Configurations: what published and rewritten `config.json` files say, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lithophone.config import EncoderConfig, ModelConfig, TextConfig
from lithophone.errors import ConfigError
from tests.tiny import KINDS, tiny_config


def published() -> dict[str, Any]:
    """config.json of granite-speech-4.1-2b, with the bookkeeping of several generations of transformers."""
    values = ModelConfig().to_dict()
    values["encoder_config"] |= {"torch_dtype": "bfloat16"}
    values["projector_config"] |= {
        "initializer_range": 0.02, "max_position_embeddings": 2048, "position_embedding_type": "absolute",
        "use_qformer_text_input": False, "vocab_size": 30522, "_attn_implementation_autoset": True,
    }  # fmt: skip
    values["text_config"] |= {
        "attention_bias": False, "mlp_bias": False, "rope_scaling": None, "use_cache": True, "dtype": "float32",
        "rope_parameters": {"rope_theta": 10000, "rope_type": "default"}, "initializer_range": 0.1,
    }  # fmt: skip
    return values | {"transformers_version": "4.54.0", "torch_dtype": "bfloat16", "initializer_range": 0.02}


def test_a_published_file_gives_the_defaults() -> None:
    assert ModelConfig.from_dict(published()) == ModelConfig()


@pytest.mark.parametrize("kind", KINDS)
def test_to_dict_is_read_back(kind: str) -> None:
    config = tiny_config(kind)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_only_a_plus_file_names_layers_to_join() -> None:
    assert "cat_hidden_layers" not in tiny_config("base").to_dict()["encoder_config"]
    plus = tiny_config("plus").to_dict()["encoder_config"]
    assert (plus["cat_hidden_layers"], plus["model_type"]) == ([1], "granite_speech_plus_encoder")


@pytest.mark.parametrize("kind", ["base", "plus", "wide"])
def test_what_transformers_rewrites_is_the_same(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    name = "GraniteSpeechPlusConfig" if kind == "plus" else "GraniteSpeechConfig"
    config = tiny_config(kind)
    rewritten = getattr(transformers, name).from_dict(config.to_dict()).to_dict()
    assert ModelConfig.from_dict(json.loads(json.dumps(rewritten, default=str))) == config


@pytest.mark.parametrize("name", ["GraniteSpeechConfig", "GraniteSpeechPlusConfig"])
def test_the_default_of_transformers_is_understood_and_refused_for_its_sizes(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    values = json.loads(getattr(transformers, name)().to_json_string(use_diff=False))
    with pytest.raises(ConfigError, match="cross_attention_frequency=2"):
        ModelConfig.from_dict(values)
    values["projector_config"] |= {"cross_attention_frequency": 1, "encoder_hidden_size": 1024}
    assert ModelConfig.from_dict(values).text_config.embedding_multiplier == 1.0


@pytest.mark.parametrize("section", ["encoder_config", "projector_config", "text_config", None])
def test_unknown_keys_are_refused_by_name(section: str | None) -> None:
    values = published()
    (values[section] if section else values)["sparsity"] = 0.5
    with pytest.raises(ConfigError, match=r"does not understand sparsity=0\.5"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("text_config", "attention_bias", True),
        ("text_config", "model_type", "llama"),
        ("text_config", "rope_scaling", {"type": "linear", "factor": 2.0}),
        ("text_config", "rope_parameters", {"rope_type": "yarn", "rope_theta": 10000.0}),
        ("text_config", "rope_parameters", {"rope_theta": 10000.0, "partial_rotary_factor": 0.5}),
        ("text_config", "hidden_act", "gelu"),
        ("text_config", "eos_token_id", [1, 2]),
        ("text_config", "num_key_value_heads", 3),
        ("projector_config", "use_qformer_text_input", True),
        ("encoder_config", "num_layers", "16"),
        ("encoder_config", "num_layers", True),
        ("encoder_config", "context_size", 600),
        ("encoder_config", "cat_hidden_layers", [3]),
    ],
)
def test_values_that_would_change_the_numbers_are_refused(section: str, key: str, value: object) -> None:
    values = published()
    values[section][key] = value
    with pytest.raises(ConfigError):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize("layers", [(0,), (16,), (5, 3), (3, 3)])
def test_joined_layers_rise_inside_the_encoder(layers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="cat_hidden_layers"):
        EncoderConfig(cat_hidden_layers=layers)


def test_other_model_types_and_missing_sections_are_named() -> None:
    with pytest.raises(ConfigError, match="'granite_speech_nar'"):
        ModelConfig.from_dict(published() | {"model_type": "granite_speech_nar"})
    with pytest.raises(ConfigError, match="no section 'text_config'"):
        ModelConfig.from_dict({k: v for k, v in published().items() if k != "text_config"})


def test_a_key_left_out_means_what_transformers_means() -> None:
    assert TextConfig.from_dict({}).embedding_multiplier == 1.0
    assert TextConfig.from_dict({"num_attention_heads": 16}).num_key_value_heads == 16
    assert EncoderConfig.from_dict({"hidden_dim": 64, "dim_head": None}).dim_head == 8


def test_the_head_is_tied_where_the_file_says_so_at_the_top() -> None:
    values = published() | {"tie_word_embeddings": True}
    assert ModelConfig.from_dict(values).text_config.tie_word_embeddings
    with pytest.raises(ConfigError, match="tie_word_embeddings"):
        replace(ModelConfig(), tie_word_embeddings=True)


def test_the_newer_name_of_the_audio_token_is_read() -> None:
    values = published()
    values["audio_token_id"] = values.pop("audio_token_index")
    assert ModelConfig.from_dict(values).audio_token_index == 100352
