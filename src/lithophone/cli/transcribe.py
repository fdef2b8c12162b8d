"""`lithophone transcribe`: recordings -> lines on stdout, or files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from lithophone.cli import terminal
from lithophone.cli.durations import expected_durations
from lithophone.cli.options import takes
from lithophone.cli.output import STDOUT, Sink, check_cues, check_outputs, make_sink, with_word_times
from lithophone.cli.progress import AudioProgress
from lithophone.cli.resume import check_resume, open_journal
from lithophone.cli.sources import STDIN, InputFile, find_inputs, listed
from lithophone.cli.tally import Tally, recording_line, total_line
from lithophone.cli.threads import limit_threads, settle_threads
from lithophone.errors import LithophoneError, OptionError
from lithophone.formats import FILE_FORMATS, CueOptions
from lithophone.hub import DEFAULT_MODEL
from lithophone.pipeline.options import TranscribeOptions
from lithophone.transcript import Transcript, TranscriptWarning

if TYPE_CHECKING:
    from lithophone.diarization.known import RttmDiarizer
    from lithophone.pipeline.assembly import Event, RecordingDone, WindowDone
    from lithophone.pipeline.journal import Journal
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
    diarizer: RttmDiarizer | None = None


@terminal.with_exit_status
@takes("options", TranscribeOptions)
@takes("cues", CueOptions)
def transcribe(
    files: terminal.Files = None,
    from_list: terminal.FromList = None,
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
    rttm: Annotated[
        str | None, typer.Option(metavar="FILE", help="Speakers of an rttm file, instead of finding them by --diarize.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue in --output-dir where a run of the same model and options ended.")
    ] = False,
    device: terminal.Device = None,
    dtype: terminal.Dtype = None,
    threads: terminal.Threads = None,
    quiet: terminal.Quiet = False,
    *,
    options: TranscribeOptions,
    cues: CueOptions,
) -> None:
    """Transcribe or translate recordings of any length."""
    check_resume(resume, output_dir)
    inputs, unreadable = find_inputs(named_inputs(files or [], from_list))
    options = with_word_times(output_format, options if rttm is None else replace(options, diarize=True))
    diarizer = None if rttm is None else rttm_diarizer(rttm)
    check_cues(output_format, cues, options.word_timestamps)
    written: Callable[[Path], None] = (lambda path: None) if quiet else (lambda path: terminal.say(f"wrote {path}"))
    sink = make_sink(
        output_dir, output_format, several=len(inputs) + len(unreadable) > 1, cues=cues, on_written=written
    )
    inputs, unwritable = check_outputs(output_dir, output_format, inputs)
    for refused in (*unreadable, *unwritable):
        terminal.say_error(refused)
    delivery = Delivery(sink, quiet or output_dir == STDOUT, failed=len(unreadable) + len(unwritable))
    if inputs:
        with contextlib.ExitStack() as stack:
            journal = open_journal(output_dir, resume)
            if journal is not None:
                stack.enter_context(journal)
                delivery.is_resumable = True
            run(
                inputs,
                options,
                delivery,
                ModelChoice(model, device, dtype, threads, diarizer),
                quiet,
                channels,
                journal,
            )
    if delivery.failed:
        raise typer.Exit(terminal.FAILED)


def named_inputs(files: Sequence[str], from_list: str | None) -> list[str]:
    """Arguments and those of a list; OptionError for none, and where both are standard input."""
    if from_list is None and not files:
        raise OptionError("no recording is named: give files, folders or patterns, or --from-list FILE")
    if from_list == STDIN and STDIN in files:
        raise OptionError("standard input is a recording or a list: give - once")
    return [*files, *(listed(from_list) if from_list is not None else ())]


@dataclass
class Delivery:
    """Passes results to a sink, warnings and errors to stderr, and counts failed recordings."""

    sink: Sink
    brief: bool = True
    """Whether recordings have no line of their own on stderr."""
    is_resumable: bool = False
    """Whether there is a journal."""
    failed: int = 0
    _problem: Exception | None = field(default=None, init=False)

    def window(self, file: InputFile, window: WindowDone) -> None:
        try:
            self.sink.window(file, window.segments)
        except terminal.UnprintableTextError as error:
            self._problem = error

    def recording(self, file: InputFile, event: RecordingDone) -> None:
        """A transcript, or the error of a recording."""
        result = event.result
        try:
            if isinstance(result, LithophoneError):
                raise result
            self.sink.recording(file, result)
            if self._problem is not None:
                raise self._problem
            if not self.brief and not event.is_known:
                terminal.say(recording_line(file.label, event))
        except terminal.StdoutError:
            raise
        except BrokenPipeError:
            raise
        except (LithophoneError, OSError) as error:
            self.failed += 1
            terminal.say_error(error if file.label in str(error) else f"{file.label}: {error}")
            if self.is_resumable and not isinstance(error, LithophoneError):
                terminal.say("what is transcribed is in the journal: free space on the disk, then add --resume")
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
    journal: Journal | None = None,
) -> None:
    from lithophone.pipeline.assembly import WindowDone

    began = time.perf_counter()
    with AudioProgress(quiet) as progress:
        transcriber = load_model(choice)
        load_s = time.perf_counter() - began
        expected = expected_durations(inputs) if progress.is_visible else [None] * len(inputs)
        tally = Tally(expected, lambda: transcriber.engine.compute_s)
        progress.start(inputs[0].label)
        files = {id(one.source): one for one in inputs}
        for event in _events(transcriber, [one.source for one in inputs], options, channels, journal):
            file = files[id(event.source)]
            if isinstance(event, WindowDone):
                delivery.window(file, event)
                tally.window(event)
                progress.show(file.label, event.end_s, event.duration_s, tally.speed, tally.left_s())
            else:
                tally.recording(event)
                delivery.recording(file, event)
    if not quiet and (tally.n_new or tally.n_known):
        terminal.say(
            total_line(tally.n_new, tally.audio_s, tally.elapsed_s, load_s, known=tally.n_known, failed=delivery.failed)
        )


def _events(
    transcriber: Transcriber,
    sources: Sequence[Path | BinaryIO],
    options: TranscribeOptions,
    channels: Channels,
    journal: Journal | None,
) -> Iterator[Event]:
    """Events in order; with split channels a single WindowDone has all segments of a recording."""
    if channels is Channels.MIX:
        yield from transcriber.events(sources, options=options, journal=journal)
        return
    from lithophone.pipeline.assembly import RecordingDone, WindowDone
    from lithophone.pipeline.channels import transcribe_channels

    for source, result in transcribe_channels(transcriber, sources, options, journal):
        if isinstance(result, Transcript):
            yield WindowDone(source, result.segments, result.warnings, result.duration_s, result.duration_s)
        yield RecordingDone(source, result)


def rttm_diarizer(path: str) -> RttmDiarizer:
    from lithophone.diarization.known import RttmDiarizer  # imports torch

    return RttmDiarizer(path)


def load_model(choice: ModelChoice) -> Transcriber:
    from lithophone.pipeline.transcriber import load  # imports torch, which takes seconds

    limit_threads(choice.threads)
    transcriber = load(choice.name, choice.device, choice.dtype, diarizer=choice.diarizer)
    settle_threads(choice.threads, transcriber.checkpoint.network)
    return transcriber


def warning_line(file: InputFile, warning: TranscriptWarning) -> str:
    return f"{file.label}: {warning.start_s:.1f} to {warning.end_s:.1f} s: {warning.message} [{warning.code}]"
