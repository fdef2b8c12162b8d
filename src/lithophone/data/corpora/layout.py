"""Shared by the readers of public sets: parts of a set, tables, and the search for folders and files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lithophone.data.manifest import Entry, parsed_lines
from lithophone.errors import ManifestError


@dataclass(frozen=True)
class Part:
    """One split of a set in one language; `read` gives its entries, without `corpus`, in the set's own order."""

    split: str
    lang: str
    read: Callable[[], Iterable[Entry]]


Reader = Callable[[Path], list[Part]]
"""Folder -> the parts that are there; ManifestError, saying what was looked for, where there is none."""


def folders_with(folder: Path, pattern: str, depth: int) -> list[Path]:
    """Folders in which `pattern` finds something, sorted: the folder itself, else all of the next level that has any.

    Looks at most `depth` levels down, and no deeper than it must: folders of clips have a million files.
    """
    level = [folder]
    for _ in range(depth + 1):
        found = [path for path in level if next(path.glob(pattern), None)]
        if found:
            return found
        level = sorted(path for parent in level for path in parent.glob("*") if path.is_dir())
    return []


def not_the_set(folder: Path, wanted: str) -> ManifestError:
    """The error where a folder is not what it should be."""
    if not folder.is_dir():
        return ManifestError(f"there is no folder {folder}")
    seen = sorted(path.name for path in folder.iterdir())[:5]
    return ManifestError(f"{folder} has no {wanted}; it has {', '.join(seen) or 'nothing'}: give the unpacked folder")


def first_file(*candidates: Path) -> Path:
    """The first that is there; the first of all where none is, for the error to name."""
    return next((path for path in candidates if path.is_file()), candidates[0])


def table(
    path: Path, columns: Sequence[str], delimiter: str = "\t", header: Sequence[str] | None = None
) -> Iterator[tuple[str, ...]]:
    """The values of these columns of a table without quoting, row by row.

    header: names of all columns where the first line does not give them.

    Raises ManifestError for a column that is not there, and, with the line's number, for a row that ends before it.
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
