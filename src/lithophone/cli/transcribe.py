"""`lithophone transcribe`: recordings -> lines on stdout, or files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from lithophone.cli import terminal
from lithophone.cli.options import takes
from lithophone.cli.output import STDOUT, Sink, check_cues, check_outputs, make_sink, with_word_times
from lithophone.cli.progress import AudioProgress, summary
from lithophone.cli.sources import InputFile, find_inputs
from lithophone.cli.threads import limit_threads, settle_threads
from lithophone.errors import LithophoneError
from lithophone.formats import FILE_FORMATS, CueOptions
from lithophone.hub import DEFAULT_MODEL
from lithophone.pipeline.options import TranscribeOptions
from lithophone.transcript import Transcript, TranscriptWarning

if TYPE_CHECKING:
    from lithophone.pipeline.assembly import Event, WindowDone
    from lithophone.pipeline.transcriber import Transcriber


class Channels(str, Enum):
    """Channels of a recording: mixed, or each a speaker."""

    MIX = "mix"
    SPLIT = "split"


@dataclass(frozen=True)
class ModelChoice:
    name: str
    device: str | None
    dtype: str | None
    threads: int | None


@terminal.with_exit_status
@takes("options", TranscribeOptions)
@takes("cues", CueOptions)
def transcribe(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Audio or video files, folders or patterns; - is standard input."),
    ],
    model: terminal.Model = DEFAULT_MODEL,
    output_format: Annotated[
        str | None,
        typer.Option("--output-format", "-f", help=f"{', '.join(FILE_FORMATS)} or all (default: txt in a folder)"),
    ] = None,
    output_dir: Annotated[
        str, typer.Option("--output-dir", "-o", help="Folder for the files; - is the terminal.")
    ] = STDOUT,
    channels: Annotated[
        Channels, typer.Option(help="split: transcribe every channel by itself, as a speaker of its own.")
    ] = Channels.MIX,
    device: terminal.Device = None,
    dtype: terminal.Dtype = None,
    threads: terminal.Threads = None,
    quiet: terminal.Quiet = False,
    *,
    options: TranscribeOptions,
    cues: CueOptions,
) -> None:
    """Transcribe or translate recordings of any length."""
    inputs, unreadable = find_inputs(files)
    options = with_word_times(output_format, options)
    check_cues(output_format, cues, options.word_timestamps)
    written: Callable[[Path], None] = (lambda path: None) if quiet else (lambda path: terminal.say(f"wrote {path}"))
    sink = make_sink(
        output_dir, output_format, several=len(inputs) + len(unreadable) > 1, cues=cues, on_written=written
    )
    inputs, unwritable = check_outputs(output_dir, output_format, inputs)
    for refused in (*unreadable, *unwritable):
        terminal.say_error(refused)
    delivery = Delivery(sink, failed=len(unreadable) + len(unwritable))
    if inputs:
        run(inputs, options, delivery, ModelChoice(model, device, dtype, threads), quiet, channels)
    if delivery.failed:
        raise typer.Exit(terminal.FAILED)


@dataclass
class Delivery:
    """Passes results to a sink, warnings and errors to stderr, and counts failed recordings."""

    sink: Sink
    failed: int = 0
    _problem: Exception | None = field(default=None, init=False)

    def window(self, file: InputFile, window: WindowDone) -> None:
        try:
            self.sink.window(file, window.segments)
        except terminal.UnprintableTextError as error:
            self._problem = error

    def recording(self, file: InputFile, result: Transcript | LithophoneError) -> None:
        """A transcript, or the error of a recording."""
        try:
            if isinstance(result, LithophoneError):
                raise result
            self.sink.recording(file, result)
            if self._problem is not None:
                raise self._problem
        except terminal.StdoutError:
            raise
        except BrokenPipeError:
            raise
        except (LithophoneError, OSError) as error:
            self.failed += 1
            terminal.say_error(error if file.label in str(error) else f"{file.label}: {error}")
        if isinstance(result, Transcript):
            for warning in result.warnings:
                terminal.say_warning(warning_line(file, warning))
        self._problem = None


def run(
    inputs: Sequence[InputFile],
    options: TranscribeOptions,
    delivery: Delivery,
    choice: ModelChoice,
    quiet: bool,
    channels: Channels = Channels.MIX,
) -> None:
    from lithophone.pipeline.assembly import WindowDone

    began = time.perf_counter()
    with AudioProgress(quiet) as progress:
        transcriber = load_model(choice)
        load_s = time.perf_counter() - began
        progress.start(inputs[0].label)
        files = {id(one.source): one for one in inputs}
        for event in _events(transcriber, [one.source for one in inputs], options, channels):
            file = files[id(event.source)]
            if isinstance(event, WindowDone):
                delivery.window(file, event)
                progress.show(file.label, event.end_s, event.duration_s)
            else:
                delivery.recording(file, event.result)
                progress.finish(0.0 if isinstance(event.result, LithophoneError) else event.result.duration_s)
    if not quiet and progress.audio_s:
        terminal.say(summary(progress.audio_s, progress.elapsed_s, load_s))


def _events(
    transcriber: Transcriber, sources: Sequence[Path | BinaryIO], options: TranscribeOptions, channels: Channels
) -> Iterator[Event]:
    """Events in order; with split channels a single WindowDone has all segments of a recording."""
    if channels is Channels.MIX:
        yield from transcriber.events(sources, options=options)
        return
    from lithophone.pipeline.assembly import RecordingDone, WindowDone
    from lithophone.pipeline.channels import transcribe_channels

    for source, result in transcribe_channels(transcriber, sources, options):
        if isinstance(result, Transcript):
            yield WindowDone(source, result.segments, result.warnings, result.duration_s, result.duration_s)
        yield RecordingDone(source, result)


def load_model(choice: ModelChoice) -> Transcriber:
    from lithophone.pipeline.transcriber import load  # imports torch, which takes seconds

    limit_threads(choice.threads)
    transcriber = load(choice.name, choice.device, choice.dtype)
    settle_threads(choice.threads, transcriber.checkpoint.network)
    return transcriber


def warning_line(file: InputFile, warning: TranscriptWarning) -> str:
    return f"{file.label}: {warning.start_s:.1f} to {warning.end_s:.1f} s: {warning.message} [{warning.code}]"
