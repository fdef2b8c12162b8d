"""A tiny Whisper becomes an encoder of a base model; an interrupted run ends as an uninterrupted one."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lithophone.model.config import EncoderConfig
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.base_model import assemble
from lithophone.train.run.loop import Trainer
from lithophone.train.transplant.weights import SPARE
from tests.conftest import ROOT
from tests.recipes.conftest import COMMON
from tests.recipes.spoken import SENTENCES, write_songs
from tests.tiny_tokenizer import tiny_tokenizer
from tests.train.transplant.tiny_whisper import LAYERS, SIZE, tiny_whisper, write_transformers

PHASES = ("stem", "second", "heads", "joint")
SHORT = "--stem-steps 2 --second-steps 2 --heads-steps 2 --steps 2 --cooldown 1 --warmup 1 --measured 6"
LONG = (
    "--stem-steps 6 --second-steps 6 --heads-steps 4 "
    "--steps 6 --cooldown 2 --warmup 2 --second-lr 2e-4 --lr 2e-4 --save-every 3 --evaluate-every 2 --measured 6"
)


@pytest.fixture(scope="module")
def recipe() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "recipes"))
        found = importlib.import_module("transplant")
        patch.setattr(found, "DEV_WINDOWS", 1)
        yield found


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformers(tiny_whisper(), tmp_path_factory.mktemp("whisper") / "tiny")


def options(songs: Path, tokenizer: Path, whisper: Path, out: Path, lengths: str) -> list[str]:
    data = f"--data {songs}:en --dev {songs} --cache {songs.parent / 'cache'} --row-frames 250 500 --plain"
    paths = f"--whisper {whisper} --tokenizer {tokenizer} --out {out}"
    return f"{data} {paths} {COMMON} --log-every 1 {lengths}".split()


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    tiny_tokenizer().save(folder / "tokenizer")
    return write_songs(folder, [{"text": text, "lang": "en"} for text in SENTENCES[:2]])


def test_two_steps_of_every_phase(recipe: ModuleType, songs: Path, whisper: Path, tmp_path: Path) -> None:
    command = options(songs, songs.parent / "tokenizer", whisper, tmp_path, SHORT)
    recipe.main(command)
    for phase in PHASES:
        assert [(row["step"], row["kind"]) for row in log_of(tmp_path / phase)] == [
            (1, "train"), (2, "train"), (2, "dev")
        ]  # fmt: skip
    config = EncoderConfig.from_dict(json.loads((tmp_path / "encoder_config.json").read_text()))
    assert (config.hidden_dim, config.num_layers, config.cat_hidden_layers) == (SIZE + SPARE, LAYERS + 2, ())
    weights = load_file(tmp_path / "encoder.safetensors")
    before = (tmp_path / "joint" / "log.jsonl").read_text()
    recipe.main(command)
    assert (tmp_path / "joint" / "log.jsonl").read_text() == before, (
        "a finished run does nothing when it is started again"
    )
    for name, tensor in load_file(tmp_path / "encoder.safetensors").items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.full
def test_weights_that_a_phase_does_not_train_stay_exact(
    recipe: ModuleType, songs: Path, whisper: Path, tmp_path: Path
) -> None:
    """In float32, though phases compute in bfloat16."""
    command = options(songs, songs.parent / "tokenizer", whisper, tmp_path, SHORT)
    command[command.index("float32")] = "bfloat16"
    recipe.main([*command, "--accumulate", "2"])
    before, after = (load_file(tmp_path / phase / "weights.safetensors") for phase in ("second", "heads"))
    blocks = (f"encoder.layers.{n}." for n in range(LAYERS + 1))
    frozen = ("encoder.input_linear.", *blocks, "to_teacher.", "to_decoder.")
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == name.startswith(frozen), name
        assert tensor.dtype in (torch.float32, torch.int64)
    rounded = before["encoder.layers.1.attn.to_q.weight"].bfloat16().float()
    assert not torch.equal(before["encoder.layers.1.attn.to_q.weight"], rounded)


@pytest.fixture(scope="module")
def grown(recipe: ModuleType, folder: Path, tokenizer: Path, whisper: Path, tmp_path_factory: Any) -> Path:
    out: Path = tmp_path_factory.mktemp("grown")
    recipe.main(options(folder / "manifest.jsonl", tokenizer, whisper, out, LONG))
    return out


@pytest.mark.parametrize("phase", PHASES)
def test_phases_lower_their_losses(grown: Path, phase: str) -> None:
    """On the development windows, from the second step to the last. The others begin close to their targets."""
    rows = [row for row in log_of(grown / phase) if row["kind"] == "dev"]
    losses = [
        sum(row[name] for name in row if name.startswith(("block_", "ctc", "text", "teacher_text"))) for row in rows
    ]
    assert losses[-1] < losses[0]


def test_the_result_is_an_encoder_of_a_base_model(grown: Path, tokenizer: Path, language_model: Path) -> None:
    model = assemble(grown, language_model, Tokenizer.from_folder(tokenizer))
    for name, tensor in load_file(grown / "encoder.safetensors").items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert {"cer_songs_en", "wer_bpe_songs_en"} <= log_of(grown / "joint")[-1].keys()


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    recipe: ModuleType, folder: Path, tokenizer: Path, whisper: Path, grown: Path, tmp_path: Path
) -> None:
    """Interrupted in every phase."""
    plain = Trainer.train_step
    made = 0

    def interrupted(self: Trainer[Any], *batches: Any) -> Any:
        nonlocal made
        made += 1
        if made % 5 == 0:
            raise KeyboardInterrupt
        return plain(self, *batches)

    count = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        for _ in range(30):
            try:
                recipe.main(options(folder / "manifest.jsonl", tokenizer, whisper, tmp_path, LONG))
                break
            except KeyboardInterrupt:
                count += 1
    assert count > 3
    expected, found = (load_file(out / "encoder.safetensors") for out in (grown, tmp_path))
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
