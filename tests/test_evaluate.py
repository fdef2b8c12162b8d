"""Error rates and speed over a manifest, in Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from lithophone import evaluate as evaluate_module
from lithophone.cli.main import app
from lithophone.errors import AudioError
from lithophone.evaluate import Score, evaluate, score_entry
from lithophone.longform.options import TranscribeOptions
from lithophone.longform.transcriber import Transcriber
from lithophone.manifest import Entry, read_entries
from lithophone.metrics.counts import ErrorCounts
from lithophone.transcript import Segment, Transcript
from tests.sounds import tone

pytestmark = pytest.mark.usefixtures("tones_are_speech")
OPTIONS = TranscribeOptions(max_new_tokens=4)
ROWS = (("a", "en", "red stone"), ("a", "fr", "un deux"), ("b", "ja", "今日は"), ("a", "en", "sings"))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four clips of two corpora in three languages."""
    rows = []
    for i, (corpus, lang, text) in enumerate(ROWS):
        soundfile.write(tmp_path / f"{i}.wav", tone(0.5 + 0.1 * i), 16_000)
        rows.append({"audio": f"{i}.wav", "text": text, "lang": lang, "corpus": corpus, "duration": 0.5 + 0.1 * i})
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_scores_by_corpus_and_language(tiny: Transcriber, manifest: Path) -> None:
    evaluation = evaluate(tiny, read_entries(manifest), OPTIONS)
    assert [(s.corpus, s.lang, s.measure, s.clips) for s in evaluation.scores] == [
        ("a", "en", "WER", 2), ("a", "fr", "WER", 1), ("b", "ja", "CER", 1),
    ]  # fmt: skip
    assert [s.counts.reference_length for s in evaluation.scores] == [3, 2, 3]
    assert evaluation.audio_s == pytest.approx(2.6)
    assert evaluation.rtfx == pytest.approx(2.6 / evaluation.processing_s)
    assert evaluation.failed == 0


def test_a_clip_that_says_what_is_written_has_no_errors() -> None:
    entry = Entry(Path("a.wav"), "Mr. Smith's colour", "en", corpus="c")
    heard = Transcript((Segment("mister smith's color", 0, 1),), 1.5)
    score = score_entry(entry, heard)
    assert (score.counts.errors, score.audio_s, score.failed) == (0, 1.5, 0)


def test_a_failed_clip_counts_as_empty(caplog: pytest.LogCaptureFixture) -> None:
    entry = Entry(Path("a.wav"), "red stone", "en", 3.0)
    assert score_entry(entry, AudioError("broken")) == Score("", "en", ErrorCounts(deletions=2), 1, 1, 3.0)
    assert "broken" in caplog.text


def test_scores_add() -> None:
    one = Score("c", "en", ErrorCounts(1, 2, 3, 4), 1, 0, 1.0)
    assert one + one == Score("c", "en", ErrorCounts(2, 4, 6, 8), 2, 0, 2.0)


def test_json_on_the_command_line(manifest: Path, tiny_folder: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(manifest), "--model", str(tiny_folder), "--json", "--limit", "2"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert [score["lang"] for score in report["scores"]] == ["en", "fr"]
    assert report["scores"][0]["normalizer"].startswith("english (whisper-normalizer")
    assert report["rtfx_includes_file_decoding"] is True


def test_a_table_on_the_command_line(manifest: Path, tiny_folder: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(manifest), "--model", str(tiny_folder), "--lang", "ja"])
    assert done.exit_code == 0, done.output
    assert "CER" in done.stdout
    assert "characters (lithophone 1, Unicode" in done.stdout
    assert "RTFx" in done.stdout


def test_exit_statuses(manifest: Path, tiny_folder: Path) -> None:
    (manifest.parent / "0.wav").write_bytes(b"broken")
    arguments = ["evaluate", str(manifest), "--model", str(tiny_folder)]
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 1
    assert "1 of 4 clips failed" in failed.stderr
    manifest.write_text("{\n")
    bad = CliRunner().invoke(app, arguments)
    assert bad.exit_code == 1
    assert "line 1: not JSON" in bad.stderr


def test_evaluate_module_says_what_it_counts() -> None:
    assert "deletions" in str(evaluate_module.__doc__)
