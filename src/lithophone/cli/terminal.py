"""What all commands share: messages on stderr, exit statuses, options that mean the same everywhere."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Annotated, ParamSpec

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from lithophone.errors import LithophoneError, OptionError

P = ParamSpec("P")

UNBOUNDED = 10_000
"""Columns, more than any table has."""

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

Model = Annotated[str, typer.Option(help="Name of a model, or its folder (`lithophone models` lists names).")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... (default: the GPU where there is one)")]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16, float16, int8 (default: bfloat16 on a GPU; else int8 for large models, or float32)"
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]


def stderr() -> Console:
    """Where everything goes that is not the result."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_table(table: Table) -> None:
    """A table on stdout; where no terminal bounds it, as wide as its cells."""
    console = Console()
    if not console.is_terminal:
        console.width = Measurement.get(console, console.options.update(max_width=UNBOUNDED), table).maximum
    console.print(table)


def say(message: str, label: str = "", style: str = "") -> None:
    """A line on stderr, as it is: brackets in a message are no markup."""
    console = stderr()
    if label:
        console.print(f"{label}: ", style=style, end="", markup=False)
    console.print(message, markup=False)


def say_error(message: object) -> None:
    say(str(message), "error", "bold red")


def say_warning(message: str) -> None:
    say(message, "warning", "yellow")


def with_exit_status(command: Callable[P, None]) -> Callable[P, None]:
    """Turn errors into a message and an exit status: 1 failed, 2 wrong usage, 130 interrupted."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except LithophoneError as error:
            say_error(error)
            raise typer.Exit(WRONG_USAGE if isinstance(error, OptionError) else FAILED) from error
        except KeyboardInterrupt as error:
            say_error("interrupted")
            raise typer.Exit(INTERRUPTED) from error

    return guarded


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """What a command needs and is not installed is told with the extra of the package that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise OptionError(
            f"{error.name} is missing: pip install 'lithophone[{extra}]', or {error.name} where that does not bring it"
        ) from error
