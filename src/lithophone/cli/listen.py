"""`lithophone listen`: live captions of a microphone or of raw PCM on standard input."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len

from lithophone.audio.array import RATES_HZ
from lithophone.audio.detection import Detection
from lithophone.cli import terminal
from lithophone.cli.live_input import LiveInput, Microphone, StandardInput
from lithophone.cli.options import takes
from lithophone.cli.output import segment_lines
from lithophone.cli.transcribe import ModelChoice, load_model
from lithophone.errors import OptionError
from lithophone.hub import DEFAULT_MODEL
from lithophone.pipeline.options import TranscribeOptions

if TYPE_CHECKING:
    from lithophone.pipeline.captions import CaptionEvent, Captions, Final, Partial

IDLE_S = 0.1
"""Longest wait for samples."""

LATE_S = 10.0
"""Seconds behind at which a warning is given."""

CLEAR_LINE, DIM, PLAIN = "\r\x1b[2K", "\x1b[2m", "\x1b[0m"


@terminal.with_exit_status
@takes("options", TranscribeOptions)
@takes("detection", Detection)
def listen(
    source: Annotated[
        str | None, typer.Argument(metavar="[-]", help="- is raw PCM on standard input (default: the microphone).")
    ] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="The same as -.")] = False,
    rate: Annotated[
        int,
        typer.Option(
            min=RATES_HZ[0], max=RATES_HZ[1], help="Rate in Hz of standard input: int16, little-endian, one channel."
        ),
    ] = 16_000,
    microphone: Annotated[
        str | None, typer.Option(help="Number or name of a sound device (python -m sounddevice lists them).")
    ] = None,
    model: terminal.Model = DEFAULT_MODEL,
    device: terminal.Device = None,
    dtype: terminal.Dtype = None,
    threads: terminal.Threads = None,
    quiet: terminal.Quiet = False,
    *,
    options: TranscribeOptions,
    detection: Detection,
) -> None:
    """Live captions of a microphone or a pipe; Ctrl-C ends them with the final text."""
    live_input = open_input(source, stdin, rate, microphone)
    captions = open_captions(ModelChoice(model, device, dtype, threads), options, detection)
    display = Display(sys.stdout.isatty())
    if not quiet and isinstance(live_input, Microphone):
        terminal.say("listening; Ctrl-C ends")
    with live_input, captions:
        run(live_input, captions, display)
    display.close()


def open_input(source: str | None, stdin: bool, rate_hz: int, microphone: str | None) -> LiveInput:
    """Raises OptionError for options that exclude each other."""
    if source not in (None, "-"):
        raise OptionError(f"{source} is no live source: leave it out for the microphone, give - for standard input")
    piped = stdin or source == "-"
    if piped and microphone is not None:
        raise OptionError("--microphone and standard input exclude each other: give one of them")
    return StandardInput(rate_hz) if piped else Microphone(microphone, rate_hz)


def open_captions(choice: ModelChoice, options: TranscribeOptions, detection: Detection) -> Captions:
    transcriber = load_model(choice)
    from lithophone.pipeline.captions import Captions  # imports torch

    return Captions(transcriber, options, detection)


def run(live_input: LiveInput, captions: Captions, display: Display) -> None:
    """Until the input ends or Ctrl-C; decodes in the time between blocks."""
    from lithophone.audio.pcm import PCMStream

    pcm = PCMStream(live_input.rate_hz)
    with ends_on_interrupt(live_input):
        while (data := live_input.take(0.0 if captions.busy else IDLE_S)) is not None:
            samples = pcm.push(data)
            display.show(captions.push(samples) if len(samples) else captions.step())
            if isinstance(live_input, Microphone):
                display.show_delay(len(data) / 2 / live_input.rate_hz)
    display.show(captions.push(pcm.flush()))
    display.show(captions.flush())
    if pcm.is_cut:
        terminal.say_warning("the input ended within a sample: half a sample was left out")
    if isinstance(live_input, Microphone) and live_input.overflows:
        terminal.say_warning(f"the system lost samples {live_input.overflows} times: this computer is too slow")


@contextlib.contextmanager
def ends_on_interrupt(live_input: LiveInput) -> Iterator[None]:
    """The first Ctrl-C ends the input, the next is KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        live_input.stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Display:
    """Final lines on stdout; on a terminal also the partial line, overwritten."""

    def __init__(self, is_terminal: bool) -> None:
        self.is_terminal = is_terminal
        self._problem: terminal.UnprintableTextError | None = None
        self._is_late = False

    def show(self, events: Iterable[CaptionEvent]) -> None:
        from lithophone.pipeline.captions import Final, Partial

        for event in events:
            if isinstance(event, Final):
                self._final(event)
            elif isinstance(event, Partial) and self.is_terminal:
                self._partial(event)

    def show_delay(self, behind_s: float) -> None:
        """Warn once where samples had to wait for long."""
        if behind_s > LATE_S and not self._is_late:
            self._is_late = True
            terminal.say_warning(f"captions are {behind_s:.0f} s late: this computer is too slow for the model")

    def close(self) -> None:
        """Raise UnprintableTextError if a line could not be printed as it is."""
        if self._problem is not None:
            raise self._problem

    def _final(self, final: Final) -> None:
        cleared = CLEAR_LINE * self.is_terminal
        lines = "".join(f"{line}\n" for segment in final.segments for line in segment_lines(segment))
        try:
            if cleared or lines:
                terminal.print_text(cleared + lines)
        except terminal.UnprintableTextError as error:
            self._problem = error
        for warning in final.warnings:
            terminal.say_warning(f"{warning.start_s:.1f} to {warning.end_s:.1f} s: {warning.message} [{warning.code}]")

    def _partial(self, partial: Partial) -> None:
        width = shutil.get_terminal_size().columns - 1
        stable, unstable = fitted(partial.stable, partial.unstable, width)
        terminal.print_text(f"{CLEAR_LINE}{stable}{DIM}{unstable}{PLAIN}", exact=False)


def fitted(stable: str, unstable: str, width: int) -> tuple[str, str]:
    """The end of both texts that fits into `width` columns."""
    while stable and cell_len(stable + unstable) > width:
        stable = stable[1:]
    while unstable and cell_len(unstable) > width:
        unstable = unstable[1:]
    return stable, unstable
