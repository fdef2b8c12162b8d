"""The command line: what is printed, what is written, and that the exit status tells the truth."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from lithophone.cli.main import app
from lithophone.cli.progress import progress_text
from lithophone.formats import FILE_FORMATS, vtt_time
from lithophone.model.speech import GraniteSpeech
from lithophone.text.tokenizer import Tokenizer
from tests.conftest import DEMO
from tests.sounds import beep, silence, tone, write_shifted

pytestmark = pytest.mark.usefixtures("tones_are_speech")
LINE = re.compile(r"^\[\d\d:\d\d\.\d{3} --> \d\d:\d\d\.\d{3}\] ")


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "talk.wav", tone(1.0), 16_000)
    return tmp_path / "talk.wav"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    (tmp_path / "broken.wav").write_bytes(b"RIFF no recording")
    return tmp_path / "broken.wav"


@pytest.fixture(autouse=True)
def short_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model talks until it is stopped: stop it early."""
    monkeypatch.setattr("lithophone.pipeline.request.max_new_tokens", lambda *_: 8)


def call(*arguments: object, model: Path | None = None, stdin: bytes | None = None) -> Result:
    chosen = [] if model is None else ["--model", str(model)]
    return CliRunner().invoke(app, [*map(str, arguments), *chosen], input=stdin)


def written(folder: Path) -> list[str]:
    """Outputs in a folder, without the journal."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_lines_with_times_are_printed(talk: Path, tiny_folder: Path) -> None:
    done = call("transcribe", talk, model=tiny_folder)
    assert done.exit_code == 0, done.output
    assert LINE.match(done.stdout)
    assert "1.0 s of audio in" in done.stderr


def test_quiet_leaves_the_result_only(talk: Path, tiny_folder: Path) -> None:
    done = call("transcribe", talk, "--quiet", model=tiny_folder)
    assert LINE.match(done.stdout)
    assert "of audio in" not in done.stderr


def test_one_broken_file_does_not_stop_the_others(talk: Path, broken: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call("transcribe", broken, tmp_path / "missing.wav", talk, "-o", out, model=tiny_folder)
    assert done.exit_code == 1
    assert written(out) == ["talk.txt"]
    assert str(broken) in done.stderr
    assert "missing.wav" in done.stderr


def test_standard_input_is_a_recording_beside_others(talk: Path, tiny_folder: Path, tmp_path: Path) -> None:
    done = call("transcribe", "-", talk, "-o", tmp_path / "out", model=tiny_folder, stdin=talk.read_bytes())
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "stdin.txt").read_text() == (tmp_path / "out" / "talk.txt").read_text()


@pytest.mark.parametrize("sent", [b"", b"no recording"])
def test_a_bad_pipe_does_not_stop_the_others(talk: Path, tiny_folder: Path, tmp_path: Path, sent: bytes) -> None:
    done = call("transcribe", "-", talk, "-o", tmp_path / "out", model=tiny_folder, stdin=sent)
    assert done.exit_code == 1
    assert "error: stdin: " in done.stderr
    assert written(tmp_path / "out") == ["talk.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_is_read_as_the_file_it_carries(talk: Path, tiny_folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(talk.read_bytes()))
    writer.start()
    piped = call("transcribe", tmp_path / "pipe", model=tiny_folder)
    writer.join()
    assert piped.exit_code == 0, piped.output
    assert piped.stdout == call("transcribe", talk, model=tiny_folder).stdout


def test_a_folder_is_walked_and_names_that_clash_keep_their_folders(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("one/talk.wav", "two/talk.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        soundfile.write(tmp_path / "in" / name, tone(1.0), 16_000)
    done = call("transcribe", tmp_path / "in", "-o", tmp_path / "out", model=tiny_folder)
    assert done.exit_code == 0, done.output
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt"))
    assert names == ["one/talk.txt", "two/talk.txt"]


def test_what_is_missing_is_reported_before_a_model_is_loaded(tmp_path: Path) -> None:
    done = call("transcribe", tmp_path / "missing.wav", "https://example.org/a.mp3", "--model", "no-such-model")
    assert done.exit_code == 1
    assert "missing.wav does not exist" in done.stderr
    assert "is a URL" in done.stderr
    assert "no-such-model" not in done.stderr


def test_several_files_are_told_apart(talk: Path, tiny_folder: Path) -> None:
    again = talk.with_name("again.wav")
    again.write_bytes(talk.read_bytes())
    lines = call("transcribe", talk, again, model=tiny_folder).stdout.splitlines()
    assert [line for line in lines if line.startswith("#")] == [f"# {talk}", f"# {again}"]


def test_all_formats_are_written(talk: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    done = call("transcribe", talk, "-f", "all", "-o", out, model=tiny_folder)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert written(out) == sorted(f"talk.{e}" for e in FILE_FORMATS)
    assert json.loads((out / "talk.json").read_text(encoding="utf-8"))["duration"] == 1.0


def test_a_document_goes_to_stdout(talk: Path, tiny_folder: Path) -> None:
    done = call("transcribe", talk, "-f", "json", "-o", "-", model=tiny_folder)
    assert json.loads(done.stdout)["segments"]


def test_subtitles_of_a_track_that_begins_late_lie_on_the_clock_of_the_video(tiny_folder: Path, tmp_path: Path) -> None:
    """Faults, F1: players show them by that clock."""
    for name, late_s in (("early", 0.0), ("late", 3.94)):
        sound = beep(1.0, 2.0, 48_000)
        write_shifted(tmp_path / f"{name}.mkv", sound, 48_000, "flac", lambda _, by=late_s: by, "mpeg4", 6.0)
    done = call("transcribe", tmp_path / "*.mkv", "-f", "all", "-o", tmp_path / "out", model=tiny_folder)
    assert done.exit_code == 0, done.output
    for ending in ("srt", "vtt", "tsv", "json"):
        early, late = (first_time_s(tmp_path / "out" / f"{name}.{ending}") for name in ("early", "late"))
        assert late - early == pytest.approx(3.94, abs=0.05), ending
        assert late == pytest.approx(3.94 + 0.6, abs=0.05), ending


def first_time_s(path: Path) -> float:
    """Of the first cue, row or segment."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return float(json.loads(text)["segments"][0]["start"])
    if path.suffix == ".tsv":
        return int(text.splitlines()[1].split("\t")[0]) / 1000
    minutes, seconds = re.findall(r"(\d\d):(\d\d[.,]\d{3}) -->", text)[0]
    return 60 * int(minutes) + float(seconds.replace(",", "."))


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_text_that_the_terminal_lacks_is_escaped_and_told_and_the_next_file_goes_on(
    talk: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Faults, F6: what Windows gives a program whose output is redirected."""
    again = talk.with_name("again.wav")
    again.write_bytes(talk.read_bytes())
    monkeypatch.setattr(Tokenizer, "decode", lambda *_, **__: "今日は")
    arguments = ["transcribe", str(talk), str(again), "--model", str(tiny_folder)]
    done = CliRunner(charset=encoding).invoke(app, arguments)
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)
    assert done.stdout.count("\\u4eca\\u65e5\\u306f") == 2
    assert done.stderr.count(f"stdout has the encoding {encoding}") == 2


def test_silence_is_no_failure_but_told(tiny_folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "still.wav", silence(1.0), 16_000)
    done = call("transcribe", tmp_path / "still.wav", model=tiny_folder)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "[no_speech]" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "sing"], "unknown task 'sing'; allowed are transcribe"),
        (["--language", "xx"], "unknown language 'xx'; allowed are"),
        (["--task", "translate"], "needs the option 'to'"),
        (["--task", "translate", "--language", "fr", "--to", "de"], "no translation from fr to de"),
        (["--to", "de"], "goes with task 'translate'"),
        (["--output-format", "doc"], f"unknown output format 'doc'; allowed are {', '.join(FILE_FORMATS)} and all"),
        (["--output-format", "all"], "name a folder with --output-dir"),
        (["--output-format", "docx"], "docx is no text: name a folder with --output-dir"),
        (["--output-format", "srt", "--max-cps", "0"], "max_cps 0.0: it must be characters a second above 0, or None"),
        (["--max-line-width", "30"], "need --output-format srt or vtt or all"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--limit-s", "inf"], "limit_s is inf: it must be from 1 to 86400 s"),
        (["--limit-s", "nan"], "limit_s is nan"),
        (["--decode", "sample", "--temperature", "1e-300"], "temperature is 1e-300: it must be from"),
        (["--decode", "sample", "--temperature", "0"], "at 0 sampling is greedy decoding, decode='greedy'"),
        (["--temperature", "0"], "at 0 sampling is greedy decoding, decode='greedy'"),
        (["--threads", "0"], "--threads"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--dtype", "float7"], "dtype 'float7'"),
    ],
)
def test_wrong_usage_exits_with_2(talk: Path, tiny_folder: Path, arguments: list[str], words: str) -> None:
    done = call("transcribe", talk, *arguments, model=tiny_folder)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("arguments", [["transcribe"], ["transcribe", "a.wav", "--colour", "red"], ["sing"]])
def test_what_the_parser_refuses_exits_with_2(arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize("arguments", [["-h"], ["transcribe", "-h"], ["evaluate", "-h"], ["train", "-h"]])
def test_help_has_a_short_name(arguments: list[str]) -> None:
    done = call(*arguments)
    assert done.exit_code == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize("model", ["no-such-model", "./nothere", "~/models/none"])
def test_an_unknown_model_exits_with_1_and_names_those_there_are(talk: Path, model: str) -> None:
    done = call("transcribe", talk, "--model", model)
    assert done.exit_code == 1
    assert f"{model!r} is neither a folder nor a model's name" in done.stderr
    assert "ibm-granite/granite-speech-4.1-2b" in done.stderr


def test_a_folder_that_cannot_be_written_is_found_before_the_model_is_loaded(talk: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    done = call("transcribe", talk, "-o", tmp_path / "out", "--model", "no-such-model")
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


def test_an_interrupt_keeps_what_is_finished(
    talk: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = talk.with_name("second.wav")
    second.write_bytes(talk.read_bytes())
    calls: list[int] = []
    encode = GraniteSpeech.encode

    def once(self: GraniteSpeech, *rest: object) -> object:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return encode(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(GraniteSpeech, "encode", once)
    out = tmp_path / "out"
    done = call("transcribe", talk, second, "-o", out, "--batch-size", 1, model=tiny_folder)
    assert done.exit_code == 130
    assert written(out) == ["talk.txt"]


@pytest.mark.full
def test_ctrl_c_in_a_terminal(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = []
    for i in range(200):
        files.append(tmp_path / f"{i:03d}.flac")
        files[-1].symlink_to(DEMO)
    command = [sys.executable, "-m", "lithophone", "transcribe", *files, "-o", out, "--model", tiny_folder]
    # What starts the tests in the background may ignore the signal, and ignoring is inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen([*map(str, command), "--batch-size", "1"], stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    for _ in range(2400):  # two minutes: a loaded machine takes long to import torch
        if process.poll() is not None or (out.is_dir() and any(out.glob("*.txt"))):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    names = written(out)
    assert 0 < len(names) < len(files)
    assert names == [f"{i:03d}.txt" for i in range(len(names))]
    assert all((out / name).read_text(encoding="utf-8").endswith("\n") for name in names)


def test_a_recipe_runs_with_its_arguments(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text("import sys\nprint(__name__, *sys.argv[1:])\n")
    done = call("train", recipe, "--steps", 3, "--help")
    assert done.stdout == "__main__ --steps 3 --help\n"


def test_what_a_recipe_needs_and_is_not_installed_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text("import no_such_package\n")
    done = call("train", recipe)
    assert done.exit_code == 2
    assert "no_such_package is missing: pip install 'lithophone[train]', or no_such_package" in done.stderr


def test_an_unknown_recipe_names_those_there_are() -> None:
    done = call("train", "no-such-recipe")
    assert done.exit_code == 2
    assert "no recipe 'no-such-recipe'" in done.stderr


def test_models_are_listed() -> None:
    done = call("models")
    assert done.exit_code == 0
    assert "ibm-granite/granite-speech-4.1-2b-plus" in done.stdout
    bundled = next(line for line in done.stdout.splitlines() if "lithophone-tiny" in line)
    assert "six languages" in bundled
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("levels", "line"),
    [
        (127, "exact, with activations of 8 bits"),
        (63, "exact, with activations of 7 bits: it adds two products in 16 bits (no VNNI)"),
        (None, "not exact, so that models load as floats"),
    ],
)
def test_models_tell_what_they_compute_in(monkeypatch: pytest.MonkeyPatch, levels: int | None, line: str) -> None:
    for module in ("int8_kernels", "quantize"):
        monkeypatch.setattr(f"lithophone.model.{module}.activation_levels", lambda: levels)
    done = call("models", "--verbose")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == f"int8 on this CPU: {line}"
    bundled = next(row for row in done.stdout.splitlines() if "lithophone-tiny" in row)
    dtype = "int8" if levels else "float32"
    assert re.search(rf"│ \d+ M +│ \d+ +│ {dtype} +│ .*lithophone-tiny", bundled)


@pytest.mark.parametrize(
    ("time_s", "text"), [(0, "00:00.000"), (59.9996, "01:00.000"), (3599.5, "59:59.500"), (3600, "01:00:00.000")]
)
def test_clock(time_s: float, text: str) -> None:
    assert vtt_time(time_s) == text


def test_progress_tells_audio_speed_and_time_left() -> None:
    assert progress_text(30.0, 60.0, 12.0) == "00:30.0 of 01:00.0, RTFx 12.0, 2 s left"
    assert progress_text(0.0, 60.0, 0.0).endswith("waiting")


def test_a_recording_that_failed_has_no_speed(tmp_path: Path, tiny_folder: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    done = call("transcribe", broken, model=tiny_folder)
    assert done.exit_code == 1
    assert "broken.wav" in done.stderr
    assert "s of audio" not in done.stderr


def test_files_that_are_written_are_named_unless_quiet(talk: Path, tmp_path: Path, tiny_folder: Path) -> None:
    command = ("transcribe", talk, "-f", "all", "-o", tmp_path / "out")
    named = re.findall(r"^wrote (.*)$", call(*command, model=tiny_folder).stderr, re.MULTILINE)
    assert sorted(Path(name).name for name in named) == written(tmp_path / "out")
    assert "wrote" not in call(*command, "--quiet", model=tiny_folder).stderr


def test_channels_are_speakers_where_they_are_split(tmp_path: Path, tiny_folder: Path) -> None:
    call_center = tmp_path / "call.wav"
    left, right = tone(1.0), silence(3.0)
    right[-16_000:] = tone(1.0)
    left = np.concatenate([left, silence(2.0)])
    soundfile.write(call_center, np.stack([left, right], axis=1), 16_000)
    done = call(
        "transcribe", call_center, "-", "--channels", "split", model=tiny_folder, stdin=call_center.read_bytes()
    )
    assert done.exit_code == 0, done.output
    assert re.findall(r"\] \[(channel \d)\]: ", done.stdout) == ["channel 1", "channel 2"] * 2
    assert "6.0 s of audio in" in done.stderr


def test_help_needs_none_of_the_slow_libraries() -> None:
    slow = ("torch", "huggingface_hub", "av", "onnxruntime", "soundfile", "scipy", "fastapi", "ray")
    code = f"import sys, lithophone.cli.main; print(*sorted({set(slow)} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_a_model_is_read_without_the_compiler_of_torch() -> None:
    code = "import sys, lithophone; lithophone.load(); print(*{'torch._dynamo', 'sympy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
