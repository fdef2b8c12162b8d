"""Transcripts as files in a folder, one a format, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

from lithophone.files import write_changed
from lithophone.formats import DEFAULT_CUES, CueOptions, encode
from lithophone.transcript import Transcript


def output_path(folder: Path, name: PurePath, format: str) -> Path:
    """`folder/name.format`."""
    return folder / name.with_name(f"{name.name}.{format}")


def write_outputs(
    folder: Path,
    name: PurePath,
    formats: Sequence[str],
    transcript: Transcript,
    cues: CueOptions = DEFAULT_CUES,
    write: Callable[[Path, bytes], bool | None] = write_changed,
) -> list[Path]:
    """Write a file per format; those that `write` did not leave as they were. Raises OSError."""
    written = []
    for format in formats:
        path = output_path(folder, name, format)
        path.parent.mkdir(parents=True, exist_ok=True)
        if write(path, encode(format, transcript, cues, name.as_posix())) is not False:
            written.append(path)
    return written
