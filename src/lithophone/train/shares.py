"""Numbers by name on the command line: shares of tasks, weights of languages."""

from __future__ import annotations

from collections.abc import Iterable

from lithophone.errors import OptionError


def parse_shares(items: Iterable[str], syntax: str) -> dict[str, float]:
    """`["raw=0.3"]` -> `{"raw": 0.3}`. Raises OptionError with the `syntax` that was expected."""
    shares: dict[str, float] = {}
    for item in items:
        name, _, value = item.partition("=")
        try:
            shares[name] = float(value)
        except ValueError:
            raise OptionError(f"{item!r} is not {syntax}") from None
    return shares
