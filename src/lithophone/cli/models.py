"""`lithophone models`: bundled, cached and downloadable models."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from lithophone.cli import terminal
from lithophone.hub import BUNDLED, KNOWN, bundled_models, cached_models


@terminal.with_exit_status
def models() -> None:
    """List models: those in the package, those in the cache, and those that can be downloaded."""
    table = Table("model", "where", "what it does")
    for row in rows():
        table.add_row(*row)
    terminal.print_table(table)


def rows() -> Iterator[tuple[str, str, str]]:
    """Name, where it is, abilities; a cached known model is one row."""
    cached = cached_models()
    yield from ((name, "in the package", BUNDLED[name]) for name in bundled_models())
    yield from ((name, "in the cache", KNOWN.get(name, str(folder))) for name, folder in cached.items())
    yield from ((name, "to download", about) for name, about in KNOWN.items() if name not in cached)
