"""Two steps of every stage of a base model: each reads what the one before has written, and the last one is a model."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from lithophone.checkpoint import load_checkpoint
from lithophone.model.config import TextConfig
from lithophone.text.tokenizer import Tokenizer
from tests.conftest import ROOT
from tests.recipes.conftest import ENCODER
from tests.recipes.spoken import SENTENCES, write_songs

RUN = "--workers 0 --device cpu --precision float32 --log-every 1 --steps 2"


def losses(folder: Path) -> dict[str, float]:
    """The numbers of the second step."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return next(row for row in rows if row["step"] == 2 and row["kind"] == "train")


def test_the_stages_of_a_base_model_fit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    stages = {name: importlib.import_module(name) for name in ("tokenizer", "encoder", "language_model", "speech")}
    manifest = write_songs(tmp_path, [{"text": text, "lang": "en-GB"} for text in SENTENCES[:2]])
    (tmp_path / "en.txt").write_text("\n".join(SENTENCES) + "\n")
    small(stages["language_model"], monkeypatch)
    monkeypatch.setattr(stages["encoder"], "TINY", ENCODER)

    def run(name: str, options: str, *parts: str) -> Path:
        folders = [word for part in parts for word in (f"--{part.replace('_', '-')}", str(tmp_path / part))]
        stages[name].main([*options.split(), *folders, "--out", str(tmp_path / name)])
        return tmp_path / name

    speech = f"--data {manifest}:en --dev {manifest} --dev-langs en-US --cache {tmp_path / 'cache'} --row-frames 50"
    run("tokenizer", f"--text en={tmp_path / 'en.txt'} --vocab 420")
    encoder = run("encoder", f"{speech} --batch-seconds 2 {RUN}", "tokenizer")
    assert all(math.isfinite(losses(encoder)[name]) for name in ("ctc", "ctc_mid", "ctc_bpe"))
    text = run(
        "language_model", f"--text en={tmp_path / 'en.txt'} --mix keywords=0 --batch-tokens 400 {RUN}", "tokenizer"
    )
    assert math.isfinite(losses(text)["reply"])
    parts = ("tokenizer", "encoder", "language_model")
    model = run("speech", f"{speech} --batch-seconds 2 --mix keywords=0 {RUN}", *parts)
    assert all(math.isfinite(losses(model)[name]) for name in ("reply", "ctc"))
    assert json.loads((model / "data.json").read_text())[0]["name"] == "songs:en"
    assert load_checkpoint(model / "model").language_ids
    before = (model / "log.jsonl").read_text()
    run("speech", f"{speech} --batch-seconds 2 --mix keywords=0 {RUN}", *parts)
    assert (model / "log.jsonl").read_text() == before, "a finished run does nothing when it is started again"
    (tmp_path / "speech").rename(tmp_path / "new each time")
    repeated = run("speech", f"{speech} --batch-seconds 2 --mix keywords=0 {RUN} --repeated 2", *parts)
    names = ("reply", "ctc", "norm")
    assert [losses(repeated)[name] for name in names] == [losses(tmp_path / "new each time")[name] for name in names]


def test_repeated_batches_are_made_once_and_come_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    recipe = importlib.import_module("speech")
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number

    found = list(islice(recipe.RepeatedBatches(make, distinct=5, start=0, seed=3), 15))
    assert found[:5] == made == [0, 1, 2, 3, 4]
    assert sorted(found[5:10]) == sorted(found[10:]) == found[:5]
    assert found[5:10] != found[10:]
    assert list(islice(recipe.RepeatedBatches(make, distinct=5, start=7, seed=3), 8)) == found[7:]


def small(language_model: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = language_model.tiny

    def tiny(tokenizer: Tokenizer) -> TextConfig:
        config: TextConfig = plain(tokenizer)
        return replace(
            config, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, attention_multiplier=8**-0.5, max_position_embeddings=1024,
        )  # fmt: skip

    monkeypatch.setattr(language_model, "tiny", tiny)
