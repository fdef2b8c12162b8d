"""JSON and text files of a checkpoint, read as untrusted input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lithophone.errors import CheckpointError

MAX_BYTES = 100_000_000
"""Largest file read: ten times the family's largest tokenizer."""
MAX_DEPTH = 32


def is_file(path: Path) -> bool:
    """False for names that no file can have; CheckpointError without permission to look."""
    try:
        return path.is_file()
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be looked at: {error.strerror}") from error
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """A UTF-8 file; CheckpointError where it is missing, too large, unreadable or not UTF-8."""
    if not is_file(path):
        raise CheckpointError(f"{path.parent} has no {path.name}")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CheckpointError(f"{path} has {size} bytes: at most {MAX_BYTES} are read")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; CheckpointError where it is missing or holds none."""
    text = read_text(path)
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    except RecursionError:
        raise CheckpointError(f"{path} is nested too deep for JSON to be read") from None
    if _is_deep(values):
        raise CheckpointError(f"{path} is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}, not a JSON object")
    return values


def _is_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [part for whole in level for part in _parts(whole)]
    return bool(level)


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
