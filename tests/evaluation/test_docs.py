"""Every command of docs/evaluation.md runs as it is written, on small files in place of those it names."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import soundfile
from typer.testing import CliRunner

from lithophone.cli.main import app
from lithophone.data.manifest import read_entries
from lithophone.pipeline.transcriber import Transcriber
from tests.detectors import by_loudness
from tests.sounds import tone
from tests.tiny_checkpoint import tiny_checkpoint

DOCS = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"^```bash\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL))
COMMANDS = [
    line.split("  #")[0].split(" > ")[0].strip() for line in BLOCKS.split("\n") if "lithophone evaluate" in line
]
TEXTS = {"en": ("red stone river", "quick light"), "de": ("roter Stein", "schnelles Licht")}
WORDS = [{"text": "red", "start": 0.1, "end": 0.3, "speaker": "A"}, {"text": "stone", "start": 0.3, "end": 0.5}]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the manifests, hypotheses and turns that the page names."""
    rows = []
    for lang, texts in TEXTS.items():
        for n, text in enumerate(texts):
            soundfile.write(tmp_path / f"{lang}{n}.wav", tone(0.5 + 0.1 * n), 16_000)
            words = {"words": WORDS} if (lang, n) == ("en", 0) else {}
            rows.append({"audio": f"{lang}{n}.wav", "text": text, "lang": lang, "duration": 0.6, **words})
    for name in ("manifest.jsonl", "dev.jsonl", "meetings.jsonl"):
        written(tmp_path / name, rows)
    for name in ("whisper.jsonl", "a.jsonl"):
        written(tmp_path / name, [{"audio": row["audio"], "hyp": row["text"]} for row in rows])
    for name in ("b.ctm", "words.ctm"):
        (tmp_path / name).write_text("".join(f"{Path(row['audio']).stem} 1 0.1 0.2 red\n" for row in rows))
    turns = (f"SPEAKER {Path(row['audio']).stem} 1 0 0.5 <NA> <NA> ann <NA> <NA>\n" for row in rows)
    (tmp_path / "turns.rttm").write_text("".join(turns))
    (tmp_path / "common.txt").write_text("quick\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def models() -> dict[str, Transcriber]:
    plus = Transcriber(tiny_checkpoint("plus"), detector=by_loudness())
    base = Transcriber(tiny_checkpoint(bpe=True), detector=by_loudness())
    return {"PLUS": plus, "M": base, "./my-model": base, "lithophone-tiny": base}


def test_the_page_has_its_commands() -> None:
    assert len(COMMANDS) == 18


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_runs(
    command: str, here: Path, models: dict[str, Transcriber], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_corpus(name: str, folder: Path, split: str | None, lang: str | None, limit: int | None) -> Any:
        assert name.removeprefix("$") in (name, "set")
        return read_entries(here / "manifest.jsonl", lang or ("de" if name == "covost2" else "en"), limit)

    monkeypatch.setattr("lithophone.data.corpora.read_corpus", read_corpus)
    monkeypatch.setattr("lithophone.pipeline.transcriber.load", lambda name, device, dtype: models[name])
    monkeypatch.setattr("lithophone.pipeline.request.max_new_tokens", lambda *_: 4)
    arguments = [*shlex.split(command)[1:], "--resamples", "20"]
    if "--distractors" in arguments:
        arguments[arguments.index("--distractors") + 1] = "1"
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "%" in done.stdout or json.loads(done.stdout)
