"""Files that a batch wrote."""

from __future__ import annotations

from pathlib import Path


def outputs(folder: Path) -> dict[str, bytes]:
    """Content by path, also of partial files that a killed process left."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lithophone-batch.json"
    }
