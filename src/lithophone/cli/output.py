"""Transcripts on stdout, or in files written atomically."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lithophone.cli import terminal
from lithophone.cli.sources import InputFile, Unreadable
from lithophone.errors import OptionError
from lithophone.files import check_writable
from lithophone.formats import (
    BINARY,
    DEFAULT_CUES,
    FILE_FORMATS,
    LISTS_RECORDINGS,
    SUBTITLES,
    WITH_WORDS,
    CueOptions,
    format_named,
    render,
    vtt_time,
)
from lithophone.formats.files import output_path, write_outputs
from lithophone.pipeline.options import TranscribeOptions
from lithophone.transcript import Segment, Transcript, Word

ALL = "all"
STDOUT = "-"


def chosen_formats(name: str) -> tuple[str, ...]:
    """Formats of a name or of `all`; OptionError for an unknown one."""
    return FILE_FORMATS if name == ALL else (format_named(name),)


def with_word_times(output_format: str | None, options: TranscribeOptions) -> TranscribeOptions:
    """The options, with word times where the format is made of them; OptionError for the ctm of a translation."""
    if output_format is None or not set(chosen_formats(output_format)) & set(WITH_WORDS):
        return options
    if options.task != "translate":
        return dataclasses.replace(options, word_timestamps=True)
    if output_format != ALL and format_named(output_format) == "ctm":
        raise OptionError("--output-format ctm is made of word times, which translations lack: choose vtt or TextGrid")
    return options


# --- sinks


@dataclass(frozen=True)
class Sink:
    """Takes the segments of a window, and transcripts; either may raise OSError."""

    window: Callable[[InputFile, Sequence[Segment]], None] = lambda file, segments: None
    recording: Callable[[InputFile, Transcript], None] = lambda file, transcript: None


def make_sink(
    output_dir: str,
    output_format: str | None,
    several: bool,
    cues: CueOptions = DEFAULT_CUES,
    on_written: Callable[[Path], None] = lambda path: None,
) -> Sink:
    """Sink for --output-dir and --output-format; OptionError where they conflict. Calls `on_written` for every file."""
    if output_dir != STDOUT:
        return Sink(recording=_files_in(Path(output_dir), chosen_formats(output_format or "txt"), cues, on_written))
    if output_format is None:
        return Sink(window=_lines(several))
    formats = chosen_formats(output_format)
    if len(formats) > 1:
        raise OptionError("--output-format all writes several files: name a folder with --output-dir")
    if formats[0] in BINARY:
        raise OptionError(f"--output-format {formats[0]} is no text: name a folder with --output-dir")
    return Sink(recording=_documents(formats[0], several, cues))


def check_cues(output_format: str | None, cues: CueOptions, timed: bool) -> None:
    """OptionError for cue options without effect."""
    if cues != DEFAULT_CUES and not set(chosen_formats(output_format or "txt")) & set(SUBTITLES):
        names = ", ".join(f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(cues))
        raise OptionError(f"{names} lay out subtitles: they need --output-format {' or '.join((*SUBTITLES, ALL))}")
    if cues.highlight_words and not timed:
        raise OptionError("--highlight-words needs --word-timestamps")


def _lines(several: bool) -> Callable[[InputFile, Sequence[Segment]], None]:
    """Segments as decoded, headed by their recording where there are several."""
    headed: list[InputFile] = []

    def window(file: InputFile, segments: Sequence[Segment]) -> None:
        if several and segments and file not in headed[-1:]:
            terminal.print_text(f"# {file.label}\n", exact=False)
            headed.append(file)
        if segments:
            terminal.print_text("".join(f"{line}\n" for segment in segments for line in segment_lines(segment)))

    return window


def _documents(format: str, several: bool, cues: CueOptions) -> Callable[[InputFile, Transcript], None]:
    """Transcripts; of several, JSON has the key `file`, other formats a heading, but for those that name it."""

    def recording(file: InputFile, transcript: Transcript) -> None:
        text = render(format, transcript, cues, recording_name(file))
        if format == "json":
            text = _json_document(text, {"file": file.label} if several else {})
        elif several and format not in LISTS_RECORDINGS:
            terminal.print_text(f"# {file.label}\n", exact=False)
        terminal.print_text(text if text.endswith("\n") else text + "\n")

    return recording


def _json_document(text: str, named: dict[str, str]) -> str:
    """One line of JSON, `named` first; escaped where stdout cannot encode it."""
    return json.dumps({**named, **json.loads(text)}, ensure_ascii=not terminal.can_print(text))


def _files_in(
    folder: Path, formats: Sequence[str], cues: CueOptions, on_written: Callable[[Path], None]
) -> Callable[[InputFile, Transcript], None]:
    """A file per format, written when the recording is done, unless it is there already."""

    def recording(file: InputFile, transcript: Transcript) -> None:
        for path in write_outputs(folder, file.output, formats, transcript, cues):
            on_written(path)

    return recording


# --- output paths


def recording_name(file: InputFile) -> str:
    """Name of the recording inside a file: that of its files, with subfolders."""
    return file.output.as_posix()


def check_outputs(
    output_dir: str, output_format: str | None, inputs: Sequence[InputFile]
) -> tuple[list[InputFile], list[Unreadable]]:
    """Recordings whose transcripts can be written, and the others; OptionError where the folder is not writable."""
    if output_dir == STDOUT:
        return list(inputs), []
    formats = chosen_formats(output_format or "txt")
    folder = Path(output_dir)
    check_writable(folder / "transcript.txt", "--output-dir")
    refused = {file: reason for file in inputs if (reason := _unwritable(folder, file, formats))}
    return [file for file in inputs if file not in refused], [Unreadable(f.label, r) for f, r in refused.items()]


def _unwritable(folder: Path, file: InputFile, formats: Sequence[str]) -> str | None:
    """Reason: a name that is too long, or a folder of that name."""
    for path in (output_path(folder, file.output, format) for format in formats):
        try:
            if path.is_dir():
                return f"cannot be written to {path}: a folder has that name"
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return f"cannot be written to {path} ({error.strerror}): rename the recording"
    return None


# --- lines


def segment_lines(segment: Segment) -> list[str]:
    """The segment's line, then its timed words."""
    return [segment_line(segment), *map(word_line, segment.words)]


def segment_line(segment: Segment) -> str:
    """`[00:00.000 --> 00:05.000] text`."""
    speaker = "" if segment.speaker is None else f"[{segment.speaker}]: "
    text = " ".join(segment.text.split())  # one line
    return f"[{vtt_time(segment.start_s)} --> {vtt_time(segment.end_s)}] {speaker}{text}"


def word_line(word: Word) -> str:
    """`    [00:00.320 --> 00:00.540] text`."""
    return f"    [{vtt_time(word.start_s)} --> {vtt_time(word.end_s)}] {word.text}"
