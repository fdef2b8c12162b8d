"""`lithophone batch`: a tiny model, real files, and fsspec's file system in memory."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest
import soundfile
from typer.main import get_command
from typer.testing import CliRunner, Result

from lithophone.batch import run
from lithophone.batch.run import FAILURES
from lithophone.cli.main import app
from lithophone.pipeline.options import TranscribeOptions, fields_of
from tests.batch.outputs import outputs
from tests.conftest import DEMO
from tests.sounds import tone

pytestmark = pytest.mark.usefixtures("tones_are_speech")

OPTIONS = ("--decode", "greedy", "--max-new-tokens", 5, "--quiet")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PAUSE_S", 0.0)


def wav(seconds: float, frequency_hz: float = 440.0) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(seconds, frequency_hz=frequency_hz), 16_000, format="WAV")
    return file.getvalue()


def texts(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in outputs(folder).items() if name.endswith(".txt")}


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    folder = tmp_path / "talks"
    for i in range(6):
        path = folder / ("sub" if i % 2 else ".") / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav(1.0 + i % 3, 200.0 + 90 * i))
    return folder


def batch(model: Path, out: Path, *arguments: object, options: tuple[object, ...] = OPTIONS) -> Result:
    return CliRunner().invoke(app, [*map(str, ("batch", "-o", out, "--model", model, *options, *arguments))])


def manifest(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def test_a_folder_and_a_manifest_give_the_texts_of_transcribe(tiny_folder: Path, talks: Path, tmp_path: Path) -> None:
    arguments = [*map(str, ("transcribe", talks, "-o", tmp_path / "single", "--model", tiny_folder, *OPTIONS))]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert batch(tiny_folder, tmp_path / "folder", talks).exit_code == 0
    lines = [{"audio": f"talks/{path.relative_to(talks)}", "id": path.stem} for path in sorted(talks.rglob("*.wav"))]
    done = batch(tiny_folder, tmp_path / "listed", manifest(tmp_path / "m.jsonl", *lines))
    assert done.exit_code == 0, done.output
    expected = texts(tmp_path / "single")
    assert len(expected) == 6
    assert len(set(expected.values())) > 1
    assert outputs(tmp_path / "folder") == expected
    assert outputs(tmp_path / "listed") == {name.rpartition("/")[2]: data for name, data in expected.items()}


def test_urls_parts_and_options_of_lines(tiny_folder: Path, talks: Path, tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    for path in talks.rglob("*.wav"):
        system.pipe_file(f"/store/{path.name}", path.read_bytes())
    path = manifest(
        tmp_path / "m.jsonl",
        {"audio": "memory://store/0.wav", "id": "url"},
        {"audio": "talks/0.wav", "id": "file"},
        {"audio": "talks/2.wav", "id": "part", "start": 0.5, "end": 1.5, "lang": "fr"},
    )
    done = batch(tiny_folder, tmp_path / "out", path, "memory://store/[12].wav", "-f", "json")
    assert done.exit_code == 0, done.output
    found = {name: json.loads(data) for name, data in outputs(tmp_path / "out").items()}
    assert sorted(found) == ["1.json", "2.json", "file.json", "part.json", "url.json"]
    assert found["url.json"] == found["file.json"]
    assert (found["part.json"]["duration"], found["part.json"]["language"]) == (1.0, "fr")


def test_run_again_does_what_is_missing(tiny_folder: Path, talks: Path, tmp_path: Path) -> None:
    (talks / "bad.wav").write_bytes(b"no recording")
    first = batch(tiny_folder, tmp_path / "out", talks, options=OPTIONS[:-1])
    assert (first.exit_code, len(outputs(tmp_path / "out"))) == (1, 7)
    assert "6 recordings, 12.0 s of audio" in first.stderr
    [failed] = map(json.loads, (tmp_path / "out" / FAILURES).read_text(encoding="utf-8").splitlines())
    assert (failed["id"], failed["attempts"]) == ("bad", 1)
    assert "bad.wav cannot be read" in failed["error"]
    before = outputs(tmp_path / "out")
    (tmp_path / "out" / "sub" / "1.txt").unlink()
    again = batch(tiny_folder, tmp_path / "out", talks, options=OPTIONS[:-1])
    assert "1 recording, 2.0 s of audio" in again.stderr
    assert "5 finished before" in again.stderr
    assert outputs(tmp_path / "out") == before
    # The list of failures is a manifest.
    (talks / "bad.wav").write_bytes(wav(1.0))
    assert batch(tiny_folder, tmp_path / "out", tmp_path / "out" / FAILURES).exit_code == 0
    assert {*outputs(tmp_path / "out")} == {*before, "bad.txt"} - {FAILURES}


def test_what_cannot_be_fetched_is_tried_again(
    tiny_folder: Path, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = fsspec.filesystem("memory")
    system.pipe_file("/flaky/0.wav", (talks / "0.wav").read_bytes())
    real, calls = type(system).get_file, list[str]()

    def flaky(self: Any, path: str, copy: str, **more: Any) -> Any:
        calls.append(path)
        if len(calls) < 3:
            raise TimeoutError("too slow")
        return real(self, path, copy, **more)

    monkeypatch.setattr(type(system), "get_file", flaky)
    failed = batch(tiny_folder, tmp_path / "out", "memory://flaky/0.wav", "--retries", 1)
    assert (failed.exit_code, len(calls)) == (1, 2)
    assert "memory://flaky/0.wav cannot be fetched (TimeoutError: too slow)" in failed.stderr
    assert batch(tiny_folder, tmp_path / "out", "memory://flaky/0.wav").exit_code == 0
    assert {*outputs(tmp_path / "out")} == {"0.txt"}


def test_an_error_of_the_model_is_that_of_its_chunk_and_tried_again(
    tiny_folder: Path, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lithophone.pipeline.transcriber import Transcriber

    real, calls = Transcriber.events, list[int]()

    def failing(self: Transcriber, sources: Any, **more: Any) -> Any:
        calls.append(len(sources))
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return real(self, sources, **more)

    monkeypatch.setattr(Transcriber, "events", failing)
    done = batch(tiny_folder, tmp_path / "out", talks)
    assert done.exit_code == 0, done.output
    assert calls == [6, 1, 1, 1, 1, 1, 1]
    assert len(outputs(tmp_path / "out")) == 6


def test_a_full_disk_ends_the_command_and_keeps_what_is_done(
    tiny_folder: Path, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lithophone.batch import worker

    real = worker.write_whole

    def full(path: Path, data: bytes) -> None:
        if path.name == "4.txt":
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(worker, "write_whole", full)
    done = batch(tiny_folder, tmp_path / "out", talks)
    assert done.exit_code == 1
    assert "No space left on device" in done.stderr
    assert "free space on the disk" in done.stderr
    kept = outputs(tmp_path / "out").keys() - {FAILURES}
    assert kept < {"0.txt", "2.txt", "4.txt", "sub/1.txt", "sub/3.txt", "sub/5.txt"}
    assert kept


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["m.jsonl"], 1, "m.jsonl, line 2: id 'a' is that of m.jsonl, line 1 too"),
        (["-"], 2, "for standard input there is lithophone transcribe -"),
        (["absent.wav"], 1, "absent.wav does not exist"),
        (["s3://bucket/a.wav"], 2, "pip install s3fs"),
        (["memory://empty/*.wav"], 1, "memory://empty/*.wav names no recording"),
        ([], 2, "no recording is named"),
        (["talks", "--workers", "2"], 2, "they need --ray"),
        (["talks", "--ray-address", "auto"], 2, "they need --ray"),
        (["talks", "-f", "doc"], 2, "unknown output format"),
        (["talks", "--highlight-words"], 2, "need"),
    ],
)
def test_what_is_wrong_is_named_before_any_work(
    tiny_folder: Path, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], status: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    manifest(tmp_path / "m.jsonl", {"audio": "talks/0.wav", "id": "a"}, {"audio": "talks/2.wav", "id": "a"})
    done = batch(tiny_folder, tmp_path / "out", *arguments)
    assert (done.exit_code, message in done.stderr) == (status, True), done.stderr
    assert not (tmp_path / "out").exists()


def test_outputs_are_not_mixed_with_those_of_other_options(tiny_folder: Path, talks: Path, tmp_path: Path) -> None:
    assert batch(tiny_folder, tmp_path / "out", talks).exit_code == 0
    other = batch(tiny_folder, tmp_path / "out", talks, "--language", "fr")
    assert other.exit_code == 1
    assert "language is 'fr', in the folder None" in other.stderr


def test_the_folder_must_be_named(talks: Path) -> None:
    done = CliRunner().invoke(app, ["batch", str(talks)])
    assert (done.exit_code, "--output-dir" in done.stderr) == (2, True)


def test_the_missing_extra_is_named(
    tiny_folder: Path, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("lithophone.scale.ray_batch", "lithophone.scale.connection"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    done = batch(tiny_folder, tmp_path / "out", talks, "--ray")
    assert (done.exit_code, "pip install 'lithophone[ray]'" in done.stderr) == (2, True)


def test_options_of_recognition_are_those_of_transcribe() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    ours, theirs = ({p.name: p for p in commands[name].params} for name in ("batch", "transcribe"))
    names = fields_of(TranscribeOptions) | {"model", "device", "dtype", "threads", "quiet", "max_line_width"}
    for name in names:
        assert (ours[name].opts, ours[name].default, ours[name].help) == (
            theirs[name].opts, theirs[name].default, theirs[name].help,
        )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.full
def test_a_command_that_is_killed_leaves_whole_files_and_is_continued(tmp_path: Path) -> None:
    samples, rate_hz = soundfile.read(DEMO, dtype="float32")
    (tmp_path / "talks").mkdir()
    for i in range(16):
        soundfile.write(tmp_path / "talks" / f"{i:02d}.wav", samples[: rate_hz * (2 + i % 3)], rate_hz)

    def command(out: str) -> list[str]:
        arguments = ("batch", tmp_path / "talks", "-o", tmp_path / out, "--decode", "greedy", "--batch-size", 2)
        return [sys.executable, "-m", "lithophone", *map(str, arguments)]

    subprocess.run(command("whole"), check=True, capture_output=True)
    for n in (1, 5, 9):
        process = subprocess.Popen(command("out"), stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list((tmp_path / "out").glob("*.txt"))) < n:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    whole = outputs(tmp_path / "whole")
    assert texts(tmp_path / "out").items() < whole.items()
    done = subprocess.run(command("out"), check=True, capture_output=True, text=True)
    assert "finished before" in done.stderr
    assert texts(tmp_path / "out") == whole


def test_languages_are_told_where_the_option_or_the_line_asks_for_it(
    spelling_folder: Path, talks: Path, tmp_path: Path
) -> None:
    path = manifest(
        tmp_path / "m.jsonl",
        {"audio": "talks/0.wav", "id": "told"},
        {"audio": "talks/2.wav", "id": "given", "lang": "fr"},
    )
    options = ("-f", "json", *OPTIONS)
    done = batch(spelling_folder, tmp_path / "out", path, options=("--language", "auto", *options))
    assert done.exit_code == 0, done.output
    found = {name: json.loads(data) for name, data in outputs(tmp_path / "out").items()}
    assert found["given.json"]["language"] == "fr"
    assert "language_probability" not in found["given.json"]
    told = found["told.json"]
    assert told["language_probability"] == max(told["language_probabilities"].values())

    line = {"audio": "talks/0.wav", "id": "told", "lang": "auto"}
    assert (
        batch(spelling_folder, tmp_path / "line", manifest(tmp_path / "l.jsonl", line), options=options).exit_code == 0
    )
    assert json.loads(outputs(tmp_path / "line")["told.json"]) == told

    arguments = [*map(str, ("detect-language", talks / "0.wav", "--json", "--model", spelling_folder))]
    guess = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert guess["language"] == told["language"]
