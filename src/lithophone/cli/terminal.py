"""What all commands share: text on stdout, messages on stderr, exit statuses, common options."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
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
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, help="CPU threads (default: OMP_NUM_THREADS, else every core; transcribe takes one for a small model)."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]


class StdoutError(LithophoneError):
    """Stdout takes no more text, as on a full disk: no command goes on after it."""


class UnprintableTextError(LithophoneError):
    """Text with characters that the encoding of stdout does not have; it was printed with escapes for them."""


def can_print(text: str) -> bool:
    """Whether the encoding of stdout has all characters of the text."""
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def print_text(text: str, exact: bool = True) -> None:
    """Write text to stdout at once; characters that its encoding does not have become escapes such as `\\u65e5`.

    Raises UnprintableTextError for such characters, after printing, where the text has to be exact; StdoutError where
    stdout cannot be written.
    """
    shown = text.encode(_encoding(), "backslashreplace").decode(_encoding())
    try:
        sys.stdout.write(shown)
        sys.stdout.flush()
    except OSError as error:
        _silence_stdout()
        if error.errno == errno.EPIPE:  # the reader has gone: typer ends the command with status 1
            raise
        raise StdoutError(f"stdout cannot be written ({error.strerror or error})") from error
    if exact and not can_print(text):
        raise UnprintableTextError(
            f"stdout has the encoding {_encoding()}, which lacks characters of the text: they were printed as escapes; "
            "set PYTHONIOENCODING=utf-8, or write files with --output-dir"
        )


def escape_unprintable() -> None:
    """Let stdout write escapes for characters that its encoding does not have, in place of an error."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _silence_stdout() -> None:
    """Spare Python a second failure when it empties its buffers at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stderr() -> Console:
    """The console of everything that is not the result."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_table(table: Table) -> None:
    """Print a table to stdout, as wide as its cells where stdout is no terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = Measurement.get(console, console.options.update(max_width=UNBOUNDED), table).maximum
    console.print(table)


def say(message: str, label: str = "", style: str = "") -> None:
    """Print a line to stderr; brackets in a message are no markup."""
    console = stderr()
    if label:
        console.print(f"{label}: ", style=style, end="", markup=False)
    console.print(message, markup=False)


def say_error(message: object) -> None:
    say(str(message), "error", "bold red")


def say_warning(message: str) -> None:
    say(message, "warning", "yellow")


def with_exit_status(command: Callable[P, None]) -> Callable[P, None]:
    """Turn errors into a message and an exit status: 1 failed, 2 wrong usage, 130 interrupted.

    An error of the system (disk, permission) is a failure like ours; only mistakes of the program show a traceback.
    """

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except LithophoneError as error:
            say_error(error)
            raise typer.Exit(WRONG_USAGE if isinstance(error, OptionError) else FAILED) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            say_error(error)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            say_error("interrupted")
            raise typer.Exit(INTERRUPTED) from error

    return guarded


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a missing package into an OptionError that names the extra which installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise OptionError(
            f"{error.name} is missing: pip install 'lithophone[{extra}]', or {error.name} where that does not bring it"
        ) from error
