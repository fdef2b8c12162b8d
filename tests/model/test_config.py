"""Configurations: what published and rewritten `config.json` files say, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lithophone.errors import ConfigError
from lithophone.model.config import EncoderConfig, ModelConfig, TextConfig
from lithophone.model.nar_config import Generation, NarConfig, NarEncoderConfig, config_from_dict
from tests.tiny import GENERATIONS, KINDS, tiny_config, tiny_nar_config


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
    with pytest.raises(ConfigError, match=r"has sparsity=0\.5: not understood"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("text_config", "attention_bias", 1),
        ("text_config", "head_dim", 15),
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


@pytest.mark.parametrize("layers", [(-1,), (16,), (5, 3), (3, 3)])
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


ENCODER = {
    "input_dim": 160, "num_layers": 16, "hidden_dim": 1024, "feedforward_mult": 4, "num_heads": 8, "dim_head": 128,
    "output_dim": 348, "context_size": 200, "max_pos_emb": 512, "dropout": 0.1, "conv_kernel_size": 15,
    "conv_expansion_factor": 2, "self_conditioning_layer": 8,
}  # fmt: skip
PROJECTOR = {
    "encoder_dim": 1024, "llm_dim": 2048, "downsample_rate": 5, "num_encoder_layers": 4, "hidden_size": 2048,
    "num_heads": 32, "num_layers": 2, "dropout_prob": 0.1, "block_size": 15, "mlp_ratio": 2, "layernorm_eps": 1e-6,
    "attn_bias": True, "mlp_bias": True,
}  # fmt: skip
NATIVE_PROJECTOR = {
    "model_type": "granite_speech_nar_projector", "hidden_size": 2048, "intermediate_size": 4096,
    "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu",
    "window_size": 15, "downsample_rate": 5, "attention_bias": True, "attention_dropout": 0.0, "layer_norm_eps": 1e-6,
}  # fmt: skip
TEXT = TextConfig(vocab_size=100352, tie_word_embeddings=True).to_dict()


def nar_file(generation: Generation) -> dict[str, Any]:
    """config.json of granite-speech-4.1-2b-nar, as far as public converters describe its generations."""
    if generation == "G1":
        return {
            "model_type": "nle", "architectures": ["NLENARDecoder"], "attn_implementation": "flash_attention_2",
            "auto_map": {"AutoModel": "modeling_nle.NLENARDecoder"}, "ctc_tokenizer_config": {"char2idx": {"a": 97}},
            "encoder_config": {**ENCODER, "bpe_output_dim": 100353, "bpe_pooling_window": 4, "attn_type": "block",
                               "loss_lambda": 0.2},
            "projector_config": {**PROJECTOR, "model_type": "nle_projector"}, "llm_config": TEXT,
            "encoder_layer_indices": [4, 8, 12, -1], "scale_projected_embeddings": True,
        }  # fmt: skip
    top = {"model_type": "granite_speech_nar", "ce_loss_lambda": 0.0, "encoder_ctc_loss_lambda": 0.0, "auto_map": {}}
    if generation == "G2":
        return top | {
            "architectures": ["GraniteSpeechNarForASR"], "blank_token_id": 100257, "min_edit_sequence_length": 8,
            "encoder_config": {**ENCODER, "bpe_output_dim": 100352, "bpe_pooling_window": 4, "pred_dropout": 0.25,
                               "blank_token_id": 100257},
            "projector_config": PROJECTOR, "text_config": TEXT, "encoder_layer_indices": [4, 8, 12, -1],
            "scale_projected_embeddings": True, "tie_word_embeddings": True, "audio_token_id": 100352,
        }  # fmt: skip
    return top | {
        "architectures": ["GraniteSpeechNarForCTC"], "blank_token_id": 100257, "tie_word_embeddings": True,
        "encoder_config": {**ENCODER, "vocabulary_size": 100352, "pooling_window": 4, "cat_hidden_layers": [4, 8, 12],
                           "model_type": "granite_speech_nar_encoder"},
        "projector_config": NATIVE_PROJECTOR, "text_config": TEXT | {"model_type": "granite_speech_nar_text"},
    }  # fmt: skip


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_nar_file_gives_the_defaults(generation: Generation) -> None:
    config = config_from_dict(nar_file(generation))
    default = NarConfig()
    wanted = {
        "G1": replace(default, generation="G1", encoder_config=NarEncoderConfig(bpe_output_dim=100353)),
        "G2": default,
        "G3": replace(default, generation="G3", projector_config=replace(default.projector_config, dropout_prob=0.0)),
    }[generation]
    assert isinstance(config, NarConfig)
    assert config == replace(wanted, encoder_config=replace(wanted.encoder_config, self_conditioning_layer=8))
    assert (config.blank_label, config.first_label) == ((0, 1) if generation == "G1" else (100257, 0))
    assert config.editor_config.logits_scaling == (1.0 if generation == "G1" else 8.0)
    assert (config.blank_token_id, config.window_size, config.downsample_rate) == (100257, 15, 5)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_nar_file_is_written_in_its_own_words(generation: Generation) -> None:
    config, sections = tiny_nar_config(generation), ("encoder_config", "projector_config", "llm_config", "text_config")
    written, known = json.loads(json.dumps(config.to_dict())), nar_file(generation)
    assert config_from_dict(written) == config
    assert set(written) <= set(known) | {"tie_word_embeddings"}
    for name in set(written) & set(sections):
        assert set(written[name]) <= set(known[name]) | {"model_type"}


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("section", ["encoder_config", "projector_config", None])
def test_unknown_keys_of_a_nar_file_are_refused_by_name(generation: Generation, section: str | None) -> None:
    values = nar_file(generation)
    if section:
        values[section] = {**values[section], "sparsity": 0.5}
    with pytest.raises(ConfigError, match=r"has sparsity=0\.5: not understood"):
        config_from_dict(values if section else {**values, "sparsity": 0.5})


@pytest.mark.parametrize("generation", GENERATIONS)
def test_missing_sections_of_a_nar_file_are_named(generation: Generation) -> None:
    for name in ("encoder_config", "projector_config", "llm_config" if generation == "G1" else "text_config"):
        with pytest.raises(ConfigError, match=f"no section '{name}'"):
            config_from_dict({k: v for k, v in nar_file(generation).items() if k != name})


@pytest.mark.parametrize(
    ("generation", "section", "change", "seen"),
    [
        ("G1", "encoder_config", {"bpe_output_dim": 100352}, "100352 labels .*, G1 has 100353"),
        ("G2", "encoder_config", {"bpe_output_dim": 100353}, "100353 labels .*, G2 has 100352"),
        ("G2", "encoder_config", {"blank_token_id": 0}, "blank_token_id is 0: built is the end of text, 100257"),
        ("G2", None, {"blank_token_id": 0}, "blank_token_id is 0"),
        ("G2", None, {"min_edit_sequence_length": 4}, "min_edit_sequence_length=4"),
        ("G2", None, {"scale_projected_embeddings": False}, "scale_projected_embeddings=False"),
        ("G2", None, {"encoder_layer_indices": [4, 8, 12, 15]}, "encoder_layer_indices is .* end with -1"),
        ("G2", None, {"encoder_layer_indices": [8, 4, 12, -1]}, "must rise within"),
        ("G2", None, {"encoder_layer_indices": [4, 8, -1]}, "num_encoder_layers is 4: .* need 3"),
        ("G2", "encoder_config", {"self_conditioning_layer": 17}, "self_conditioning_layer is 17"),
        ("G2", "encoder_config", {"attn_type": "full"}, "attn_type='full'"),
        ("G2", "projector_config", {"block_size": 16}, "block_size 16 is no multiple"),
        ("G2", "projector_config", {"num_heads": 30}, "cannot be split into 30 heads"),
        ("G2", "projector_config", {"encoder_dim": 512}, "encoder_dim is 512: .* need 1024"),
        ("G2", "projector_config", {"llm_dim": 1024}, "llm_dim is 1024: .* need 2048"),
        ("G3", "projector_config", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ("G3", "projector_config", {"num_key_value_heads": 8}, "as many key/value heads as heads, 32"),
        (
            "G3",
            "projector_config",
            {"intermediate_size": 5000},
            "intermediate_size is 5000: it must be a multiple of hidden_size, 2048",
        ),
        ("G3", "projector_config", {"intermediate_size": "4096"}, "'4096': it must be a multiple"),
        ("G3", "projector_config", {"hidden_size": 1024}, "hidden_size is 1024: .* need 2048"),
        ("G3", "projector_config", {"encoder_dim": 512}, "encoder_dim is 512: .* need 1024"),
        ("G3", "projector_config", {"dropout_prob": 0.1}, "dropout_prob is 0.1"),
        ("G3", "projector_config", {"mlp_bias": False}, "mlp_bias is False"),
        ("G3", "projector_config", {"mlp_ratio": 2}, "mixes two generations: mlp_ratio beside"),
        ("G3", "projector_config", {"block_size": 15}, "mixes two generations: block_size beside"),
        ("G3", "encoder_config", {"bpe_output_dim": 100352}, "mixes two generations: bpe_output_dim beside"),
        ("G3", None, {"encoder_layer_indices": [4, 8, 12, -1]}, "encoder_layer_indices="),
    ],
)
def test_what_a_nar_model_is_not_built_for_is_refused(
    generation: Generation, section: str | None, change: dict[str, Any], seen: str
) -> None:
    values = nar_file(generation)
    values |= {section: values[section] | change} if section else change
    with pytest.raises(ConfigError, match=seen):
        config_from_dict(values)


def test_the_layer_of_the_self_conditioning_is_the_middle_one_if_none_is_named() -> None:
    values = nar_file("G2")
    values["encoder_config"] = values["encoder_config"] | {"self_conditioning_layer": None, "num_layers": 14}
    config = config_from_dict(values)
    assert config.encoder_config.mid_layer == 7


def test_all_kinds_of_models_are_told_apart_by_their_type() -> None:
    assert config_from_dict(published()) == ModelConfig()
    with pytest.raises(ConfigError, match=r"'whisper': allowed are granite_speech, .*, granite_speech_nar"):
        config_from_dict(published() | {"model_type": "whisper"})
    with pytest.raises(ConfigError, match="a nar model's is one of nle, granite_speech_nar"):
        NarConfig.from_dict(published())
