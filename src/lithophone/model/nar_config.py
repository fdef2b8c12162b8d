"""Configuration of editing models (nar): three generations of `config.json` in one dataclass.

    G1  `nle`                 the first revision of granite-speech-4.1-2b-nar (7d20732), class NLENARDecoder
    G2  `granite_speech_nar`  its later revisions (99a4df9, a1e3416), class GraniteSpeechNarForASR
    G3  `granite_speech_nar`  the class proposed to `transformers` (pull request 46031), GraniteSpeechNarForCTC

Field names are G2's, defaults those of granite-speech-4.1-2b-nar. No release of `transformers` has these classes; keys
of G1 and G3 are those of public converters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from lithophone.errors import ConfigError
from lithophone.model.config import ARCHITECTURES, MODEL_TYPES, EncoderConfig, ModelConfig, ModelType, TextConfig
from lithophone.model.strict_config import DROPOUT, EPSILON, LAYERS, SIZE, Range, StrictConfig, section_of, shown

Generation = Literal["G1", "G2", "G3"]

NAR_MODEL_TYPES: dict[Generation, ModelType] = {
    "G1": "nle", "G2": "granite_speech_nar", "G3": "granite_speech_nar",
}  # fmt: skip
NAR_ARCHITECTURES: dict[Generation, str] = {
    "G1": "NLENARDecoder", "G2": "GraniteSpeechNarForASR", "G3": "GraniteSpeechNarForCTC",
}  # fmt: skip

MIN_EDIT_SEQUENCE_LENGTH = 8
"""Least number of slots of the language model."""

NATIVE_ENCODER = {"vocabulary_size": "bpe_output_dim", "pooling_window": "bpe_pooling_window"}
NATIVE_PROJECTOR = {
    "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers", "window_size": "block_size",
    "layer_norm_eps": "layernorm_eps", "attention_bias": "attn_bias", "intermediate_size": "mlp_ratio",
}  # fmt: skip
"""G3's keys -> ours; its last one counts channels."""


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig | NarConfig:
    """`config.json` of any supported model, by its `model_type`; ConfigError for others."""
    kind = values.get("model_type")
    if kind not in MODEL_TYPES:
        raise ConfigError(f"model_type is {shown(kind)}: allowed are {', '.join(MODEL_TYPES)}")
    return ModelConfig.from_dict(values) if kind in ARCHITECTURES else NarConfig.from_dict(values)


@dataclass(frozen=True)
class NarEncoderConfig(EncoderConfig):
    """`cat_hidden_layers` are `encoder_layer_indices` without the last one."""

    cat_hidden_layers: tuple[int, ...] = (4, 8, 12)
    bpe_output_dim: int = 100352
    bpe_pooling_window: int = 4
    self_conditioning_layer: int | None = None
    """1-based layer whose character posteriors are fed back; None is the middle one."""

    limits: ClassVar[Mapping[str, Range]] = {
        **EncoderConfig.limits, "bpe_output_dim": (0, SIZE[1]), "bpe_pooling_window": (1, 64),
        "self_conditioning_layer": LAYERS,
    }  # fmt: skip
    absent: ClassVar[Mapping[str, Any]] = {"bpe_output_dim": 0}
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "model_type": ("granite_speech_nar_encoder", "nle_encoder"), "attn_type": ("block",),
    }  # fmt: skip
    unused: ClassVar[frozenset[str]] = frozenset({"loss_lambda", "pred_dropout"})
    """Of the original training only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mid_layer <= self.num_layers:
            raise ConfigError(f"self_conditioning_layer is {self.mid_layer}: it must lie in 1..{self.num_layers}")

    @property
    def mid_layer(self) -> int:
        return self.num_layers // 2 if self.self_conditioning_layer is None else self.self_conditioning_layer

    def to_dict(self) -> dict[str, Any]:
        """The fields alone; their place in a file depends on the generation."""
        return dataclasses.asdict(self) | {"cat_hidden_layers": list(self.cat_hidden_layers)}


@dataclass(frozen=True)
class NarProjectorConfig(StrictConfig):
    """Window Q-Former without self-attention, over several encoder layers (`projector_config`)."""

    encoder_dim: int = 1024
    num_encoder_layers: int = 4
    hidden_size: int = 2048
    num_heads: int = 32
    num_layers: int = 2
    mlp_ratio: int = 2
    block_size: int = 15
    downsample_rate: int = 5
    llm_dim: int = 2048
    layernorm_eps: float = 1e-6
    attn_bias: bool = True
    mlp_bias: bool = True
    dropout_prob: float = 0.1

    section: ClassVar[str] = "projector_config"
    limits: ClassVar[Mapping[str, Range]] = {
        "encoder_dim": SIZE, "num_encoder_layers": LAYERS, "hidden_size": SIZE, "num_heads": SIZE,
        "num_layers": LAYERS, "mlp_ratio": (1, 64), "block_size": (1, 1000), "downsample_rate": (1, 1000),
        "llm_dim": SIZE, "layernorm_eps": EPSILON, "dropout_prob": DROPOUT,
    }  # fmt: skip
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "model_type": ("granite_speech_nar_projector", "nle_projector"), "hidden_act": ("silu",),
        "attention_dropout": (0.0,),
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block_size % self.downsample_rate:
            raise ConfigError(f"block_size {self.block_size} is no multiple of downsample_rate {self.downsample_rate}")
        if self.hidden_size % self.num_heads:
            raise ConfigError(f"hidden_size {self.hidden_size} cannot be split into {self.num_heads} heads")

    @property
    def num_queries(self) -> int:
        """Audio embeddings per window of `block_size` frames."""
        return self.block_size // self.downsample_rate


@dataclass(frozen=True)
class NarConfig(StrictConfig):
    """`config.json` of a nar model."""

    encoder_config: NarEncoderConfig = field(default_factory=NarEncoderConfig)
    projector_config: NarProjectorConfig = field(default_factory=NarProjectorConfig)
    text_config: TextConfig = field(default_factory=lambda: TextConfig(vocab_size=100352, tie_word_embeddings=True))
    generation: Generation = "G2"

    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "model_type": tuple(NAR_MODEL_TYPES.values()), "scale_projected_embeddings": (True,),
        "min_edit_sequence_length": (MIN_EDIT_SEQUENCE_LENGTH,),
    }  # fmt: skip
    unused: ClassVar[frozenset[str]] = frozenset(
        {
            "attn_implementation", "audio_token_id", "auto_map", "ce_loss_lambda", "ctc_tokenizer_config",
            "encoder_ctc_loss_lambda",
        }
    )  # fmt: skip
    """Runtime code, loss weights, an audio token that no prompt has, and the family's character table."""

    whole_frames: ClassVar[bool] = True
    """Whether the front end drops half a frame of samples at the end (`features.frame_count`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        labels, expected = self.encoder_config.bpe_output_dim, self.text_config.vocab_size + self.first_label
        if labels != expected:
            raise ConfigError(f"the BPE head has {labels} labels (bpe_output_dim), {self.generation} has {expected}")
        for name, seen, wanted in self._sizes():
            if seen != wanted:
                raise ConfigError(f"projector_config.{name} is {seen}: the parts it joins need {wanted}")

    def _sizes(self) -> list[tuple[str, float, float]]:
        """(name, value, required value) of projector sizes that neighbours or the generation determine."""
        encoder, projector = self.encoder_config, self.projector_config
        sizes: list[tuple[str, float, float]] = [
            ("encoder_dim", projector.encoder_dim, encoder.hidden_dim),
            ("num_encoder_layers", projector.num_encoder_layers, len(encoder.cat_hidden_layers) + 1),
            ("llm_dim", projector.llm_dim, self.text_config.hidden_size),
        ]
        native = [
            ("hidden_size", projector.hidden_size, projector.llm_dim),
            ("dropout_prob", projector.dropout_prob, 0),
            ("mlp_bias", projector.mlp_bias, True),
        ]
        return sizes + (native if self.generation == "G3" else [])

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NarConfig:
        values = dict(values)
        encoder, projector = _section(values, "encoder_config"), _section(values, "projector_config")
        generation = _generation(values, encoder)
        text_config = _text_config(values, _section(values, "llm_config" if generation == "G1" else "text_config"))
        for blank in (values.pop("blank_token_id", None), encoder.pop("blank_token_id", None)):
            if blank not in (None, text_config.eos_token_id):
                raise ConfigError(f"blank_token_id is {blank}: built is the end of text, {text_config.eos_token_id}")
        encoder_config = _encoder_config(values, encoder, generation)
        if generation == "G3":
            projector = _from_native(projector, encoder_config, text_config)
        parts = {"encoder_config": encoder_config, "projector_config": NarProjectorConfig.from_dict(projector)}
        return super().from_dict(values | parts | {"text_config": text_config, "generation": generation})

    def to_dict(self) -> dict[str, Any]:
        """`config.json` with the keys of its generation."""
        top = {
            "model_type": self.model_type, "architectures": [NAR_ARCHITECTURES[self.generation]],
            "tie_word_embeddings": self.text_config.tie_word_embeddings,
        }  # fmt: skip
        return top | (_to_g3(self) if self.generation == "G3" else _to_g1_or_g2(self))

    @property
    def model_type(self) -> ModelType:
        return NAR_MODEL_TYPES[self.generation]

    @property
    def variant(self) -> ModelType:
        """Its `model_type`: nar models take no prompt."""
        return self.model_type

    @property
    def window_size(self) -> int:
        """Frames that the projector reads at a time."""
        return self.projector_config.block_size

    @property
    def downsample_rate(self) -> int:
        """Frames per audio embedding; an incomplete group gives none."""
        return self.projector_config.downsample_rate

    @property
    def blank_token_id(self) -> int:
        """Content of empty slots, and the language model's output for deletion."""
        return self.text_config.eos_token_id

    @property
    def first_label(self) -> int:
        """The BPE head's label of token 0: G1 has a separate blank in front."""
        return 1 if self.generation == "G1" else 0

    @property
    def blank_label(self) -> int:
        """The BPE head's blank."""
        return 0 if self.generation == "G1" else self.blank_token_id

    @property
    def projector_norms_learn(self) -> bool:
        """Whether the projector's LayerNorms have weights; in G1 and G2 they are ones and zeros by report."""
        return self.generation != "G3"

    @property
    def editor_config(self) -> TextConfig:
        """The language model's configuration as run: G1 does not scale logits."""
        scaling = 1.0 if self.generation == "G1" else self.text_config.logits_scaling
        return dataclasses.replace(self.text_config, logits_scaling=scaling)


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Take a section out of the file."""
    section = section_of(values, name)
    del values[name]
    return section


def _generation(values: Mapping[str, Any], encoder: Mapping[str, Any]) -> Generation:
    if values.get("model_type") not in tuple(NAR_MODEL_TYPES.values()):
        allowed = ", ".join(dict.fromkeys(NAR_MODEL_TYPES.values()))
        raise ConfigError(f"model_type is {shown(values.get('model_type'))}: a nar model's is one of {allowed}")
    if values["model_type"] == "nle":
        return "G1"
    return "G3" if "vocabulary_size" in encoder else "G2"


def _text_config(values: dict[str, Any], section: dict[str, Any]) -> TextConfig:
    tied = values.pop("tie_word_embeddings", section.get("tie_word_embeddings", True))
    return TextConfig.from_dict(section | {"tie_word_embeddings": tied})


def _before_last(indices: object) -> list[int]:
    """`encoder_layer_indices` without the last one, which must be the last layer."""
    if not isinstance(indices, list) or indices[-1:] != [-1]:
        raise ConfigError(f"encoder_layer_indices is {shown(indices)}: it must rise and end with -1, the last layer")
    return indices[:-1]


def _renamed(section: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    foreign = sorted(set(section) & set(names.values()))
    if foreign:
        raise ConfigError(f"config.json mixes two generations: {', '.join(foreign)} beside {', '.join(names)}")
    return {names.get(key, key): value for key, value in section.items()}


def _encoder_config(values: dict[str, Any], section: dict[str, Any], generation: Generation) -> NarEncoderConfig:
    """The section, with what G1 and G2 have at the top level."""
    if generation == "G3":
        section = _renamed(section, NATIVE_ENCODER)
    elif "encoder_layer_indices" in values:
        section["cat_hidden_layers"] = _before_last(values.pop("encoder_layer_indices"))
    return NarEncoderConfig.from_dict(section)


def _from_native(
    section: Mapping[str, Any], encoder_config: NarEncoderConfig, text_config: TextConfig
) -> dict[str, Any]:
    """G3's projector section under G2's names; absent keys have the same defaults."""
    values = _renamed(section, NATIVE_PROJECTOR)
    default = NarProjectorConfig()
    heads, width = values.get("num_heads", default.num_heads), values.get("hidden_size", default.hidden_size)
    inner = values.get("mlp_ratio", default.mlp_ratio * default.hidden_size)
    if values.pop("num_key_value_heads", None) not in (None, heads):
        raise ConfigError(f"the projector is built for as many key/value heads as heads, {heads}")
    if type(inner) is not int or type(width) is not int or width < 1 or inner % width:
        sizes = f"intermediate_size is {shown(inner)}: it must be a multiple of hidden_size, {shown(width)}"
        raise ConfigError(f"projector_config.{sizes}")
    follows = {
        "encoder_dim": encoder_config.hidden_dim, "num_encoder_layers": len(encoder_config.cat_hidden_layers) + 1,
        "llm_dim": text_config.hidden_size, "dropout_prob": 0.0,
    }  # fmt: skip
    return follows | values | {"mlp_ratio": inner // width}


def _to_g1_or_g2(config: NarConfig) -> dict[str, Any]:
    """Joined layers are a key of the top level."""
    encoder = config.encoder_config.to_dict() | {"model_type": f"{config.model_type}_encoder"}
    projector = config.projector_config.to_dict() | {"model_type": f"{config.model_type}_projector"}
    text = config.text_config.to_dict()
    values = {
        "encoder_layer_indices": [*encoder.pop("cat_hidden_layers"), -1], "scale_projected_embeddings": True,
        "encoder_config": encoder, "projector_config": projector,
    }  # fmt: skip
    if config.generation == "G1":
        return values | {"llm_config": text}
    return values | {"text_config": text, "min_edit_sequence_length": MIN_EDIT_SEQUENCE_LENGTH} | _blank(config)


def _to_g3(config: NarConfig) -> dict[str, Any]:
    """Projector sizes that follow from others are omitted."""
    encoder = config.encoder_config.to_dict() | {"model_type": "granite_speech_nar_encoder"}
    ours = config.projector_config
    projector = {theirs: getattr(ours, name) for theirs, name in NATIVE_PROJECTOR.items()} | {
        "model_type": "granite_speech_nar_projector", "hidden_size": ours.hidden_size, "hidden_act": "silu",
        "intermediate_size": ours.mlp_ratio * ours.hidden_size, "downsample_rate": ours.downsample_rate,
    }  # fmt: skip
    return {
        "encoder_config": _renamed(encoder, {name: theirs for theirs, name in NATIVE_ENCODER.items()}),
        "projector_config": projector,
        "text_config": config.text_config.to_dict() | {"model_type": "granite_speech_nar_text"},
    } | _blank(config)


def _blank(config: NarConfig) -> dict[str, Any]:
    return {"blank_token_id": config.blank_token_id}
