"""TranscribeOptions on the command line: an option a field, with the field's own name, default and help."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from lithophone.pipeline.options import TranscribeOptions

FLAGS = {"punctuate": "--punctuate/--raw", "word_timestamps": "--word-timestamps"}
"""Options that are on or off, and how they are written; the others are written as they are named."""

Command = Callable[..., None]


def takes_options(*left_out: str) -> Callable[[Command], Command]:
    """Give a command an option for every field but those left out; it gets them all together, as `options`."""
    fields = [field for field in dataclasses.fields(TranscribeOptions) if field.name not in left_out]

    def with_options(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "options"]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + [_parameter(f) for f in fields]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            chosen = {field.name: values.pop(field.name) for field in fields}
            command(options=options_from(chosen), **values)

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return with_options


def options_from(values: dict[str, Any]) -> TranscribeOptions:
    """Options as they come from a command line, where a list is words between commas."""
    if "keywords" in values:
        values = values | {"keywords": tuple(values["keywords"].split(","))}
    return TranscribeOptions(**values)


def _parameter(field: dataclasses.Field[Any]) -> inspect.Parameter:
    kind, default = get_type_hints(TranscribeOptions)[field.name], field.default
    if field.name == "keywords":
        kind, default = str, ",".join(field.default)  # type: ignore[arg-type]
    names = (FLAGS[field.name],) if field.name in FLAGS else ()
    annotation = Annotated[kind, typer.Option(*names, help=field.metadata["help"])]  # type: ignore[valid-type]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
