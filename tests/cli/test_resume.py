"""`transcribe --resume`: what a run that was killed has done is kept, and its outputs are those of an unbroken run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner, Result

from lithophone.checkpoint import save_checkpoint
from lithophone.cli.main import app
from lithophone.cli.resume import FORMER, JOURNAL
from lithophone.model.speech import GraniteSpeech
from lithophone.pipeline.journal import Journal
from tests.conftest import DEMO
from tests.sounds import tone
from tests.tiny_checkpoint import spelling_checkpoint

OPTIONS = ("--decode", "greedy", "--max-new-tokens", 6, "--word-timestamps", "--limit-s", 2, "--batch-size", 2)


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings of speech of several lengths."""
    folder = tmp_path_factory.mktemp("talks")
    samples, rate_hz = soundfile.read(DEMO, dtype="float32")
    for i in range(12):
        part = samples[: rate_hz * (2 + i % 4)] if i % 6 else samples
        soundfile.write(folder / f"{i:02d}.wav", part, rate_hz)
    return folder


def command(model: Path, out: Path, *more: object, options: tuple[object, ...] = OPTIONS) -> list[str]:
    return [*map(str, ("transcribe", "-o", out, "-f", "json", "--model", model, *options, *more))]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def killed_when(arguments: list[str], is_due: Iterator[bool]) -> bool:
    """Run in a process that is killed as soon as `is_due`; whether it was still running."""
    process = subprocess.Popen([sys.executable, "-m", "lithophone", *arguments], stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not next(is_due):
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    return process.returncode == -signal.SIGKILL


def has_groups(journal: Path, n: int) -> Iterator[bool]:
    while True:
        yield journal.exists() and journal.read_bytes().count(b'\n{"group"') >= n


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_run_that_was_killed_is_resumed_with_the_same_bytes(
    spelling_folder: Path, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*command(spelling_folder, tmp_path / "whole", talks)).exit_code == 0
    out = tmp_path / "out"
    assert killed_when(command(spelling_folder, out, talks, "--threads", 1), has_groups(out / JOURNAL, 2))
    kept = (out / JOURNAL).read_bytes()
    assert 0 < kept.count(b'\n{"done"') < 12
    done = call(*command(spelling_folder, out, talks, "--resume"))
    assert done.exit_code == 0, done.output
    assert outputs(out) == outputs(tmp_path / "whole")
    assert (out / JOURNAL).read_bytes().startswith(kept[: kept.rindex(b'{"group"')])
    assert "finished before" in done.stderr

    monkeypatch.setattr(GraniteSpeech, "encode", None)
    again = call(*command(spelling_folder, out, talks, "--resume"))
    assert again.exit_code == 0, again.output
    assert "0 recordings; 12 finished before" in again.stderr
    assert "wrote" not in again.stderr


@pytest.mark.full
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_ten_kills_at_random_moments_change_no_byte(talks: Path, tmp_path: Path) -> None:
    """The bundled model with its own settings."""
    samples, rate_hz = soundfile.read(DEMO, dtype="float32")
    long = tmp_path / "long.wav"
    soundfile.write(long, [*samples] * 12, rate_hz)
    given = (talks, long, "--word-timestamps", "--batch-size", 2, "--threads", 1)
    began = time.monotonic()
    assert call(*command(Path("lithophone-tiny"), tmp_path / "whole", *given, options=())).exit_code == 0
    whole_s, out, draw = time.monotonic() - began, tmp_path / "out", random.Random(0)
    kills = 0
    for _ in range(40):
        end = time.monotonic() + draw.uniform(2.0, 2.0 + whole_s / 4)
        due = iter(lambda end=end: time.monotonic() > end, None)
        kills += killed_when(command(Path("lithophone-tiny"), out, *given, "--resume", options=()), due)
        if kills == 10:
            break
    done = call(*command(Path("lithophone-tiny"), out, *given, "--resume", options=()))
    assert done.exit_code == 0, done.output
    assert kills == 10
    assert outputs(out) == outputs(tmp_path / "whole")


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "talk.wav", tone(1.0), 16_000)
    return tmp_path / "talk.wav"


@pytest.mark.usefixtures("tones_are_speech")
class TestJournals:
    def test_another_model_option_or_file_is_refused_by_name(
        self, spelling_folder: Path, talk: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        assert call(*command(spelling_folder, out, talk)).exit_code == 0
        before = outputs(out)
        other = tmp_path / "other"
        save_checkpoint(spelling_checkpoint(), other)
        (other / "generation_config.json").write_text(json.dumps({"min_confidence": 0.5}))
        for arguments, words in (
            (
                command(spelling_folder, out, talk, "--resume", "--language", "fr"),
                "language is 'fr', in the journal None",
            ),
            (command(other, out, talk, "--resume"), "model is 'other', in the journal 'spelling'"),
        ):
            refused = call(*arguments)
            assert refused.exit_code == 1
            assert words in refused.stderr
        again = talk.with_name("again.wav")
        again.write_bytes(talk.read_bytes())
        soundfile.write(talk, tone(2.0), 16_000)
        changed = call(*command(spelling_folder, out, talk, again, "--resume"))
        assert changed.exit_code == 1
        assert "talk.wav is another file than the one in" in changed.stderr
        assert "size is 64044, in the journal 32044" in changed.stderr
        assert outputs(out) == {**before, "again.json": before["talk.json"]}

    def test_a_full_disk_is_told_and_what_is_done_is_kept(
        self, spelling_folder: Path, talk: Path, tmp_path: Path
    ) -> None:
        resource = pytest.importorskip("resource")
        files = [talk.with_name(f"{i:02d}.wav") for i in range(14)]
        for file in files:
            file.write_bytes(talk.read_bytes())
        out = tmp_path / "out"
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, limits[1]))
        try:
            full = call(*command(spelling_folder, out, *files))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert full.exit_code == 1
        assert f"{out / JOURNAL} cannot be written (File too large)" in full.stderr
        assert "then resume" in full.stderr
        with Journal(out / JOURNAL) as journal:
            assert 0 < journal.n_done < 14
        done = call(*command(spelling_folder, out, *files, "--resume"))
        assert done.exit_code == 0, done.output
        assert call(*command(spelling_folder, tmp_path / "whole", *files)).exit_code == 0
        assert outputs(out) == outputs(tmp_path / "whole")

    def test_outputs_that_could_not_be_written_come_from_the_journal(
        self, spelling_folder: Path, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as patch:
            patch.setattr("lithophone.cli.output.write_outputs", full)
            failed = call(*command(spelling_folder, tmp_path / "out", talk))
        assert failed.exit_code == 1
        assert "No space left on device" in failed.stderr
        assert "add --resume" in failed.stderr
        monkeypatch.setattr(GraniteSpeech, "encode", None)
        done = call(*command(spelling_folder, tmp_path / "out", talk, "--resume"))
        assert done.exit_code == 0, done.output
        assert list(outputs(tmp_path / "out")) == ["talk.json"]

    def test_other_formats_come_from_the_journal(
        self, spelling_folder: Path, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert call(*command(spelling_folder, tmp_path / "out", talk)).exit_code == 0
        monkeypatch.setattr(GraniteSpeech, "encode", None)
        done = call(*command(spelling_folder, tmp_path / "out", talk, "--resume", "-f", "srt"))
        assert done.exit_code == 0, done.output
        assert set(outputs(tmp_path / "out")) == {"talk.json", "talk.srt"}

    def test_a_run_without_resume_starts_over_and_keeps_the_journal_before(
        self, spelling_folder: Path, talk: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        assert call(*command(spelling_folder, out, talk)).exit_code == 0
        first = (out / JOURNAL).read_bytes()
        done = call(*command(spelling_folder, out, talk, "--language", "fr"))
        assert done.exit_code == 0, done.output
        assert (out / FORMER).read_bytes() == first
        lines = (out / JOURNAL).read_bytes().splitlines(keepends=True)
        (out / JOURNAL).write_bytes(b"".join(line for line in lines if b'"done"' not in line).replace(b":3}", b":2}"))
        assert "--resume would continue it" in call(*command(spelling_folder, out, talk)).stderr

    def test_a_run_beside_another_has_no_journal(self, spelling_folder: Path, talk: Path, tmp_path: Path) -> None:
        pytest.importorskip("fcntl")
        with Journal(tmp_path / "out" / JOURNAL):
            beside = call(*command(spelling_folder, tmp_path / "out", talk))
            assert beside.exit_code == 0, beside.output
            assert "this one cannot be resumed" in beside.stderr
            refused = call(*command(spelling_folder, tmp_path / "out", talk, "--resume"))
        assert refused.exit_code == 1
        assert "in use by another process" in refused.stderr

    def test_split_channels_are_resumed(
        self, spelling_folder: Path, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        soundfile.write(talk, [[a, b] for a, b in zip(tone(1.0), tone(1.0, frequency_hz=700), strict=True)], 16_000)
        arguments = command(spelling_folder, tmp_path / "out", talk, "--channels", "split")
        assert call(*arguments).exit_code == 0
        before = outputs(tmp_path / "out")
        monkeypatch.setattr(GraniteSpeech, "encode", None)
        assert call(*arguments, "--resume").exit_code == 0
        assert outputs(tmp_path / "out") == before

    def test_a_list_names_recordings(self, spelling_folder: Path, talk: Path, tmp_path: Path) -> None:
        done = CliRunner().invoke(
            app, command(spelling_folder, tmp_path / "out", "--from-list", "-"), input=f"{talk}\n"
        )
        assert done.exit_code == 0, done.output
        assert list(outputs(tmp_path / "out")) == ["talk.json"]
        assert "talk.wav: 1.0 s of audio in " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.wav", "--resume"], "--resume needs --output-dir"),
        ([], "no recording is named"),
        (["-", "--from-list", "-"], "give - once"),
        (["--from-list", "no-such-list"], "no-such-list cannot be read"),
    ],
)
def test_wrong_usage_is_refused(arguments: list[str], words: str) -> None:
    done = call("transcribe", *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
