"""`lithophone evaluate`: what it prints and writes, what it refuses, and its exit statuses."""

from __future__ import annotations

import builtins
import errno
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from click.testing import Result
from typer.testing import CliRunner

from lithophone.cli.main import app
from lithophone.errors import OptionError
from lithophone.evaluation.plans import changes_of, plans_of, sources_of
from lithophone.evaluation.session import file_name
from lithophone.pipeline.options import TranscribeOptions
from tests.sounds import tone

pytestmark = pytest.mark.usefixtures("tones_are_speech", "short_replies")
ROWS = (("a", "en", "red stone"), ("a", "fr", "un deux"), ("b", "ja", "今日は"), ("a", "en", "Sings, often."))


@pytest.fixture
def short_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lithophone.pipeline.request.max_new_tokens", lambda *_: 4)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four clips of two corpora in three languages."""
    rows = []
    for i, (corpus, lang, text) in enumerate(ROWS):
        soundfile.write(tmp_path / f"{i}.wav", tone(0.5 + 0.1 * i), 16_000)
        rows.append({"audio": f"{i}.wav", "text": text, "lang": lang, "corpus": corpus, "duration": 0.5 + 0.1 * i})
    return written(tmp_path / "manifest.jsonl", rows)


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    """What another tool heard, without one clip and with one of its own."""
    texts = {"0.wav": "red stain", "1.wav": "un deux", "3.wav": "Sings. Often.", "9.wav": "hello"}
    return written(tmp_path / "other tool.jsonl", [{"audio": name, "hyp": text} for name, text in texts.items()])


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--resamples", "50"])


def test_json_keeps_its_keys(manifest: Path, tiny_folder: Path) -> None:
    done = call(manifest, "--model", tiny_folder, "--json", "--limit", 2)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["model"] == str(tiny_folder)
    assert [score["lang"] for score in report["scores"]] == ["en", "fr"]
    assert {
        "corpus", "lang", "measure", "rate", "hits", "substitutions", "deletions", "insertions", "clips", "failed",
        "audio_s", "normalizer",
    } <= set(report["scores"][0])  # fmt: skip
    assert report["scores"][0]["normalizer"].startswith("english (whisper-normalizer")
    assert {"audio_s", "processing_s", "rtfx"} <= set(report)
    assert report["rtfx_includes_file_decoding"] is True
    assert (report["others"], report["paired"]) == ([], [])


def test_a_table_is_never_cut(manifest: Path, tiny_folder: Path) -> None:
    done = call(manifest, "--model", tiny_folder, "--lang", "ja")
    assert done.exit_code == 0, done.output
    assert "CER" in done.stdout
    assert "normaliser characters (lithophone 1, Unicode" in done.stdout
    assert "RTFx" in done.stdout
    assert "…" not in done.stdout


def test_hypotheses_of_another_tool_beside_a_model(manifest: Path, heard: Path, tiny_folder: Path) -> None:
    done = call(manifest, "--hypotheses", f"whisper={heard}", "--model", tiny_folder, "--lang", "en", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["system"], report["model"], report["about"]) == ("whisper", None, {"file": str(heard)})
    assert report["scores"][0]["rate"] == pytest.approx(1 / 4)
    assert report["scores"][0]["interval"] is None  # too few clips
    assert "rtfx" not in report
    assert report["others"][0]["system"] == str(tiny_folder)
    assert [(pair["a"], pair["b"]) for pair in report["paired"]] == [("whisper", str(tiny_folder))]
    assert report["without_reference"] == ["1.wav", "9.wav"]
    assert "2 hypotheses have no reference and were not counted: 1.wav, 9.wav" in done.stderr


def test_hypotheses_alone_load_no_model(manifest: Path, heard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lithophone.pipeline.transcriber.load", lambda *_: pytest.fail("a model was loaded"))
    done = call(manifest, "--hypotheses", heard)
    assert done.exit_code == 1
    assert "other tool: 1 of 4 clips failed and were counted as empty: 2.wav" in done.stderr
    assert "25.00" in done.stdout


def test_decoders_side_by_side_are_kept_and_taken_up(manifest: Path, tiny_folder: Path, tmp_path: Path) -> None:
    change = "decode=beam num_beams=2"
    arguments = (manifest, "--model", tiny_folder, "--also", change, "--save", tmp_path / "kept")
    first = call(*arguments)
    assert first.exit_code == 0, first.output
    assert change in first.stdout
    assert "Paired test" in first.stdout
    files = sorted((tmp_path / "kept").iterdir())
    assert [len(file.read_text(encoding="utf-8").splitlines()) for file in files] == [4, 4]
    again = call(*arguments)
    assert again.stdout == first.stdout  # speeds as well: they are kept with the words
    scored = call(manifest, "--hypotheses", f"kept={files[0]}", "--json")
    assert json.loads(scored.stdout)["scores"][0]["clips"] == 2


def test_what_a_model_cannot_do_is_refused_before_anything_is_decoded(
    manifest: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    change = "decode=ctc punctuate=no"
    done = call(manifest, "--model", tiny_folder, "--also", change, "--save", tmp_path / "kept")
    assert done.exit_code == 2
    assert "cannot do decode='ctc'" in done.stderr
    assert not (tmp_path / "kept").exists()


def test_a_report_is_written(manifest: Path, heard: Path, tmp_path: Path) -> None:
    done = call(manifest, "--hypotheses", heard, "--html", tmp_path / "deep" / "report.html", "--worst", 2)
    page = (tmp_path / "deep" / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<article>") == 2
    assert done.exit_code == 1  # a clip has no hypothesis, and the report is there all the same


def test_keyword_lists_are_made_and_named(manifest: Path, heard: Path, tmp_path: Path) -> None:
    (tmp_path / "common.txt").write_text("often\n")
    lists = ("--distractors", 1, "--common", tmp_path / "common.txt")
    done = call(manifest, "--lang", "en", "--hypotheses", heard, *lists, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert "1 distractors, seed 0; common words:" in report["about"]["lists"]
    assert {"keywords", "b_wer", "u_wer"} <= set(report["scores"][0])


def test_translations_are_scored_in_their_language(manifest: Path, heard: Path) -> None:
    done = call(manifest, "--lang", "fr", "--hypotheses", heard, "--task", "translate", "--to", "en", "--json")
    assert done.exit_code == 0, done.output
    score = json.loads(done.stdout)["scores"][0]
    assert score["translation"]["to"] == "en"
    assert "tok:13a" in score["translation"]["bleu_signature"]
    assert score["normalizer"].startswith("english")


def test_several_manifests_are_one(manifest: Path, heard: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    soundfile.write(tmp_path / "more" / "0.wav", tone(0.5), 16_000)
    more = written(tmp_path / "more" / "m.jsonl", [{"audio": "0.wav", "text": "red", "lang": "en"}])
    assert "twice" not in call(manifest, more, "--hypotheses", heard).stderr


def test_a_normalizer_can_be_chosen(manifest: Path, heard: Path) -> None:
    done = call(manifest, "--lang", "en", "--hypotheses", heard, "--normalizer", "basic")
    assert "normaliser basic (" in done.stdout


def test_a_public_set_on_disk(tmp_path: Path) -> None:
    folder = tmp_path / "LibriSpeech" / "test-clean" / "1" / "2"
    folder.mkdir(parents=True)
    soundfile.write(folder / "1-2-0000.flac", tone(0.5), 16_000)
    (folder / "1-2.trans.txt").write_text("1-2-0000 RED STONE\n")
    hypotheses = written(tmp_path / "h.jsonl", [{"id": "1-2-0000", "hyp": "Red stone."}])
    done = call("--corpus", "librispeech", "--folder", tmp_path, "--hypotheses", hypotheses, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["scores"][0]["rate"] == 0


def test_a_failed_clip_is_told_and_fails_the_command(manifest: Path, tiny_folder: Path) -> None:
    (manifest.parent / "0.wav").write_bytes(b"broken")
    failed = call(manifest, "--model", tiny_folder)
    assert failed.exit_code == 1
    assert "1 of 4 clips failed and were counted as empty: 0.wav" in failed.stderr


def test_empty_references_are_told(manifest: Path, tmp_path: Path) -> None:
    empty = written(manifest, [{"audio": "0.wav", "text": "", "lang": "en"}])
    hypotheses = written(tmp_path / "h.jsonl", [{"audio": "0.wav", "hyp": "red"}])
    done = call(empty, "--hypotheses", hypotheses)
    assert done.exit_code == 0
    assert "1 references are empty" in done.stderr
    assert "inf" in done.stdout


def test_a_broken_line_is_named(manifest: Path, heard: Path) -> None:
    heard.write_text('{"audio": "0.wav", "hyp": "red"}\n{\n')
    done = call(manifest, "--hypotheses", heard)
    assert done.exit_code == 1
    assert "line 2: not JSON" in done.stderr
    manifest.write_text("{\n")
    assert "line 1: not JSON" in call(manifest, "--hypotheses", heard).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name manifests, or a public set"),
        (["--corpus", "librispeech"], "--corpus and --folder go together"),
        (["M", "--split", "test"], "--split with them"),
        (["M", "--corpus", "librispeech", "--folder", "."], "one of the two"),
        (["M", "--hypotheses", "H", "--hypotheses", "H"], "two systems are called other tool"),
        (["M", "--hypotheses", "H", "--save", "x.jsonl"], "go with a model"),
        (["M", "--also", "decode=ctc punctuate=no", "--save", "x.jsonl"], "cannot hold 2 systems"),
        (["M", "--also", "decode='ctc"], "cannot be split: No closing quotation"),
        (["M", "--also", 'keywords="Ada'], "cannot be split: No closing quotation"),
        (["M", "--also", "colour=red"], "is not NAME=VALUE with one of task, "),
        (["M", "--also", "num_beams=four"], "'four' is no int"),
        (["M", "--also", "bias=perhaps"], "'perhaps' must be one of true, yes, false, no"),
        (["M", "--hypotheses", "H", "--level", "2"], "level 2.0"),
        (["M", "--hypotheses", "H", "--normalizer", "french"], "there is no normaliser 'french'"),
        (["M", "--model", "no-such-model", "--normalizer", "kana"], "kana normalises Japanese"),
        (["M", "--hypotheses", "H", "--speakers", "other=x.rttm", "--speakers", "H"], "no system of that name"),
        (["M", "--hypotheses", "H", "--common", "x.txt"], "name a number of --distractors"),
    ],
)
def test_wrong_usage_exits_with_2(manifest: Path, heard: Path, arguments: list[str], words: str) -> None:
    done = call(*({"M": manifest, "H": heard}.get(a, a) for a in arguments))
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_what_is_not_installed_is_named(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("lithophone.evaluation"):
            raise ModuleNotFoundError("No module named 'sacrebleu'", name="sacrebleu")
        return whole(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    done = call(manifest)
    assert done.exit_code == 2
    assert "sacrebleu is missing: pip install 'lithophone[eval]'" in done.stderr


def test_changes_are_read_by_the_kinds_of_the_options() -> None:
    assert changes_of("decode=beam num_beams=4 length_penalty=1 punctuate=no keywords=Ada,Eve tau_ctc=none") == {
        "decode": "beam", "num_beams": 4, "length_penalty": 1.0, "punctuate": False, "keywords": ("Ada", "Eve"),
        "tau_ctc": None,
    }  # fmt: skip
    with pytest.raises(OptionError, match="NAME=VALUE"):
        changes_of("raw")


def test_plans_are_models_times_changes() -> None:
    plans = plans_of(["a", "b"], ["bias=yes"], TranscribeOptions(batch_size=2), False)
    assert [(plan.name, plan.model, plan.biased) for plan in plans] == [
        ("a", "a", False), ("a bias=yes", "a", True), ("b", "b", False), ("b bias=yes", "b", True),
    ]  # fmt: skip
    assert plans[1].about == {"model": "a", "batch_size": 2, "bias": True}


def test_sources_have_names(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.jsonl"
    odd.touch()
    plain, named, other = sources_of(["x/y.ctm", "w=x/z.jsonl", str(odd)], ["w=t.rttm"])
    assert [(s.name, str(s.path)) for s in (plain, named)] == [("y", "x/y.ctm"), ("w", "x/z.jsonl")]
    assert (other.name, other.path) == ("a=b", odd)
    assert (plain.speakers, named.speakers) == (None, Path("t.rttm"))
    [alone] = sources_of(["words.ctm"], ["turns.rttm"])
    assert alone.speakers == Path("turns.rttm")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lithophone.pipeline.transcriber.load", lambda *_: pytest.fail("a model was loaded"))


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("--html", "."), ("--html", "0.wav/report.html"), ("--html", "a" * 300 + ".html"),
        ("--save", "0.wav/kept.jsonl"), ("--save", "0.wav"), ("--save", "b" * 300),
    ],
)  # fmt: skip
def test_an_output_that_cannot_be_written_is_refused_before_the_first_clip(
    manifest: Path, option: str, place: str
) -> None:
    """Faults, V2."""
    done = call(manifest, option, manifest.parent / place)
    assert done.exit_code == 2, done.output
    assert option in done.stderr
    assert "cannot be" in done.stderr


def test_the_table_is_printed_though_the_report_fails_later(
    manifest: Path, heard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lithophone.cli.evaluate.write_whole", full)
    done = call(manifest, "--hypotheses", heard, "--lang", "en", "--html", tmp_path / "r.html")
    assert done.exit_code == 1
    assert "25.00" in done.stdout
    assert "r.html cannot be written: No space left on device" in done.stderr


@pytest.mark.usefixtures("no_model")
def test_a_keyword_that_the_normaliser_empties_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "0.wav", tone(0.5), 16_000)
    row = {"audio": "0.wav", "text": "red", "lang": "en", "keywords": ["red", "(um)"]}
    done = call(written(tmp_path / "m.jsonl", [row]))
    assert done.exit_code == 2, done.output
    assert "the keyword '(um)' is empty after the normaliser english" in done.stderr


@pytest.mark.usefixtures("no_model")
def test_a_keyword_that_no_prompt_can_hold_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "0.wav", tone(0.5), 16_000)
    row = {"audio": "0.wav", "text": "red", "lang": "en", "keywords": ["red, blue"]}
    done = call(written(tmp_path / "m.jsonl", [row]), "--bias")
    assert done.exit_code == 2, done.output
    assert "comma" in done.stderr


@pytest.mark.usefixtures("no_model")
def test_a_file_of_another_model_is_refused_before_the_first_system(manifest: Path, tmp_path: Path) -> None:
    row = {"audio": "0.wav", "hyp": "red", "seconds": 1.0, "duration": 1.0, "made_by": "model=other"}
    written(tmp_path / "second.jsonl", [row])
    done = call(manifest, "--model", "first", "--model", "second", "--save", tmp_path)
    assert done.exit_code == 2, done.output
    assert "was made by 'model=other'" in done.stderr


@pytest.mark.usefixtures("no_model")
def test_systems_whose_files_would_be_one_are_refused(manifest: Path, tmp_path: Path) -> None:
    done = call(manifest, "--model", "a/b", "--model", "a b", "--save", tmp_path / "kept")
    assert done.exit_code == 2, done.output
    assert "two systems would be kept in" in done.stderr


def test_the_file_of_a_system_with_a_long_name_fits() -> None:
    names = {file_name(f"{'m' * 300} num_beams={n}") for n in (2, 3)}
    assert len(names) == 2
    assert {len(name) for name in names} == {200}
    assert file_name("./m decode=beam") == "._m_decode=beam"


@pytest.mark.parametrize(
    ("reference", "hypothesis", "normalizer", "warned"),
    [
        ("We do not know", "We don’t know", None, True),
        ("We don’t know", "we do not know", None, True),
        ("We don’t know", "We don’t know", None, False),
        ("We do not know", "We don’t know", "english-apostrophes", False),
        ("We do not know", "We do know", None, False),
    ],
)
def test_errors_of_typographic_apostrophes_are_told(
    tmp_path: Path, reference: str, hypothesis: str, normalizer: str | None, warned: bool
) -> None:
    """Faults, F20: 0 errors by the named normaliser, 2 by the Leaderboard's, with a warning."""
    soundfile.write(tmp_path / "0.wav", tone(0.5), 16_000)
    rows = [{"audio": "0.wav", "text": reference, "lang": "en", "duration": 0.5}]
    hypotheses = written(tmp_path / "h.jsonl", [{"audio": "0.wav", "hyp": hypothesis}])
    chosen = ("--normalizer", normalizer) if normalizer else ()
    done = call(written(tmp_path / "m.jsonl", rows), "--hypotheses", hypotheses, "--json", *chosen)
    assert done.exit_code == 0, done.output
    assert ("2 errors are typographic apostrophes" in done.stderr) is warned
    score = json.loads(done.stdout)["scores"][0]
    expected = 0 if normalizer or reference == hypothesis else 1 if hypothesis == "We do know" else 2
    assert score["substitutions"] + score["deletions"] + score["insertions"] == expected
