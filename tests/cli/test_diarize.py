"""`transcribe --diarize` and `--rttm`: every file that knows speakers has them, and bad input is said at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from lithophone.cli.main import app
from lithophone.diarization.diarizer import EmbeddingDiarizer
from tests.detectors import by_loudness
from tests.diarization.test_diarizer import by_pitch
from tests.sounds import silence, tone

RATE_HZ = 16_000
RTTM = "SPEAKER talk 1 0.0 4.8 <NA> <NA> Ann <NA> <NA>\nSPEAKER talk 1 5.5 5.0 <NA> <NA> Bob <NA> <NA>\n"

pytestmark = pytest.mark.usefixtures("tones_are_speech")


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Two voices, 4 s and 5 s."""
    path = tmp_path / "talk.wav"
    parts = [tone(4.0, frequency_hz=300.0), silence(1.6), tone(5.0, frequency_hz=1000.0)]
    soundfile.write(path, np.concatenate(parts), RATE_HZ, subtype="FLOAT")
    return path


def call(model: Path, *arguments: object) -> Result:
    options = ("--model", model, "--decode", "ctc", "--ctc-head", "characters")
    return CliRunner().invoke(app, ["transcribe", *map(str, (*arguments, *options))])


def test_speakers_of_an_rttm_are_in_every_file(spelling_folder: Path, talk: Path, tmp_path: Path) -> None:
    rttm, out = tmp_path / "who.rttm", tmp_path / "out"
    rttm.write_text(RTTM)
    result = call(spelling_folder, talk, "--rttm", rttm, "-f", "all", "-o", out)
    assert result.exit_code == 0, result.output
    files = {path.suffix[1:]: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}
    assert len(files) == 10
    for kind, content in files.items():
        if kind != "docx":  # a zip: tests/formats has it read back
            assert b"Ann" in content, kind
            assert b"Bob" in content, kind
    segments = json.loads(files["json"])["segments"]
    assert [segment["speaker"] for segment in segments] == ["Ann", "Bob"]
    assert segments[0]["end"] < 5.0 < segments[1]["start"]


def test_speakers_are_found_by_voice(
    spelling_folder: Path, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diarizer = EmbeddingDiarizer(by_pitch, by_loudness())
    monkeypatch.setattr("lithophone.pipeline.transcriber.default_diarizer", lambda: diarizer)
    result = call(spelling_folder, talk, "--diarize", "--speakers", 2, "-f", "rttm")
    assert result.exit_code == 0, result.output
    turns = [line.split() for line in result.stdout.splitlines()]
    assert [(turn[1], turn[7]) for turn in turns] == [("talk", "1"), ("talk", "2")]
    lines = call(spelling_folder, talk, "--diarize").stdout.splitlines()
    assert [line.split("]")[1].strip() for line in lines] == ["[1", "[2"]


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [
        (("--speakers", 2), 2, "speakers=2 goes with diarize"),
        (("--diarize", "--speakers", 0), 2, "speakers is 0"),
        (("--diarize", "--min-speakers", 3, "--max-speakers", 2), 2, "min_speakers is 3 and max_speakers is 2"),
        (("--diarize", "--task", "word-times"), 2, "diarize goes with task 'transcribe'"),
        (("--rttm", "missing.rttm"), 1, "missing.rttm cannot be read"),
        (("--num-speakers", 2), 2, "--diarize --speakers N"),
    ],
)
def test_bad_options_are_said_at_once(
    spelling_folder: Path, talk: Path, options: tuple[object, ...], status: int, error: str
) -> None:
    result = call(spelling_folder, talk, *options)
    assert result.exit_code == status, result.output
    assert error in " ".join(result.stderr.split())
    assert not result.stdout


def test_an_rttm_of_another_recording_is_refused(spelling_folder: Path, talk: Path, tmp_path: Path) -> None:
    rttm = tmp_path / "who.rttm"
    rttm.write_text(RTTM.replace("talk", "lecture"))
    result = call(spelling_folder, talk, "--rttm", rttm)
    assert result.exit_code == 1
    assert "has no recording 'talk': it has lecture" in " ".join(result.stderr.split())


def test_turns_behind_the_end_are_a_warning(spelling_folder: Path, talk: Path, tmp_path: Path) -> None:
    rttm = tmp_path / "who.rttm"
    rttm.write_text(RTTM.replace("5.5 5.0", "5.5 500.0"))
    result = call(spelling_folder, talk, "--rttm", rttm, "-f", "json")
    assert result.exit_code == 0
    assert "has a turn of Bob from 5.5 to 505.5 s, and the recording ends at 10.6 s" in " ".join(result.stderr.split())
    assert [warning["code"] for warning in json.loads(result.stdout)["warnings"]].count("speakers") == 1


def test_a_resumed_run_needs_the_same_rttm(spelling_folder: Path, talk: Path, tmp_path: Path) -> None:
    rttm, out = tmp_path / "who.rttm", tmp_path / "out"
    rttm.write_text(RTTM)
    assert call(spelling_folder, talk, "--rttm", rttm, "-f", "rttm", "-o", out).exit_code == 0
    before = (out / "talk.rttm").read_text()
    (out / "talk.rttm").unlink()
    assert call(spelling_folder, talk, "--rttm", rttm, "-f", "rttm", "-o", out, "--resume").exit_code == 0
    assert (out / "talk.rttm").read_text() == before
    rttm.write_text(RTTM.replace("Bob", "Rob"))
    result = call(spelling_folder, talk, "--rttm", rttm, "-f", "rttm", "-o", out, "--resume")
    assert result.exit_code != 0
    assert "diarizer is" in result.stderr
