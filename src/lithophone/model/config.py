"""Configuration of a model: frozen dataclasses that mirror `config.json` of a Granite Speech checkpoint.

Field names are the checkpoint's, defaults those of granite-speech-4.1-2b.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from lithophone.errors import ConfigError
from lithophone.model.strict_config import (
    DROPOUT,
    EPSILON,
    LAYERS,
    MULTIPLIER,
    SIZE,
    Range,
    StrictConfig,
    section_of,
    shown,
)

ModelType = Literal["granite_speech", "granite_speech_plus", "granite_speech_nar", "nle"]
ARCHITECTURES = {
    "granite_speech": "GraniteSpeechForConditionalGeneration",
    "granite_speech_plus": "GraniteSpeechPlusForConditionalGeneration",
}
"""Models with prompts, and their classes in `transformers`; editing models: `model/nar_config.py`."""

Variant = Literal["granite_speech", "granite_speech_plus", "granite_speech_5"]
"""Prompt format: 3.3 to 4.1, plus, or granite-speech-5.0-2b."""
VARIANTS: tuple[Variant, ...] = ("granite_speech", "granite_speech_plus", "granite_speech_5")

MODEL_TYPES: tuple[ModelType, ...] = ("granite_speech", "granite_speech_plus", "granite_speech_nar", "nle")
"""Every `model_type` that is built."""

E = TypeVar("E", bound="EncoderConfig")


@dataclass(frozen=True)
class EncoderConfig(StrictConfig):
    """Conformer encoder with a character CTC head (`encoder_config`). Sizes in channels, context in 20 ms frames."""

    input_dim: int = 160
    hidden_dim: int = 1024
    num_layers: int = 16
    num_heads: int = 8
    dim_head: int = 128
    feedforward_mult: int = 4
    conv_kernel_size: int = 15
    conv_expansion_factor: int = 2
    context_size: int = 200
    max_pos_emb: int = 512
    output_dim: int = 348
    dropout: float = 0.1
    cat_hidden_layers: tuple[int, ...] = ()
    """1-based layers whose outputs are concatenated before the last one's (plus: `(3,)`).

    0 is the input of the first layer; the self-conditioning layer's output includes the feedback.
    """

    section: ClassVar[str] = "encoder_config"
    limits: ClassVar[Mapping[str, Range]] = {
        "input_dim": SIZE, "hidden_dim": SIZE, "num_layers": LAYERS, "num_heads": SIZE, "dim_head": SIZE,
        "feedforward_mult": (1, 64), "conv_kernel_size": (1, 1023), "conv_expansion_factor": (1, 64),
        "context_size": SIZE, "max_pos_emb": SIZE, "output_dim": (2, SIZE[1]), "dropout": DROPOUT,
    }  # fmt: skip
    absent: ClassVar[Mapping[str, Any]] = {"num_layers": 10, "output_dim": 42}
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "model_type": ("granite_speech_encoder", "granite_speech_plus_encoder"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        layers = self._joined_layers()
        object.__setattr__(self, "cat_hidden_layers", layers)
        if self.context_size > self.max_pos_emb:
            raise ConfigError(
                f"{self.place('context_size')} is {self.context_size}: it must lie in 1..max_pos_emb={self.max_pos_emb}"
            )
        if self.mid_layer < 1:
            raise ConfigError(
                f"{self.place('num_layers')} is {self.num_layers}: at least 2 are needed for a middle one"
            )
        if list(layers) != sorted(set(layers) & set(range(self.num_layers))):
            where = self.place("cat_hidden_layers")
            raise ConfigError(f"{where} is {shown(list(layers))}: it must rise within 0..{self.num_layers - 1}")

    def _joined_layers(self) -> tuple[int, ...]:
        layers: Any = self.cat_hidden_layers
        layers = () if layers is None else layers
        if not isinstance(layers, list | tuple) or any(type(layer) is not int for layer in layers):
            raise ConfigError(f"{self.place('cat_hidden_layers')} is {shown(layers)}: expected a list of numbers")
        return tuple(layers)

    @classmethod
    def from_dict(cls: type[E], values: Mapping[str, Any]) -> E:
        values = dict(values)
        if values.get("dim_head") is None:
            values.pop("dim_head", None)
            values |= _head_size(values.get("hidden_dim", cls.hidden_dim), values.get("num_heads", cls.num_heads))
        return super().from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """Without empty `cat_hidden_layers`, which the base reference ignores silently."""
        values = super().to_dict()
        layers = list(values.pop("cat_hidden_layers"))
        plus = {"model_type": "granite_speech_plus_encoder", "cat_hidden_layers": layers}
        return values | (plus if layers else {"model_type": "granite_speech_encoder"})

    @property
    def output_size(self) -> int:
        """Channels that reach the projector."""
        return self.hidden_dim * (1 + len(self.cat_hidden_layers))

    @property
    def mid_layer(self) -> int:
        """1-based layer whose character posteriors are fed back (self-conditioned CTC)."""
        return self.num_layers // 2


@dataclass(frozen=True)
class ProjectorConfig(StrictConfig):
    """Window Q-Former (`projector_config`, BLIP-2, queries only)."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_attention_heads: int = 16
    num_hidden_layers: int = 2
    encoder_hidden_size: int = 1024
    cross_attention_frequency: int = 1
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    attention_probs_dropout_prob: float = 0.1
    hidden_dropout_prob: float = 0.1

    section: ClassVar[str] = "projector_config"
    limits: ClassVar[Mapping[str, Range]] = {
        "hidden_size": SIZE, "intermediate_size": SIZE, "num_attention_heads": SIZE, "num_hidden_layers": LAYERS,
        "encoder_hidden_size": SIZE, "layer_norm_eps": EPSILON, "attention_probs_dropout_prob": DROPOUT,
        "hidden_dropout_prob": DROPOUT,
    }  # fmt: skip
    absent: ClassVar[Mapping[str, Any]] = {
        "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12,
        "encoder_hidden_size": 1408, "cross_attention_frequency": 2,
    }  # fmt: skip
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "model_type": ("blip_2_qformer",), "use_qformer_text_input": (False,),
    }  # fmt: skip
    unused: ClassVar[frozenset[str]] = frozenset(
        {"max_position_embeddings", "pad_token_id", "position_embedding_type", "vocab_size"}
    )
    """Queries are read without words and positions."""

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"model_type": "blip_2_qformer"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_act != "gelu" or self.cross_attention_frequency != 1:
            seen = f"hidden_act={shown(self.hidden_act)}, cross_attention_frequency={self.cross_attention_frequency}"
            raise ConfigError(f"projector_config: built are hidden_act='gelu', cross_attention_frequency=1, not {seen}")
        if self.hidden_size % self.num_attention_heads:
            heads = f"num_attention_heads={self.num_attention_heads}"
            raise ConfigError(f"projector_config.hidden_size is {self.hidden_size}: it must be a multiple of {heads}")


@dataclass(frozen=True)
class Yarn(StrictConfig):
    """Context extension by YaRN (arXiv 2309.00071): `rope_parameters` of `rope_type` "yarn" without `rope_theta`.

    Channels with more than `beta_fast` turns within the original positions keep their frequency, with fewer than
    `beta_slow` it is divided by `factor`; a linear ramp between.
    """

    factor: float = 4.0
    original_max_position_embeddings: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    """Multiplies cosines and sines; None stands for `1 + 0.1 ln(factor)`."""
    truncate: bool = True
    """Whether the ends of the ramp are rounded to whole channels."""

    section: ClassVar[str] = "text_config.rope_parameters"
    limits: ClassVar[Mapping[str, Range]] = {
        "factor": (1, 1024), "original_max_position_embeddings": SIZE, "beta_fast": MULTIPLIER,
        "beta_slow": MULTIPLIER, "attention_factor": MULTIPLIER,
    }  # fmt: skip
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "rope_type": ("yarn",), "type": ("yarn",), "mscale": (None,), "mscale_all_dim": (None,),
        "partial_rotary_factor": (1.0,),
    }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Yarn:
        missing = [key for key in ("factor", "original_max_position_embeddings") if key not in values]
        if missing:
            raise ConfigError(f"{cls.section} lacks {', '.join(missing)}, which rope_type 'yarn' needs")
        return super().from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        return {"rope_type": "yarn"} | {key: value for key, value in super().to_dict().items() if value is not None}

    @property
    def scale(self) -> float:
        """The factor on cosines and sines."""
        return 1.0 + 0.1 * math.log(self.factor) if self.attention_factor is None else self.attention_factor


@dataclass(frozen=True)
class TextConfig(StrictConfig):
    """Granite causal language model (`text_config`)."""

    vocab_size: int = 100353
    hidden_size: int = 2048
    intermediate_size: int = 4096
    num_hidden_layers: int = 40
    num_attention_heads: int = 16
    num_key_value_heads: int = 4
    max_position_embeddings: int = 4096
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    hidden_act: str = "silu"
    embedding_multiplier: float = 12.0
    attention_multiplier: float = 0.0078125
    residual_multiplier: float = 0.22
    logits_scaling: float = 8.0
    attention_dropout: float = 0.0
    attention_bias: bool = False
    """Of queries, keys, values and the output."""
    mlp_bias: bool = False
    head_dim: int | None = None
    """None: `hidden_size` divided by the heads. Read `head_size`."""
    tie_word_embeddings: bool = False
    bos_token_id: int = 100257
    eos_token_id: int = 100257
    pad_token_id: int | None = 100256
    yarn: Yarn | None = None
    """None: plain rotary positions. In the file these are `rope_parameters`."""

    section: ClassVar[str] = "text_config"
    limits: ClassVar[Mapping[str, Range]] = {
        "vocab_size": SIZE, "hidden_size": SIZE, "intermediate_size": SIZE, "num_hidden_layers": LAYERS,
        "num_attention_heads": SIZE, "num_key_value_heads": SIZE, "max_position_embeddings": SIZE, "head_dim": SIZE,
        "rope_theta": (1.001, 1e36), "rms_norm_eps": EPSILON, "embedding_multiplier": MULTIPLIER,
        "attention_multiplier": MULTIPLIER, "residual_multiplier": MULTIPLIER, "logits_scaling": MULTIPLIER,
        "attention_dropout": DROPOUT, "bos_token_id": (0, SIZE[1]), "eos_token_id": (0, SIZE[1]),
        "pad_token_id": (-1, SIZE[1]),
    }  # fmt: skip
    absent: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "embedding_multiplier": 1.0,
        "attention_multiplier": 1.0, "residual_multiplier": 1.0, "logits_scaling": 1.0, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": None,
    }  # fmt: skip
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "pretraining_tp": (1,), "model_type": ("granite", "granite_speech_nar_text"),
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_act != "silu":
            raise ConfigError(f"text_config.hidden_act is {shown(self.hidden_act)}: only 'silu' is built")
        split = self.hidden_size % self.num_attention_heads == 0 or self.head_dim is not None
        if not split or self.head_size % 2 or self.num_attention_heads % self.num_key_value_heads:
            heads = f"{self.num_attention_heads} heads of even size and {self.num_key_value_heads} key/value heads"
            size = "" if self.head_dim is None else f" (head_dim {self.head_dim})"
            raise ConfigError(f"text_config.hidden_size {self.hidden_size}{size} cannot be split into {heads}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TextConfig:
        values = dict(values)
        rope = _rope_parameters(values)
        values["rope_theta"] = rope.pop("rope_theta", values.get("rope_theta", cls.rope_theta))
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind == "yarn":
            values["yarn"] = Yarn.from_dict(rope)
        elif kind != "default" or set(rope) - {"rope_type", "type"}:
            raise ConfigError(
                f"text_config.rope_parameters is {shown(rope)}: built are rope_type 'default', which takes rope_theta "
                "alone, and 'yarn'"
            )
        if values.get("num_key_value_heads") is None:
            values["num_key_value_heads"] = values.get("num_attention_heads", cls.absent["num_attention_heads"])
        return super().from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """The rotary base is written in both places where versions of `transformers` look.

        Without a `head_dim` of None, which `transformers` takes for a size.
        """
        values = super().to_dict()
        del values["yarn"]
        if self.head_dim is None:
            del values["head_dim"]
        rope = {"rope_type": "default"} if self.yarn is None else self.yarn.to_dict()
        return values | {"model_type": "granite", "rope_parameters": rope | {"rope_theta": self.rope_theta}}

    @property
    def head_size(self) -> int:
        """Channels of a head."""
        return self.hidden_size // self.num_attention_heads if self.head_dim is None else self.head_dim


@dataclass(frozen=True)
class ModelConfig(StrictConfig):
    """`config.json` of a base or plus model."""

    encoder_config: EncoderConfig = field(default_factory=EncoderConfig)
    projector_config: ProjectorConfig = field(default_factory=ProjectorConfig)
    text_config: TextConfig = field(default_factory=TextConfig)
    model_type: ModelType = "granite_speech"
    audio_token_index: int = 100352
    downsample_rate: int = 5
    window_size: int = 15
    has_lora_adapter: bool = False
    tie_word_embeddings: bool = False
    """Equals `text_config.tie_word_embeddings`."""

    limits: ClassVar[Mapping[str, Range]] = {
        "audio_token_index": (0, SIZE[1]), "downsample_rate": (1, 1000), "window_size": (1, 1000),
    }  # fmt: skip
    absent: ClassVar[Mapping[str, Any]] = {"audio_token_index": 49155, "has_lora_adapter": True}
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {"pad_token_id": (None,)}
    whole_frames: ClassVar[bool] = False
    """Whether its front end drops the samples of half a frame at the end (`features.frame_count`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tie_word_embeddings != self.text_config.tie_word_embeddings:
            raise ConfigError("tie_word_embeddings differs between the model and its text_config")
        if self.encoder_config.cat_hidden_layers and self.model_type != "granite_speech_plus":
            raise ConfigError(f"cat_hidden_layers go with model_type 'granite_speech_plus', not {self.model_type!r}")
        if self.window_size % self.downsample_rate:
            raise ConfigError(
                f"window_size {self.window_size} is no multiple of downsample_rate {self.downsample_rate}"
            )
        wide, got = self.encoder_config.output_size, self.projector_config.encoder_hidden_size
        if wide != got:
            raise ConfigError(f"the encoder gives {wide} channels, the projector expects encoder_hidden_size={got}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        values = dict(values)
        if values.get("model_type") not in tuple(ARCHITECTURES):
            kind = shown(values.get("model_type"))
            raise ConfigError(f"model_type is {kind}: allowed are {', '.join(ARCHITECTURES)}")
        values |= {name: section_of(values, name) for name in SECTIONS}
        tied = values.get("tie_word_embeddings", values["text_config"].get("tie_word_embeddings", True))
        values["text_config"] = {**values["text_config"], "tie_word_embeddings": tied}
        values |= {name: part.from_dict(values[name]) for name, part in SECTIONS.items()}
        values["tie_word_embeddings"] = tied
        if "audio_token_id" in values:
            values["audio_token_index"] = values.pop("audio_token_id")
        return super().from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """`config.json` as `transformers` reads it."""
        sections = {name: getattr(self, name).to_dict() for name in SECTIONS}
        if self.model_type == "granite_speech_plus":
            sections["encoder_config"]["model_type"] = "granite_speech_plus_encoder"
        return super().to_dict() | sections | {"architectures": [ARCHITECTURES[self.model_type]]}

    @property
    def num_queries(self) -> int:
        """Audio embeddings per window of `window_size` frames."""
        return self.window_size // self.downsample_rate

    @property
    def variant(self) -> Variant:
        """Selects the prompts.

        granite-speech-5.0-2b has the `model_type` and class of 4.1-2b, but is the only base model with YaRN.
        """
        if self.model_type == "granite_speech_plus":
            return "granite_speech_plus"
        return "granite_speech" if self.text_config.yarn is None else "granite_speech_5"


SECTIONS: dict[str, type[StrictConfig]] = {
    "encoder_config": EncoderConfig, "projector_config": ProjectorConfig, "text_config": TextConfig,
}  # fmt: skip


def _rope_parameters(values: dict[str, Any]) -> dict[str, Any]:
    """Rotary parameters of a section, under the name of `transformers` 5, the older one, or both."""
    joined: dict[str, Any] = {}
    for name in ("rope_parameters", "rope_scaling"):
        given = values.pop(name, None)
        if given is not None and not isinstance(given, Mapping):
            raise ConfigError(f"text_config.{name} is {shown(given)}: expected an object")
        if any(joined.get(key, value) != value for key, value in (given or {}).items()):
            raise ConfigError(
                f"text_config.rope_scaling is {shown(given)}, and rope_parameters say otherwise: {joined}"
            )
        joined |= given or {}
    return joined


def _head_size(channels: object, heads: object) -> dict[str, int]:
    """`dim_head` where a file omits it; nothing where the two are no sizes, which their own checks report."""
    sizes = type(channels) is int and type(heads) is int and heads > 0
    return {"dim_head": channels // heads} if sizes else {}  # type: ignore[operator]
