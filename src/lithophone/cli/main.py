"""The command `lithophone`, and settings of its process."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

import lithophone
from lithophone.cli.batch import batch
from lithophone.cli.detect_language import detect_language
from lithophone.cli.evaluate import evaluate
from lithophone.cli.hints import Command
from lithophone.cli.listen import listen
from lithophone.cli.models import models
from lithophone.cli.serve import serve
from lithophone.cli.terminal import escape_unprintable, stdout_errors
from lithophone.cli.threads import settle_waiting
from lithophone.cli.train import train
from lithophone.cli.transcribe import transcribe
from lithophone.memory import keep_freed_memory

COLLECTED_AT = 100_000
"""Objects between garbage collections; Python's 700 make a large manifest a third slower."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Command)(transcribe)
app.command(cls=Command)(batch)
app.command(cls=Command)(listen)
app.command(cls=Command)(evaluate)
app.command(cls=Command)(detect_language)
app.command(context_settings={"allow_interspersed_args": False})(train)
app.command(cls=Command)(serve)
app.command()(models)


def show_version(asked: bool) -> None:
    if asked:
        print(f"lithophone {lithophone.__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Speech to text with the Granite Speech models.

    Exit status: 0 all done, 1 a file or model failed, 2 wrong usage, 130 interrupted.
    """


def main() -> None:
    """Entry point of the command `lithophone`."""
    settle_waiting(*sys.argv[1:2])
    escape_unprintable()
    keep_freed_memory()
    gc.set_threshold(COLLECTED_AT)
    with stdout_errors():
        app()
