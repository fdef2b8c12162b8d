"""People's speech spelled in kana: which clips, under which names and languages, and what is dropped."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from lithophone.data.manifest import read_entries
from lithophone.errors import LithophoneError
from tests.conftest import DEMO, ROOT

PHONES = {"la lune": "l_a l_y_n", "le pied": "l_ə p_j_e", "zwei": "ts_v_aɪ", "click": "k_ǃ_a"}


@pytest.fixture
def loanwords(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The recipe; a table stands for eSpeak."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    recipe = importlib.import_module("loanwords")

    def phones(texts: Sequence[str]) -> list[str]:
        return [PHONES[text] for text in texts]

    monkeypatch.setattr(recipe, "phonemizer", lambda lang: phones)
    return recipe


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "speech.jsonl"
    rows = [("La lune !", "fr", "a"), ("Le pied.", "fr", "a"), ("7 pieds", "fr", "a"), ("La lune.", "fr", "b"),
            ("zwei", "de", "a"), ("Click.", "de", "a"), ("...", "de", "a")]  # fmt: skip
    lines = [
        json.dumps({"audio": str(DEMO), "text": text, "lang": lang, "corpus": corpus, "id": f"clip-{i}"})
        for i, (text, lang, corpus) in enumerate(rows)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_clips_keep_their_names_and_get_kana(loanwords: ModuleType, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "ja.jsonl"
    loanwords.main([f"{speech}:fr@a", f"{speech}:de", "--out", str(out)])
    found = [(entry.name, entry.lang, entry.text, entry.corpus) for entry in read_entries(out)]
    assert found == [
        ("clip-0", "ja-t-fr", "らりゅん", "a"),
        ("clip-1", "ja-t-fr", "るぴぇ", "a"),
        ("clip-4", "ja-t-de", "つばい", "a"),
    ]


def test_other_languages_write_it_with_their_letters(loanwords: ModuleType, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "es.jsonl"
    loanwords.main([f"{speech}:fr@a", f"{speech}:de", "--into", "es", "--out", str(out)])
    assert [(entry.name, entry.lang, entry.text) for entry in read_entries(out)] == [
        ("clip-0", "es-t-fr", "la lun"),
        ("clip-1", "es-t-fr", "l pie"),
        ("clip-4", "es-t-de", "tsvai"),
    ]


def test_what_is_dropped_is_told(
    loanwords: ModuleType, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loanwords.main([f"{speech}:fr:3", f"{speech}:de", "--out", str(tmp_path / "ja.jsonl")])
    told = capsys.readouterr().out
    assert told.startswith("3 clips in ")
    assert "'digits': 1" in told
    assert "'no text': 1" in told
    assert "'ǃ'" in told


@pytest.mark.parametrize("spec", ["M:xx", "M:fr@nowhere", "M:fr:some", "M"])
def test_what_cannot_be_spelled_is_refused(loanwords: ModuleType, speech: Path, tmp_path: Path, spec: str) -> None:
    with pytest.raises(LithophoneError, match=r"one of en, fr, de|name a corpus"):
        loanwords.main([spec.replace("M", str(speech)), "--out", str(tmp_path / "ja.jsonl")])
