"""The systems of an evaluation: models with options, and files of hypotheses."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from lithophone.errors import OptionError
from lithophone.pipeline.options import TranscribeOptions

BIAS = "bias"
"""Whether the clip's keywords are in its prompt; not a field of TranscribeOptions."""

TRUTHS = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True)
class Plan:
    name: str
    model: str
    options: TranscribeOptions
    biased: bool

    @property
    def about(self) -> dict[str, Any]:
        """The model, and options that differ from their defaults."""
        changed = {
            field.name: getattr(self.options, field.name)
            for field in dataclasses.fields(TranscribeOptions)
            if getattr(self.options, field.name) != field.default
        }
        return {"model": self.model, **changed, **({BIAS: True} if self.biased else {})}


@dataclass(frozen=True)
class Source:
    name: str
    path: Path
    speakers: Path | None = None
    """A file of turns, for words without speakers."""

    @property
    def about(self) -> dict[str, Any]:
        return {"file": self.path, **({} if self.speakers is None else {"speakers": self.speakers})}


def plans_of(models: Sequence[str], also: Sequence[str], options: TranscribeOptions, biased: bool) -> list[Plan]:
    """Every model with `options`, and with each of the changes `also` (`decode=beam num_beams=4`)."""
    plans = []
    for model in models:
        plans.append(Plan(model, model, options, biased))
        for change in also:
            values = changes_of(change)
            is_biased = values.pop(BIAS, biased)
            plans.append(Plan(f"{model} {change}", model, dataclasses.replace(options, **values), is_biased))
    return plans


def changes_of(text: str) -> dict[str, Any]:
    """`decode=ctc punctuate=no` -> values by option name. Raises OptionError for an unknown name or bad value."""
    kinds = {**get_type_hints(TranscribeOptions), BIAS: bool}
    found: dict[str, Any] = {}
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise OptionError(f"--also {text!r} cannot be split: {error}; close every quotation mark") from error
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or name not in kinds:
            raise OptionError(f"--also {text!r}: {part!r} is not NAME=VALUE with one of {', '.join(kinds)}")
        found[name] = _value(part, value, kinds[name])
    return found


def sources_of(given: Sequence[str], speakers: Sequence[str]) -> list[Source]:
    """`NAME=FILE`, or a file whose stem is the system's name.

    `speakers` are files of turns in the same form; a single one without a name belongs to a single system. Raises
    OptionError for the name of no system.
    """
    sources = [_source(text) for text in given]
    turns = {source.name: source.path for source in map(_source, speakers)}
    if len(sources) == len(turns) == 1 and not set(turns) & {sources[0].name}:
        turns = dict(zip([sources[0].name], turns.values(), strict=True))
    unknown = sorted(set(turns) - {source.name for source in sources})
    if unknown:
        names = ", ".join(source.name for source in sources) or "no hypotheses"
        raise OptionError(f"--speakers {', '.join(unknown)}: there is no system of that name, only {names}")
    return [dataclasses.replace(source, speakers=turns.get(source.name)) for source in sources]


def check_names(names: Sequence[str]) -> None:
    """Raises OptionError where two systems share a name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError(f"two systems are called {', '.join(twice)}: give names, as in --hypotheses NAME=FILE")


def _source(text: str) -> Source:
    name, equals, path = text.partition("=")
    if equals and not Path(text).exists():
        return Source(name, Path(path))
    return Source(Path(text).stem, Path(text))


def _value(part: str, value: str, kind: Any) -> Any:
    kinds = get_args(kind) or (kind,)
    if value == "none" and type(None) in kinds:
        return None
    if tuple in kinds or str(kind).startswith("tuple"):
        return tuple(value.split(","))
    if bool in kinds:
        if value not in TRUTHS:
            raise OptionError(f"--also {part!r}: {value!r} must be one of {', '.join(TRUTHS)}")
        return TRUTHS[value]
    for number in (int, float):
        if number in kinds:
            try:
                return number(value)
            except ValueError as error:
                raise OptionError(f"--also {part!r}: {value!r} is no {number.__name__}") from error
    return value
