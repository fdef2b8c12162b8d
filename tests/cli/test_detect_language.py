"""`lithophone detect-language`, and `transcribe --language auto`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner, Result

from lithophone.checkpoint import load_checkpoint
from lithophone.cli.main import app
from lithophone.languages import LANGUAGES
from lithophone.pipeline.transcriber import Transcriber
from lithophone.transcript import LanguageGuess
from tests.detectors import by_loudness
from tests.sounds import silence, tone

pytestmark = pytest.mark.usefixtures("tones_are_speech")


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "talk.wav", tone(1.0), 16_000)
    return tmp_path / "talk.wav"


@pytest.fixture
def guess(talk: Path, spelling_folder: Path) -> LanguageGuess:
    return Transcriber(load_checkpoint(spelling_folder), detector=by_loudness()).detect_language(talk)


def call(*arguments: object, model: Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--model", str(model)], input=stdin)


def test_a_line_has_file_code_and_probability(talk: Path, guess: LanguageGuess, spelling_folder: Path) -> None:
    done = call("detect-language", talk, "-", model=spelling_folder, stdin=talk.read_bytes())
    assert done.exit_code == 0, done.output
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[1:] for line in lines] == [[guess.language, f"{guess.probability:.3f}"]] * 2
    assert Path(lines[0][0]).name == "talk.wav"


def test_json_has_all_languages(talk: Path, guess: LanguageGuess, spelling_folder: Path) -> None:
    line = json.loads(call("detect-language", talk, "--json", model=spelling_folder).stdout)
    assert list(line) == ["file", "language", "probability", "probabilities"]
    assert line["language"] == guess.language
    assert line["probabilities"] == pytest.approx(guess.probabilities, abs=1e-4)
    assert line["probability"] == max(line["probabilities"].values())


def test_silence_and_failures_have_lines_of_their_own(talk: Path, spelling_folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", silence(1.0), 16_000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF no recording")
    files = tmp_path / "broken.wav", tmp_path / "silence.wav", talk
    done = call("detect-language", *files, tmp_path / "missing.wav", model=spelling_folder)
    assert done.exit_code == 1
    first, second = done.stdout.splitlines()
    assert first.split("\t")[1:] == ["-", "-"]
    assert second.split("\t")[1] in LANGUAGES
    assert "broken.wav" in done.stderr
    assert "missing.wav" in done.stderr
    silent = json.loads(call("detect-language", files[1], "--json", model=spelling_folder).stdout)
    assert (silent["language"], silent["probability"], silent["probabilities"]) == (None, None, {})


def test_a_model_without_a_ctc_head_is_refused(talk: Path, tiny_folder: Path) -> None:
    for command in (("detect-language", talk), ("transcribe", talk, "--language", "auto")):
        done = call(*command, model=tiny_folder)
        assert done.exit_code == 2
        assert "language='auto' needs a CTC head" in done.stderr


def test_transcribe_writes_the_language_that_was_told(
    talk: Path, guess: LanguageGuess, spelling_folder: Path, tmp_path: Path
) -> None:
    options = ("--decode", "greedy", "--max-new-tokens", 6, "-f", "json", "-o", tmp_path / "out")
    done = call("transcribe", talk, "--language", "auto", *options, model=spelling_folder)
    assert done.exit_code == 0, done.output
    [file] = (tmp_path / "out").glob("*.json")
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["language"] == guess.language
    assert document["language_probability"] == pytest.approx(guess.probability, abs=1e-3)
    assert f"1.0 s of audio in {LANGUAGES[document['language']]} ({guess.probability:.2f})" in done.stderr


def test_live_captions_refuse_it(spelling_folder: Path) -> None:
    done = call("listen", "-", "--language", "auto", model=spelling_folder, stdin=b"")
    assert done.exit_code == 2
    assert "name the language of live speech" in done.stderr
