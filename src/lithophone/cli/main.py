"""`lithophone`: the commands, put together."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

import lithophone
from lithophone.cli.evaluate import evaluate
from lithophone.cli.models import models
from lithophone.cli.train import train
from lithophone.cli.transcribe import transcribe
from lithophone.runtime import keep_freed_memory

COLLECTED_AT = 100_000
"""New objects before Python looks for cycles: over a large manifest the usual 700 cost a quarter of the time."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(transcribe)
app.command()(evaluate)
app.command(context_settings={"allow_interspersed_args": False})(train)
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
    keep_freed_memory()
    gc.set_threshold(COLLECTED_AT)
    app()
