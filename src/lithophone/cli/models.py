"""`lithophone models`: bundled, cached and downloadable models."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from lithophone.cli import terminal
from lithophone.hub import KNOWN, bundled_models, cached_models


@terminal.with_exit_status
def models() -> None:
    """List models: those in the package, those in the cache, and those that can be downloaded."""
    table = Table("model", "state", "what it does, or where it is")
    for row in rows():
        table.add_row(*row)
    terminal.print_table(table)


def rows() -> Iterator[tuple[str, str, str]]:
    """Name, state, remark; a cached known model is one row."""
    cached = cached_models()
    yield from ((name, "bundled", str(folder)) for name, folder in bundled_models().items())
    yield from ((name, "cached", KNOWN.get(name, str(folder))) for name, folder in cached.items())
    yield from ((name, "known", about) for name, about in KNOWN.items() if name not in cached)
