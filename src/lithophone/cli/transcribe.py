"""`lithophone transcribe`: recordings -> lines on the terminal or files in a folder."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lithophone.cli import terminal
from lithophone.cli.options import takes_options
from lithophone.cli.output import chosen_formats, prepare_folder, segment_line, word_line, write_files
from lithophone.cli.progress import AudioProgress, summary
from lithophone.errors import LithophoneError, OptionError
from lithophone.formats import FORMATS
from lithophone.hub import DEFAULT_MODEL
from lithophone.pipeline.options import TranscribeOptions
from lithophone.transcript import Transcript, TranscriptWarning

if TYPE_CHECKING:
    from lithophone.pipeline.utterance import Piece

STDOUT = "-"


@terminal.with_exit_status
@takes_options()
def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings: any audio or video file.")],
    model: terminal.Model = DEFAULT_MODEL,
    output_format: Annotated[
        str | None,
        typer.Option("--output-format", "-f", help="txt, srt, vtt, tsv, json or all (default: txt in a folder)"),
    ] = None,
    output_dir: Annotated[
        str, typer.Option("--output-dir", "-o", help="Folder for the files; - is the terminal.")
    ] = STDOUT,
    device: terminal.Device = None,
    dtype: terminal.Dtype = None,
    quiet: terminal.Quiet = False,
    *,
    options: TranscribeOptions,
) -> None:
    """Transcribe or translate recordings of any length."""
    sink = make_sink(output_dir, output_format, files)
    if run(files, options, sink, model, device, dtype, quiet):
        raise typer.Exit(terminal.FAILED)


@dataclass
class Lines:
    """Segments on stdout, each as soon as it is there, under the file's name where there are several."""

    several: bool
    current: object = field(default=None)

    def take_piece(self, piece: Piece) -> None:
        if self.several and piece.segments and piece.source != self.current:
            print(f"# {piece.source}")
            self.current = piece.source
        for segment in piece.segments:
            print("\n".join([segment_line(segment), *map(word_line, segment.words)]), flush=True)

    def take_transcript(self, source: Path, transcript: Transcript) -> None:
        """All of it is printed already."""


@dataclass(frozen=True)
class Document:
    """Whole transcripts on stdout, in one format."""

    format: str

    def take_piece(self, piece: Piece) -> None:
        """Nothing is printed before a transcript is whole."""

    def take_transcript(self, source: Path, transcript: Transcript) -> None:
        text = FORMATS[self.format](transcript)
        print(text, end="" if text.endswith("\n") else "\n", flush=True)


@dataclass(frozen=True)
class Folder:
    """Files in a folder, written as soon as their recording is done."""

    path: Path
    formats: tuple[str, ...]

    def take_piece(self, piece: Piece) -> None:
        """Nothing is written before a transcript is whole."""

    def take_transcript(self, source: Path, transcript: Transcript) -> None:
        write_files(transcript, self.path, source.stem, self.formats)


Sink = Lines | Document | Folder


def make_sink(output_dir: str, output_format: str | None, files: list[Path]) -> Sink:
    """Where the transcripts go; what cannot work raises OptionError now, before the model is loaded."""
    if output_dir != STDOUT:
        formats = chosen_formats(output_format or "txt")
        prepare_folder(Path(output_dir), files)
        return Folder(Path(output_dir), formats)
    if output_format is None:
        return Lines(several=len(files) > 1)
    formats = chosen_formats(output_format)
    if len(formats) > 1:
        raise OptionError("--output-format all writes several files: name a folder with --output-dir")
    return Document(formats[0])


def run(
    files: list[Path],
    options: TranscribeOptions,
    sink: Sink,
    model: str,
    device: str | None,
    dtype: str | None,
    quiet: bool,
) -> int:
    """Transcribe the files one after the other; gives how many failed."""
    from lithophone.pipeline.transcriber import load  # torch takes seconds, and --help needs none of it

    began = time.perf_counter()
    failed = 0
    with AudioProgress(quiet) as progress:
        transcriber = load(model, device, dtype)
        load_s = time.perf_counter() - began
        progress.start(files[0].name)

        def on_piece(piece: Piece) -> None:
            sink.take_piece(piece)
            progress.show(piece.source.name, piece.done_s, piece.duration_s)

        for source, result in transcriber.transcribe_many(files, options=options, on_piece=on_piece):
            failed += not delivered(source, result, sink)
            progress.finish(0.0 if isinstance(result, LithophoneError) else result.duration_s)
    if not quiet:
        terminal.say(summary(progress.audio_s, progress.elapsed_s, load_s))
    return failed


def delivered(source: Path, result: Transcript | LithophoneError, sink: Sink) -> bool:
    """Whether the result reached its place; errors and warnings are told on stderr."""
    try:
        if isinstance(result, LithophoneError):
            raise result
        sink.take_transcript(source, result)
    except (LithophoneError, OSError) as error:
        terminal.say_error(error if str(source) in str(error) else f"{source}: {error}")
        return False
    for warning in result.warnings:
        terminal.say_warning(warning_line(source, warning))
    return True


def warning_line(source: Path, warning: TranscriptWarning) -> str:
    return f"{source}: {warning.start_s:.1f} to {warning.end_s:.1f} s: {warning.message} [{warning.code}]"
