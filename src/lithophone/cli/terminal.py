"""Shared by all commands: stdout, stderr, exit statuses, options."""

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

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE", help="Audio or video files, folders or patterns; - is standard input."),
]
FromList = Annotated[
    str | None,
    typer.Option("--from-list", metavar="FILE", help="Text with a file, folder or pattern a line; - is a pipe."),
]
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
    """Stdout cannot be written; the command ends."""


class UnprintableTextError(LithophoneError):
    """Text that stdout cannot encode, printed with escapes."""


def can_print(text: str) -> bool:
    """Whether stdout can encode the text."""
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def print_text(text: str, exact: bool = True) -> None:
    """Write and flush text to stdout, with escapes such as `\\u65e5` where it cannot be encoded.

    Raises UnprintableTextError after printing escapes where `exact`; StdoutError where stdout cannot be written.
    """
    shown = text.encode(_encoding(), "backslashreplace").decode(_encoding())
    try:
        sys.stdout.write(shown)
        sys.stdout.flush()
    except OSError as error:
        raise _stdout_error(error) from error
    if exact and not can_print(text):
        raise UnprintableTextError(
            f"stdout has the encoding {_encoding()}, which lacks characters of the text: they were printed as escapes; "
            "set PYTHONIOENCODING=utf-8, or write files with --output-dir"
        )


def escape_unprintable() -> None:
    """Let stdout escape what it cannot encode."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def stdout_errors() -> Iterator[None]:
    """Message and exit status 1 where stdout cannot be written, by whoever writes and however late."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        found = _stdout_error(error)
        if isinstance(found, StdoutError):
            say_error(found)
        raise SystemExit(FAILED) from error


def _stdout_error(error: OSError) -> OSError | StdoutError:
    """The error to raise; of a closed pipe the same, with which typer exits with status 1."""
    _silence_stdout()
    if error.errno == errno.EPIPE:
        return error
    return StdoutError(f"stdout cannot be written ({error.strerror or error})")


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _silence_stdout() -> None:
    """Prevent a second error when Python flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stderr() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_table(table: Table) -> None:
    """Print a table to stdout, unwrapped where it is no terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = Measurement.get(console, console.options.update(max_width=UNBOUNDED), table).maximum
    with console.capture() as shown:
        console.print(table)
    print_text(shown.get(), exact=False)


def say(message: str, label: str = "", style: str = "") -> None:
    """Print a line to stderr, without markup."""
    console = stderr()
    if label:
        console.print(f"{label}: ", style=style, end="", markup=False)
    console.print(message, markup=False)


def say_error(message: object) -> None:
    say(str(message), "error", "bold red")


def say_warning(message: str) -> None:
    say(message, "warning", "yellow")


def with_exit_status(command: Callable[P, None]) -> Callable[P, None]:
    """Errors -> message and exit status: 1 failed, 2 wrong usage, 130 interrupted.

    OSError counts as failed; only bugs show a traceback.
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
    """Missing package -> OptionError that names the `extra` to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise OptionError(
            f"{error.name} is missing: pip install 'lithophone[{extra}]', or {error.name} where that does not bring it"
        ) from error
