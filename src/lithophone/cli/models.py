"""`lithophone models`: bundled, cached and downloadable models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lithophone.cli import terminal
from lithophone.errors import LithophoneError
from lithophone.hub import BUNDLED, KNOWN, bundled_models, cached_models


@terminal.with_exit_status
def models(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also parameters, size, folder, and the dtype that is used here.")
    ] = False,
) -> None:
    """List models: those in the package, those in the cache, and those that can be downloaded."""
    if not verbose:
        terminal.print_table(_table(("model", "where", "what it does"), rows()))
        return
    terminal.print_table(_table(("model", "parameters", "MB", "dtype here", "folder"), detailed_rows()))
    terminal.print_text(f"int8 on this CPU: {int8_products()}\n")


def rows() -> Iterator[tuple[str, str, str]]:
    """Name, where it is, abilities; a cached known model is one row."""
    cached = cached_models()
    yield from ((name, "in the package", BUNDLED[name]) for name in bundled_models())
    yield from ((name, "in the cache", KNOWN.get(name, str(folder))) for name, folder in cached.items())
    yield from ((name, "to download", about) for name, about in KNOWN.items() if name not in cached)


def detailed_rows() -> Iterator[tuple[str, ...]]:
    """Name, parameters, megabytes of weights, default dtype and folder of the models on this machine."""
    for name, folder in {**bundled_models(), **cached_models()}.items():
        try:
            yield (name, *_details(folder), str(folder))
        except LithophoneError as error:  # an incomplete download
            yield name, "", "", str(error), str(folder)


def _details(folder: Path) -> tuple[str, str, str]:
    import math

    from lithophone.model.stored_tensors import stored_tensors, weight_files
    from lithophone.pipeline.transcriber import default_dtype
    from lithophone.runtime import torch_device

    files = weight_files(folder)
    parameters = sum(math.prod(stored.shape) for stored in stored_tensors(files).values())
    dtype = str(default_dtype(folder, torch_device(None))).removeprefix("torch.")
    return f"{parameters / 1e6:,.0f} M", f"{sum(file.stat().st_size for file in files) / 1e6:,.0f}", dtype


def int8_products() -> str:
    """How this CPU multiplies int8 weights."""
    from lithophone.model.int8_kernels import ACTIVATION_LEVELS, activation_levels

    levels = activation_levels()
    if levels is None:
        return "not exact, so that models load as floats"
    bits = f"exact, with activations of {levels.bit_length() + 1} bits"
    return bits if levels == ACTIVATION_LEVELS[0] else f"{bits}: it adds two products in 16 bits (no VNNI)"


def _table(headings: tuple[str, ...], cells: Iterator[tuple[str, ...]]) -> Table:
    table = Table(*headings)
    for row in cells:
        table.add_row(*row)
    return table
