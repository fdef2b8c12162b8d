"""Base of the configurations: frozen dataclasses read from a JSON object, strictly.

Unknown keys raise; bookkeeping keys of `transformers` (dtype, version, task labels) are ignored by name. Every value
has a kind and a range.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from lithophone.errors import ConfigError

T = TypeVar("T", bound="StrictConfig")

Range = tuple[float, float]

MAX_SIZE = 2**20
"""Largest size (channels, labels, positions): ten times the family's."""
MAX_LAYERS = 512
SIZE: Range = (1, MAX_SIZE)
LAYERS: Range = (1, MAX_LAYERS)
EPSILON: Range = (1e-30, 1e-1)
DROPOUT: Range = (0.0, 1.0)
MULTIPLIER: Range = (1e-6, 1e6)

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
    "float | None": (float, int, type(None)),
}  # fmt: skip
"""JSON types by field annotation; fields with other annotations check themselves."""

SHOWN = 100
"""Most characters of a value in errors."""


@dataclass(frozen=True)
class StrictConfig:
    section: ClassVar[str] = ""
    """Path in `config.json`."""
    absent: ClassVar[Mapping[str, Any]] = {}
    """Values of absent keys where the defaults of `transformers` differ from ours."""
    inert: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Keys accepted only with these values; others would change the numbers."""
    unused: ClassVar[frozenset[str]] = frozenset()
    """Keys of parts that these models lack, ignored."""
    limits: ClassVar[Mapping[str, Range]] = {}
    """Range of numeric fields."""

    def __post_init__(self) -> None:
        for key, (least, greatest) in self.limits.items():
            value = getattr(self, key)
            if value is not None and not least <= value <= greatest:
                raise ConfigError(f"{self.place(key)} is {shown(value)}: it must lie in {least:g}..{greatest:g}")

    @classmethod
    def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
        """Raises ConfigError for an unknown key or a value that is not allowed."""
        known = {f.name: str(f.type) for f in dataclasses.fields(cls)}
        passed = BOOKKEEPING | cls.unused | set(known)
        unknown = [k for k, v in values.items() if k not in passed and v not in cls.inert.get(k, ())]
        if unknown:
            seen = ", ".join(f"{shown(k)[1:-1]}={shown(values[k])}" for k in sorted(unknown))
            raise ConfigError(f"{cls.section or 'config.json'} has {seen}: not understood; known are {_listed(cls)}")
        given = {k: v for k, v in {**cls.absent, **values}.items() if k in known}
        for key, value in given.items():
            _check_kind(cls.place(key), value, known[key])
        return cls(**given)

    @classmethod
    def place(cls, key: str) -> str:
        """`section.key`, as errors name it."""
        return f"{cls.section}.{key}" if cls.section else key

    def to_dict(self) -> dict[str, Any]:
        """The same as a section of `config.json`."""
        return dataclasses.asdict(self)


def section_of(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of the object under `name`; ConfigError where there is none."""
    if name not in values:
        raise ConfigError(f"config.json has no section {name!r}")
    if not isinstance(values[name], Mapping):
        raise ConfigError(f"{name} is {shown(values[name])}: expected an object")
    return dict(values[name])


def shown(value: object) -> str:
    """`repr` of a value from a file, shortened."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _listed(cls: type[StrictConfig]) -> str:
    more = [f"{key} ({' or '.join(map(repr, allowed))})" for key, allowed in cls.inert.items()]
    return ", ".join([*sorted(f.name for f in dataclasses.fields(cls)), *sorted(more)])


def _check_kind(where: str, value: Any, annotation: str) -> None:
    if annotation in KINDS and type(value) not in KINDS[annotation]:
        raise ConfigError(f"{where} is {shown(value)}: expected {annotation}")
