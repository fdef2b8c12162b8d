"""The three stages of a base model, run once for all tests: on eight sung sentences, small enough for seconds."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from lithophone.model.config import EncoderConfig, TextConfig
from lithophone.text.prompts import PLUS_SYSTEM, SPEAKERS, WORD_TIMES
from lithophone.text.tokenizer import Tokenizer
from tests.conftest import ROOT
from tests.recipes.spoken import SENTENCES, write_songs

ENCODER = EncoderConfig(hidden_dim=48, num_layers=2, num_heads=2, dim_head=16, feedforward_mult=2, dropout=0.0)
COMMON = "--workers 0 --device cpu --precision float32 --log-every 20"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need the trained stages are for `make test-full`."""
    for item in items:
        if "recipes" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.full)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    rows: list[dict[str, object]] = [{"text": text.capitalize() + ".", "lang": "en"} for text in SENTENCES]
    write_songs(folder, rows)
    (folder / "prompts.txt").write_text("\n".join([PLUS_SYSTEM, SPEAKERS, WORD_TIMES] * 50))
    (folder / "en.txt").write_text("\n".join(str(row["text"]) for row in rows) + "\n")
    return folder


def run(recipe: ModuleType, folder: Path, options: str, *parts: str) -> Path:
    """Run a recipe with the folders of `parts`, which earlier stages made; gives its own folder."""
    out = folder / recipe.__name__
    paths = {"--out": out, **{f"--{part.replace('_', '-')}": folder / part for part in parts}}
    recipe.main([*options.split(), *(str(word) for pair in paths.items() for word in pair)])
    return out


def with_speech(folder: Path) -> str:
    manifest = folder / "manifest.jsonl"
    return f"--data {manifest}:en --dev {manifest} --cache {folder / 'cache'} --row-frames 50 --plain {COMMON}"


@pytest.fixture(scope="session")
def tokenizer(recipes: dict[str, ModuleType], folder: Path) -> Path:
    """The prompts of plus models are in it, or they would be hundreds of tokens long."""
    text = f"--text en={folder / 'en.txt'} en={folder / 'prompts.txt'}"
    return run(recipes["tokenizer"], folder, f"{text} --vocab 500")


@pytest.fixture(scope="session")
def encoder(recipes: dict[str, ModuleType], folder: Path, tokenizer: Path) -> Path:
    length = "--steps 240 --warmup 20 --cooldown 80 --lr 4e-3 --batch-seconds 6"
    return run(recipes["encoder"], folder, f"{with_speech(folder)} {length}", "tokenizer")


@pytest.fixture(scope="session")
def language_model(recipes: dict[str, ModuleType], folder: Path, tokenizer: Path) -> Path:
    length = "--steps 100 --warmup 10 --cooldown 40 --lr 3e-3 --batch-tokens 800"
    text = f"--text en={folder / 'en.txt'} --mix keywords=0 {COMMON}"
    return run(recipes["language_model"], folder, f"{text} {length}", "tokenizer")


@pytest.fixture(scope="session")
def speech(recipes: dict[str, ModuleType], folder: Path, tokenizer: Path, encoder: Path, language_model: Path) -> Path:
    length = "--steps 160 --warmup 20 --cooldown 60 --lr 2e-3 --batch-seconds 10 --mix keywords=0 raw=0.6"
    stages = ("tokenizer", "encoder", "language_model")
    return run(recipes["speech"], folder, f"{with_speech(folder)} {length}", *stages)
