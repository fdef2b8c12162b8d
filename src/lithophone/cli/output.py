"""Where transcripts go: lines on the terminal, or files that are either whole or not there."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lithophone.errors import OptionError
from lithophone.files import write_whole
from lithophone.formats import FORMATS, vtt_time
from lithophone.transcript import Segment, Transcript, Word

FILE_FORMATS = ("txt", "srt", "vtt", "tsv", "json")
"""Formats by the name that is also the file's ending."""


def chosen_formats(name: str) -> tuple[str, ...]:
    """The formats that `name` asks for, which may be `all`; OptionError for an unknown one."""
    if name == "all":
        return FILE_FORMATS
    if name not in FILE_FORMATS:
        raise OptionError(f"unknown output format {name!r}; allowed are {', '.join(FILE_FORMATS)} and all")
    return (name,)


def segment_line(segment: Segment) -> str:
    """`[00:00.000 --> 00:05.000] text`."""
    speaker = "" if segment.speaker is None else f"[{segment.speaker}]: "
    text = " ".join(segment.text.split())  # one line, whatever the model wrote
    return f"[{vtt_time(segment.start_s)} --> {vtt_time(segment.end_s)}] {speaker}{text}"


def word_line(word: Word) -> str:
    """`    [00:00.320 --> 00:00.540] text`, to stand below its segment."""
    return f"    [{vtt_time(word.start_s)} --> {vtt_time(word.end_s)}] {word.text}"


def prepare_folder(folder: Path, sources: Sequence[Path]) -> None:
    """Make the folder and try to write into it, before any work is done.

    Raises OptionError where that fails, or where two sources would be written to the same file.
    """
    twice = [stem for stem, count in Counter(source.stem for source in sources).items() if count > 1]
    if twice:
        clash = ", ".join(str(source) for source in sources if source.stem == twice[0])
        raise OptionError(f"{clash} would be written to the same file in {folder}: use one folder for each")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OptionError(f"cannot write into {folder}: {error.strerror or error}; choose another folder") from error


def write_files(transcript: Transcript, folder: Path, stem: str, formats: Sequence[str]) -> None:
    """One file per format."""
    for name in formats:
        write_whole(folder / f"{stem}.{name}", FORMATS[name](transcript))
