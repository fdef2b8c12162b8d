"""`lithophone listen`: lines, the partial line of a terminal, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from lithophone.cli.listen import CLEAR_LINE, Display, ends_on_interrupt, fitted, run
from lithophone.cli.live_input import StandardInput
from lithophone.cli.main import app
from lithophone.pipeline.captions import Captions, Final, Partial
from lithophone.pipeline.transcriber import Transcriber
from lithophone.transcript import Segment, TranscriptWarning
from tests.sounds import silence, tone

pytestmark = pytest.mark.usefixtures("tones_are_speech")
LINE = re.compile(r"^\[\d\d:\d\d\.\d{3} --> \d\d:\d\d\.\d{3}\] ", re.MULTILINE)


@pytest.fixture(autouse=True)
def short_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lithophone.pipeline.request.max_new_tokens", lambda *_: 8)


def pcm(*parts: np.ndarray) -> bytes:
    return (np.concatenate(parts) * 32767).astype("<i2").tobytes()


def call(*arguments: object, model: Path, stdin: bytes) -> Result:
    return CliRunner().invoke(app, ["listen", *map(str, arguments), "--model", str(model)], input=stdin)


@pytest.mark.parametrize("source", ["-", "--stdin"])
def test_final_lines_of_standard_input_are_printed(tiny_folder: Path, source: str) -> None:
    done = call(source, model=tiny_folder, stdin=pcm(tone(1.0), silence(1.0), tone(1.0), silence(1.0)))
    assert done.exit_code == 0, done.output
    assert len(LINE.findall(done.stdout)) == 2
    assert "\x1b" not in done.stdout


def test_the_rate_is_that_of_the_input(tiny_folder: Path) -> None:
    data = pcm(silence(1.0, 48_000), tone(1.0, 48_000), silence(1.0, 48_000))
    done = call("-", "--rate", 48_000, model=tiny_folder, stdin=data)
    assert re.match(r"\[00:00\.[56]\d\d --> 00:02\.4", done.stdout)
    assert len(LINE.findall(done.stdout)) == 1


def test_options_are_those_of_transcribe_and_of_the_detection(tiny_folder: Path) -> None:
    data = pcm(tone(1.0), silence(0.7), tone(1.0), silence(1.5))
    done = call("-", "--silence-duration-ms", 900, "--word-timestamps", "--raw", model=tiny_folder, stdin=data)
    assert done.exit_code == 0, done.output
    assert len(LINE.findall(done.stdout)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["talk.wav"], "talk.wav is no live source"),
        (["-", "--microphone", "1"], "exclude each other"),
        (["-", "--rate", "0"], "rate"),
        (["-", "--threshold", "1.5"], "threshold is 1.5"),
        (["-", "--task", "translate"], "to"),
    ],
)
def test_wrong_usage_is_named(tiny_folder: Path, arguments: list[str], message: str) -> None:
    done = call(*arguments, model=tiny_folder, stdin=b"")
    assert done.exit_code == 2
    assert message in done.stderr


def test_half_a_sample_at_the_end_is_named(tiny_folder: Path) -> None:
    done = call("-", model=tiny_folder, stdin=pcm(tone(1.0)) + b"\x00")
    assert done.exit_code == 0
    assert len(LINE.findall(done.stdout)) == 1
    assert "ended within a sample" in done.stderr


def test_no_input_gives_no_lines(tiny_folder: Path) -> None:
    done = call("-", model=tiny_folder, stdin=b"")
    assert (done.exit_code, done.stdout) == (0, "")


def test_an_interrupt_ends_with_the_final_text(
    tiny: Transcriber, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.write(write, pcm(tone(1.0)))

    def interrupt(captions: Captions) -> None:
        while captions.time_s < 1.0:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    with os.fdopen(read, "rb") as file:
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=file, isatty=lambda: False))
        with StandardInput(16_000) as live_input, Captions(tiny) as captions:
            threading.Thread(target=interrupt, args=(captions,)).start()
            run(live_input, captions, Display(is_terminal=False))
        os.close(write)
    assert len(LINE.findall(capsys.readouterr().out)) == 1


def test_a_second_interrupt_is_not_caught() -> None:
    stopped: list[int] = []

    def interrupt_twice() -> None:
        with ends_on_interrupt(types.SimpleNamespace(stop=lambda: stopped.append(1))):  # type: ignore[arg-type]
            signal.raise_signal(signal.SIGINT)
            assert stopped == [1]
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupt_twice()
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped == [1]


# --- the terminal


def test_a_terminal_shows_the_partial_line_and_overwrites_it(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(is_terminal=True)
    display.show([Partial(0, "the cat ", "the cat ", "sa", 0.0, 1.0)])
    display.show([Final(0, 0.0, 1.0, "The cat sat.", (Segment("The cat sat.", 0.0, 1.0),))])
    partial, final = capsys.readouterr().out.split(CLEAR_LINE)[1:]
    assert partial.startswith("the cat ")
    assert "\n" not in partial
    assert final == "[00:00.000 --> 00:01.000] The cat sat.\n"


def test_without_a_terminal_there_are_no_partial_lines(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(is_terminal=False)
    display.show([Partial(0, "the cat ", "the cat ", "sa", 0.0, 1.0), Final(0, 0.0, 1.0, "")])
    assert capsys.readouterr().out == ""


def test_warnings_are_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Display(False).show([Final(0, 1.0, 2.0, "", (), (TranscriptWarning("cut", "the reply was cut", 1.0, 2.0),))])
    assert capsys.readouterr().err == "warning: 1.0 to 2.0 s: the reply was cut [cut]\n"


def test_a_microphone_that_is_late_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(False)
    for behind_s in (1.0, 12.0, 15.0):
        display.show_delay(behind_s)
    assert capsys.readouterr().err.count("s late") == 1


@pytest.mark.parametrize(
    ("stable", "unstable", "width", "expected"),
    [
        ("abc ", "de", 10, ("abc ", "de")),
        ("abc ", "de", 4, ("c ", "de")),
        ("abc ", "defgh", 3, ("", "fgh")),
        ("ア", "イウ", 5, ("", "イウ")),
        ("", "", 5, ("", "")),
    ],
)
def test_the_partial_line_fits_the_terminal(stable: str, unstable: str, width: int, expected: tuple[str, str]) -> None:
    assert fitted(stable, unstable, width) == expected
