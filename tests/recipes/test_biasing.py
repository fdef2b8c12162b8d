"""The base model of the three stages learns to heed lists: eight new sentences, whose rare words it has never heard."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from lithophone.checkpoint import load_checkpoint
from tests.recipes.spoken import write_songs

TEXTS = ("a bad fad", "feed gabe", "a cafe", "he jabs", "big dada", "hide a fig", "he is dead", "a bee hid")


@pytest.fixture(scope="session")
def biased(recipes: dict[str, ModuleType], folder: Path, speech: Path) -> Path:
    """Whatever learns them learns their words from lists and from hearing; both are wanted."""
    place = folder / "biasing"
    manifest = write_songs(place, [{"text": text.capitalize() + ".", "lang": "en"} for text in TEXTS])
    importlib.import_module("biasing").main([
        "--init", str(speech / "model"), "--data", f"{manifest}:en", "--dev", str(manifest),
        "--out", str(place / "out"), *f"--cache {folder / 'cache'} --row-frames 50 --plain --batch-seconds 6 "
        "--largest-list 4 --distractors 2 --steps 240 --warmup 10 --cooldown 120 --lr 2e-3 --evaluate-every 240 "
        "--log-every 10 --workers 0 --device cpu --precision float32".split(),
    ])  # fmt: skip
    return place / "out"


def test_losses_fall(biased: Path) -> None:
    rows = [json.loads(line) for line in (biased / "log.jsonl").read_text().splitlines()]
    for name in ("reply", "tags"):
        found = [row[name] for row in rows if name in row]
        assert sum(found[-5:]) / 5 < 0.75 * found[0], name


def test_words_of_lists_are_written_right(biased: Path) -> None:
    report = json.loads((biased / "report.json").read_text())
    assert set(report["before"]) == set(report["after"]) == {
        f"{rate}{kind}" for rate in ("bwer", "uwer") for kind in ("", "_list", "_cues")
    }  # fmt: skip
    for kind in ("_list", "_cues"):
        assert report["before"][f"bwer{kind}"] > 0.5
        assert report["after"][f"bwer{kind}"] <= 0.5 * report["before"][f"bwer{kind}"]


def test_a_model_without_the_tagger_is_left(biased: Path, speech: Path) -> None:
    found, before = (load_checkpoint(place / "model") for place in (biased, speech))
    assert found.model.state_dict().keys() == before.model.state_dict().keys()
    assert found.config == before.config
    common = (biased / "common-en.txt").read_text().split()
    assert "a" in common
    assert "jabs" not in common
