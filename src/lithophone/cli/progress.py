"""Progress bar on stderr in seconds of audio."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn

from lithophone.cli.tally import time_text
from lithophone.cli.terminal import stderr
from lithophone.formats import vtt_time


class AudioProgress:
    """A progress bar as a context; hidden with `quiet` or without a terminal."""

    def __init__(self, quiet: bool) -> None:
        # Printed lines go above the bar only where both share the terminal.
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            console=stderr(),
            disable=quiet or not sys.stderr.isatty(),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._bar.add_task("loading", total=None, state="")
        self._began = time.perf_counter()
        self._before_s = 0.0

    def __enter__(self) -> AudioProgress:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def start(self, name: str) -> None:
        """Reset the clock once the model is loaded."""
        self._began = time.perf_counter()
        self._bar.update(self._task, description=name, state="reading")

    def show(
        self,
        name: str,
        done_s: float,
        duration_s: float | None,
        speed: float | None = None,
        left_s: float | None = None,
    ) -> None:
        """`done_s` of `duration_s` seconds (None: unknown) of the recording `name` are done.

        `speed`: seconds of audio a second (None: of what was shown). `left_s`: seconds to the end of the run (None: to
        the end of the recording).
        """
        speed = (self._before_s + done_s) / max(self.elapsed_s, 1e-9) if speed is None else speed
        state = progress_text(done_s, duration_s, speed, left_s)
        self._bar.update(self._task, description=name, completed=done_s, total=duration_s, state=state)

    @property
    def is_visible(self) -> bool:
        return not self._bar.disable

    def finish(self, duration_s: float) -> None:
        self._before_s += duration_s

    @property
    def audio_s(self) -> float:
        return self._before_s

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began


def progress_text(done_s: float, duration_s: float | None, speed: float, left_s: float | None = None) -> str:
    """`00:30.0 of 01:00.0, RTFx 12.0, 2 s left`; shorter without a duration."""
    if duration_s is None:
        return f"{vtt_time(done_s)[:-2]}, RTFx {speed:.1f}" + ("" if left_s is None else f", {time_text(left_s)} left")
    left_s = (duration_s - done_s) / speed if left_s is None and speed else left_s
    left = "waiting" if left_s is None else f"{time_text(left_s)} left"
    return f"{vtt_time(done_s)[:-2]} of {vtt_time(duration_s)[:-2]}, RTFx {speed:.1f}, {left}"
