"""The three stages, one after another, on eight sung sentences: each learns them by heart, the last one speaks."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lithophone
from lithophone.config import EncoderConfig, TextConfig
from lithophone.tokenizer import Tokenizer
from tests.conftest import ROOT
from tests.recipes.spoken import sing, write_songs

SENTENCES = ("a cab", "bad egg", "a bag", "feed me", "he had", "big cage", "dig", "a fig")
ENCODER = EncoderConfig(hidden_dim=48, num_layers=2, num_heads=2, dim_head=16, feedforward_mult=2, dropout=0.0)
COMMON = "--workers 0 --device cpu --fp32 --log-every 20"


@pytest.fixture(scope="module")
def recipes() -> Iterator[dict[str, ModuleType]]:
    """The recipes, with sizes that two cores train in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "recipes"))
        found = {name: importlib.import_module(name) for name in ("tokenizer", "encoder", "language_model", "speech")}
        plain = found["language_model"].tiny

        def small(tokenizer: Tokenizer) -> TextConfig:
            config: TextConfig = plain(tokenizer)
            return replace(
                config, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, attention_multiplier=32**-0.5,
            )  # fmt: skip

        patch.setattr(found["encoder"], "TINY", ENCODER)
        patch.setattr(found["language_model"], "tiny", small)
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    rows: list[dict[str, object]] = [{"text": text.capitalize() + ".", "lang": "en"} for text in SENTENCES]
    write_songs(folder, rows)
    (folder / "en.txt").write_text("\n".join(str(row["text"]) for row in rows) + "\n")
    return folder


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def run(recipe: ModuleType, folder: Path, options: str, *parts: str) -> Path:
    """Run a recipe with the folders of `parts`, which earlier stages made; gives its own folder."""
    out = folder / recipe.__name__
    paths = {"--out": out, **{f"--{part.replace('_', '-')}": folder / part for part in parts}}
    recipe.main([*options.split(), *(str(word) for pair in paths.items() for word in pair)])
    return out


def with_speech(folder: Path) -> str:
    manifest = folder / "manifest.jsonl"
    return f"--data {manifest}:en --dev {manifest} --cache {folder / 'cache'} --row-frames 50 --plain {COMMON}"


@pytest.fixture(scope="module")
def tokenizer(recipes: dict[str, ModuleType], folder: Path) -> Path:
    return run(recipes["tokenizer"], folder, f"--text en={folder / 'en.txt'} --vocab 300")


@pytest.fixture(scope="module")
def encoder(recipes: dict[str, ModuleType], folder: Path, tokenizer: Path) -> Path:
    length = "--steps 240 --warmup 20 --cooldown 80 --lr 4e-3 --batch-seconds 6"
    return run(recipes["encoder"], folder, f"{with_speech(folder)} {length}", "tokenizer")


@pytest.fixture(scope="module")
def language_model(recipes: dict[str, ModuleType], folder: Path, tokenizer: Path) -> Path:
    length = "--steps 100 --warmup 10 --cooldown 40 --lr 3e-3 --batch-tokens 800"
    text = f"--text en={folder / 'en.txt'} --mix keywords=0 {COMMON}"
    return run(recipes["language_model"], folder, f"{text} {length}", "tokenizer")


def test_the_encoder_learns_eight_clips_by_heart(encoder: Path) -> None:
    rows = log_of(encoder)
    losses = [row for row in rows if "ctc" in row]
    assert all(losses[-1][name] < 0.2 * losses[0][name] for name in ("ctc", "ctc_mid", "ctc_bpe"))
    assert rows[-1]["wer_songs_en"] == 0.0
    assert rows[-1]["wer_bpe_songs_en"] == 0.0
    (report,) = json.loads((encoder / "data.json").read_text())
    assert (report["name"], report["clips"]) == ("songs:en", len(SENTENCES))


def test_the_language_model_learns_to_read_slots(language_model: Path) -> None:
    losses = [row["reply"] for row in log_of(language_model)]
    assert losses[-1] < 0.6 * losses[0]


def test_the_model_learns_eight_clips_by_heart(
    recipes: dict[str, ModuleType], folder: Path, tokenizer: Path, encoder: Path, language_model: Path,
    tones_are_speech: None,
) -> None:  # fmt: skip
    length = "--steps 160 --warmup 20 --cooldown 60 --lr 2e-3 --batch-seconds 10 --mix keywords=0 raw=0.6"
    stages = ("tokenizer", "encoder", "language_model")
    out = run(recipes["speech"], folder, f"{with_speech(folder)} {length}", *stages)
    rows = log_of(out)
    losses = [row["reply"] for row in rows if "reply" in row]
    assert losses[-1] < 0.2 * losses[0]
    assert rows[-1]["wer_songs_en"] == 0.0
    model = lithophone.load(out / "model")
    heard = [model.transcribe(sing(text), 16_000, punctuate=False, decode="greedy").text for text in SENTENCES]
    assert heard == list(SENTENCES)
