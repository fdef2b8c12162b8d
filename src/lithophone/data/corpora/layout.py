"""Parts, tables and file search for the readers of public sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lithophone.data.manifest import Entry, parsed_lines
from lithophone.errors import ManifestError


@dataclass(frozen=True)
class Part:
    """A split in one language; `read` gives entries without `corpus`, in the set's order."""

    split: str
    lang: str
    read: Callable[[], Iterable[Entry]]


Reader = Callable[[Path], list[Part]]
"""Folder -> its parts. Raises ManifestError, with what was expected, if there are none."""


def folders_with(folder: Path, pattern: str, depth: int) -> list[Path]:
    """Folders that match `pattern`, sorted: the folder, else the first level below with any, to `depth`.

    No deeper than needed: clip folders have a million files.
    """
    level = [folder]
    for _ in range(depth + 1):
        found = [path for path in level if next(path.glob(pattern), None)]
        if found:
            return found
        level = sorted(path for parent in level for path in parent.glob("*") if path.is_dir())
    return []


def not_the_set(folder: Path, wanted: str) -> ManifestError:
    """Error for a folder without `wanted`."""
    if not folder.is_dir():
        return ManifestError(f"there is no folder {folder}")
    seen = sorted(path.name for path in folder.iterdir())[:5]
    return ManifestError(f"{folder} has no {wanted}; it has {', '.join(seen) or 'nothing'}: give the unpacked folder")


def first_file(*candidates: Path) -> Path:
    """The first that exists, else the first, to be named in an error."""
    return next((path for path in candidates if path.is_file()), candidates[0])


def table(
    path: Path, columns: Sequence[str], delimiter: str = "\t", header: Sequence[str] | None = None
) -> Iterator[tuple[str, ...]]:
    """Columns of a table without quoting, row by row.

    header: all column names, if not in the first line.

    Raises ManifestError for missing columns and, with the line number, short rows.
    """
    names = list(header or ())
    places: list[int] = []

    def parse(line: str) -> tuple[str, ...] | None:
        fields = line.rstrip("\r").split(delimiter)
        is_header = not names
        names.extend(fields if is_header else ())
        if not places:
            places.extend(_places(columns, names))
        if is_header:
            return None
        if len(fields) <= max(places):
            raise ManifestError(f"{len(fields)} fields where there must be {len(names)}: {', '.join(names)}")
        return tuple(fields[place] for place in places)

    return (row for _, row in parsed_lines(path, parse) if row is not None)


def _places(columns: Sequence[str], names: Sequence[str]) -> list[int]:
    missing = [column for column in columns if column not in names]
    if missing:
        raise ManifestError(f"the columns are {', '.join(names)}: {', '.join(missing)} must be there")
    return [names.index(column) for column in columns]
