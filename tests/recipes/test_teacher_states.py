"""Clips that the recipe `teacher_states` reads: names, languages and samples are those of training."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import soundfile

from tests.conftest import ROOT
from tests.sounds import tone


@pytest.mark.parametrize(
    ("langs", "names"), [("pt", ["a.wav", "part"]), ("pt-BR,en", ["a.wav"]), (None, ["a.wav", "part", "b.wav"])]
)
def test_regions_stretches_and_rates_are_those_of_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, langs: str | None, names: list[str]
) -> None:
    """Faults, F15 and F18."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    recipe = importlib.import_module("teacher_states")
    soundfile.write(tmp_path / "a.wav", tone(2.0, 8_000), 8_000)
    soundfile.write(tmp_path / "b.wav", tone(31.0), 16_000)
    rows = [
        {"audio": "a.wav", "lang": "pt-BR"},
        {"audio": "b.wav", "lang": "pt_PT", "start": 1.0, "end": 1.5, "id": "part"},
        {"audio": "b.wav", "lang": "fr", "start": 0.0, "end": 30.0, "id": "b.wav"},
        {"audio": "b.wav", "lang": "fr", "id": "longer than a window"},
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"text": "x", **row}) + "\n" for row in rows))
    found = dict(recipe.read_clips(tmp_path / "m.jsonl", langs, None, 1))
    lengths = {"a.wav": 32_000, "part": 8_000, "b.wav": 480_000}
    assert {name: len(samples) for name, samples in found.items()} == {name: lengths[name] for name in names}
