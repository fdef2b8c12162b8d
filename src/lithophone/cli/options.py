"""Dataclasses as command options: one per field, with its name, default and help text."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

import typer

NAMES = {"punctuate": "--punctuate/--raw", "wyoming_port": "--wyoming"}
"""Options not named after their field."""

WORDS = tuple[str, ...]
"""Type of fields that are one comma-separated option."""

Command = Callable[..., None]


def takes(
    argument: str, kind: type[Any], *left_out: str, variables: Mapping[str, str] | None = None
) -> Callable[[Command], Command]:
    """Add an option for every field of the dataclass `kind` but those left out.

    The command gets the dataclass as `argument`. Help texts are in the fields' metadata. `variables` are environment
    variables by field, for options that are not given.
    """
    types = get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.name not in left_out]
    options = [_option(field, types[field.name], (variables or {}).get(field.name)) for field in fields]

    def with_options(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [p.replace(kind=p.KEYWORD_ONLY) for name, p in signature.parameters.items() if name != argument]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            chosen = {field.name: _value(values.pop(field.name), types[field.name]) for field in fields}
            command(**{argument: kind(**chosen)}, **values)

        run.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
        return run

    return with_options


def _option(field: dataclasses.Field[Any], kind: Any, variable: str | None) -> inspect.Parameter:
    names = [NAMES[field.name]] if field.name in NAMES else [f"--{field.name.replace('_', '-')}"] * (kind is bool)
    default = ",".join(field.default) if kind == WORDS else field.default  # type: ignore[arg-type]
    option = typer.Option(*names, help=field.metadata["help"], envvar=variable, show_envvar=False)
    annotation = Annotated[str if kind == WORDS else kind, option]  # type: ignore[valid-type]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _value(value: Any, kind: Any) -> Any:
    return tuple(value.split(",")) if kind == WORDS else value
