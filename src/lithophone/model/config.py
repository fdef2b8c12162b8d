"""The shape of a model: frozen dataclasses that mirror `config.json` of a Granite Speech checkpoint.

Field names are the checkpoint's. `from_dict` is strict: a key that would change the numbers and is not understood here
raises, bookkeeping keys of `transformers` (dtype, version, task labels) are passed over by name. The defaults are those
of granite-speech-4.1-2b.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from lithophone.errors import ConfigError

ModelType = Literal["granite_speech", "granite_speech_plus", "granite_speech_nar", "nle"]
ARCHITECTURES = {
    "granite_speech": "GraniteSpeechForConditionalGeneration",
    "granite_speech_plus": "GraniteSpeechPlusForConditionalGeneration",
}
"""The models that take prompts, and their classes in `transformers`. The others edit: `model/nar_config.py`."""

T = TypeVar("T", bound="StrictConfig")
E = TypeVar("E", bound="EncoderConfig")

BOOKKEEPING = frozenset(
    {
        "_attn_implementation_autoset", "_name_or_path", "architectures", "chunk_size_feed_forward", "dtype",
        "id2label", "initializer_range", "is_decoder", "is_encoder_decoder", "label2id",
        "output_attentions", "output_hidden_states", "problem_type", "return_dict", "torch_dtype",
        "transformers_version", "use_cache",
    }
)  # fmt: skip

KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (float, int), "bool": (bool,), "str": (str,), "int | None": (int, type(None)),
}  # fmt: skip
"""What JSON may hold for a field, by the field's annotation; fields with other annotations check themselves."""


@dataclass(frozen=True)
class StrictConfig:
    """Base of the configurations: reads a mapping, refuses what it does not know."""

    absent: ClassVar[Mapping[str, Any]] = {}
    """What a file means that leaves the key out, where that is not our default: the default of `transformers`."""
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Keys that are understood only at the values given: any other value would change the numbers."""
    unused: ClassVar[frozenset[str]] = frozenset()
    """Keys of parts that these models do not have: their values change nothing."""

    @classmethod
    def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
        """Raises ConfigError for a key that is not understood, or a value of the wrong kind."""
        known = {f.name: str(f.type) for f in dataclasses.fields(cls)}
        passed = BOOKKEEPING | cls.unused | set(known)
        unknown = [k for k, v in values.items() if k not in passed and v not in cls.inert.get(k, ())]
        if unknown:
            seen = ", ".join(f"{k}={values[k]!r}" for k in sorted(unknown))
            raise ConfigError(f"{cls.__name__} does not understand {seen}; it knows {', '.join(sorted(known))}")
        given = {k: v for k, v in {**cls.absent, **values}.items() if k in known}
        for key, value in given.items():
            _check_kind(cls.__name__, key, value, known[key])
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """The same as a section of `config.json`."""
        return dataclasses.asdict(self)


def _check_kind(where: str, key: str, value: Any, annotation: str) -> None:
    if annotation in KINDS and type(value) not in KINDS[annotation]:
        raise ConfigError(f"{where}.{key} is {value!r}: expected {annotation}")


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
    """1-based layers whose outputs are joined, channel by channel, in front of the last one (plus: `(3,)`).

    0 is what the first layer reads; the layer of the self-conditioning gives its output with the feedback added.
    """

    absent: ClassVar[Mapping[str, Any]] = {"num_layers": 10, "output_dim": 42}
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "model_type": ("granite_speech_encoder", "granite_speech_plus_encoder"),
    }

    def __post_init__(self) -> None:
        layers = tuple(self.cat_hidden_layers or ())
        object.__setattr__(self, "cat_hidden_layers", layers)
        if not 0 < self.context_size <= self.max_pos_emb:
            raise ConfigError(f"context_size is {self.context_size}: it must lie in 1..max_pos_emb={self.max_pos_emb}")
        if list(layers) != sorted(set(layers) & set(range(self.num_layers))):
            raise ConfigError(f"cat_hidden_layers is {layers}: it must rise within 0..{self.num_layers - 1}")

    @classmethod
    def from_dict(cls: type[E], values: Mapping[str, Any]) -> E:
        values = dict(values)
        if values.get("dim_head") is None:
            values["dim_head"] = values.get("hidden_dim", cls.hidden_dim) // values.get("num_heads", cls.num_heads)
        return super().from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """`cat_hidden_layers` stands only in a plus model's file: the base reference would pass it over in silence."""
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
        if self.hidden_act != "gelu" or self.cross_attention_frequency != 1:
            seen = f"hidden_act={self.hidden_act!r}, cross_attention_frequency={self.cross_attention_frequency}"
            raise ConfigError(f"the projector is built for hidden_act='gelu', cross_attention_frequency=1, not {seen}")


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
    tie_word_embeddings: bool = False
    bos_token_id: int = 100257
    eos_token_id: int = 100257
    pad_token_id: int | None = 100256

    absent: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "embedding_multiplier": 1.0,
        "attention_multiplier": 1.0, "residual_multiplier": 1.0, "logits_scaling": 1.0, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": None,
    }  # fmt: skip
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "attention_bias": (False,), "mlp_bias": (False,), "pretraining_tp": (1,), "rope_scaling": (None,),
        "head_dim": (None,), "model_type": ("granite", "granite_speech_nar_text"),
    }  # fmt: skip

    def __post_init__(self) -> None:
        if self.hidden_act != "silu":
            raise ConfigError(f"hidden_act is {self.hidden_act!r}: only 'silu' is built")
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % self.num_key_value_heads:
            heads = f"{self.num_attention_heads} heads and {self.num_key_value_heads} key/value heads"
            raise ConfigError(f"hidden_size {self.hidden_size} cannot be split into {heads}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TextConfig:
        values = dict(values)
        rope = dict(values.pop("rope_parameters", None) or {})
        values["rope_theta"] = rope.pop("rope_theta", values.get("rope_theta", cls.rope_theta))
        if rope.pop("rope_type", "default") != "default" or rope:
            raise ConfigError(f"rope_parameters hold {rope or 'a rope_type'}: only rope_type 'default' is built")
        if values.get("num_key_value_heads") is None:
            values["num_key_value_heads"] = values.get("num_attention_heads", cls.absent["num_attention_heads"])
        return super().from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """The rotary base is written in both places where generations of `transformers` look for it."""
        rope = {"rope_type": "default", "rope_theta": self.rope_theta}
        return super().to_dict() | {"model_type": "granite", "rope_parameters": rope}

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True)
class ModelConfig(StrictConfig):
    """A whole Granite Speech model, `config.json` at the top level."""

    encoder_config: EncoderConfig = field(default_factory=EncoderConfig)
    projector_config: ProjectorConfig = field(default_factory=ProjectorConfig)
    text_config: TextConfig = field(default_factory=TextConfig)
    model_type: ModelType = "granite_speech"
    audio_token_index: int = 100352
    downsample_rate: int = 5
    window_size: int = 15
    has_lora_adapter: bool = False
    tie_word_embeddings: bool = False
    """The same as `text_config.tie_word_embeddings`: one head, two places in the file."""

    absent: ClassVar[Mapping[str, Any]] = {"audio_token_index": 49155, "has_lora_adapter": True}
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {"pad_token_id": (None,)}
    whole_frames: ClassVar[bool] = False
    """Whether its front end drops the samples of half a frame at the end (`features.frame_count`)."""

    def __post_init__(self) -> None:
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
        if values.get("model_type") not in ARCHITECTURES:
            raise ConfigError(f"model_type is {values.get('model_type')!r}: allowed are {', '.join(ARCHITECTURES)}")
        for name in SECTIONS:
            if not isinstance(values.get(name), Mapping):
                raise ConfigError(f"config.json has no section {name!r}")
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


SECTIONS: dict[str, type[StrictConfig]] = {
    "encoder_config": EncoderConfig, "projector_config": ProjectorConfig, "text_config": TextConfig,
}  # fmt: skip
