"""Parts of a base model from a tiny Whisper: a cut tokenizer, its encoder, and its decoder as a language model."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lithophone
from lithophone.errors import OptionError
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.base_model import assemble
from lithophone.train.encoder_task import save_weights
from lithophone.train.shares import parse_shares
from lithophone.train.transplant.distillation import StudentTask
from lithophone.train.transplant.marks import SPARE
from lithophone.train.transplant.statistics import measure
from lithophone.train.transplant.weights import student_config, transplant
from lithophone.train.transplant.whisper import WhisperEncoder
from tests.conftest import ROOT
from tests.recipes.conftest import COMMON
from tests.recipes.spoken import SENTENCES, sing, write_songs
from tests.train.transplant.tiny_whisper import SIZE, noise_windows, tiny_whisper, write_transformers

EMBEDDINGS = "language_model.model.embed_tokens.weight"
VOCABULARY = 264
"""Each byte and the special tokens: the tiny Whisper has no others."""


def recipe(name: str) -> ModuleType:
    """Imported anew, whatever other tests patched in it."""
    sys.modules.pop(name, None)
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """whisper/, tokenizer/, encoder/ and decoder/, and a manifest."""
    folder = tmp_path_factory.mktemp("parts")
    whisper = write_transformers(tiny_whisper(), folder / "whisper")
    write_songs(folder, [{"text": text.capitalize() + ".", "lang": "en"} for text in SENTENCES])
    (folder / "en.txt").write_text("\n".join(SENTENCES))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "recipes"))
        cut = f"--cut {whisper / 'tokenizer.json'} --text en={folder / 'en.txt'} --vocab {VOCABULARY}"
        recipe("tokenizer").main([*cut.split(), "--out", str(folder / "tokenizer")])
        write_encoder(whisper, folder / "encoder", len(Tokenizer.from_folder(folder / "tokenizer")))
        data = f"--data {folder / 'manifest.jsonl'}:en --cache {folder / 'cache'} --row-frames 50 100 --plain"
        parts = f"--tokenizer {folder / 'tokenizer'} --encoder {folder / 'encoder'} --out {folder / 'decoder'}"
        size = f"--whisper {whisper} --plan s1,c1m1 --units 20 --window 2 --batches 2 --batch-seconds 6"
        recipe("transplant_decoder").main([*data.split(), *parts.split(), *size.split()])
    return folder


def write_encoder(whisper: Path, out: Path, n_tokens: int) -> None:
    """Mapped, without training."""
    torch.manual_seed(1)
    teacher = WhisperEncoder.from_folder(whisper)
    statistics, config = measure(teacher, noise_windows(3)), student_config(teacher)
    task = StudentTask(config, n_tokens, teacher, statistics)
    transplant(teacher, task.encoder, statistics)
    out.mkdir()
    save_weights(task.state_dict(), config, out)
    statistics.save(out / "statistics.safetensors")


def test_parts_make_a_base_model(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder / "tokenizer")
    model = assemble(folder / "encoder", folder / "decoder", tokenizer)
    config = model.config
    assert (config.window_size, config.downsample_rate) == (2, 2)
    assert (config.text_config.hidden_size, config.text_config.intermediate_size) == (SIZE + SPARE, 20)
    assert config.text_config.eos_token_id == tokenizer.eos_id
    for part in ("language_model", "projector"):
        for name, tensor in load_file(folder / "decoder" / f"{part}.safetensors").items():
            assert torch.equal(model.state_dict()[name], tensor), name


def test_tokens_have_whispers_embeddings(folder: Path) -> None:
    """Plus the usual position; tokens that Whisper lacks have none."""
    tokenizer, whisper = (
        Tokenizer.from_folder(folder / "tokenizer"), Tokenizer.from_file(folder / "whisper" / "tokenizer.json")
    )  # fmt: skip
    weights = load_file(folder / "whisper" / "model.safetensors")
    theirs = next(t for n, t in weights.items() if n.endswith("decoder.embed_tokens.weight"))
    table = load_file(folder / "decoder" / "language_model.safetensors")[EMBEDDINGS]
    shift = table[tokenizer.id_of("<|pad|>"), :SIZE]
    for ours, name in (("a", "a"), ("<|end_of_text|>", "<|endoftext|>")):
        expected = theirs[whisper.id_of(name)] + shift
        expected -= expected.mean()
        torch.testing.assert_close(table[tokenizer.id_of(ours), :SIZE], expected)
    assert not table[tokenizer.id_of("<|start_of_role|>"), :SIZE].any()


def test_shares_of_languages_are_read() -> None:
    assert parse_shares(["en=3", "fr=0.5"], "LANG=WEIGHT") == {"en": 3.0, "fr": 0.5}
    with pytest.raises(OptionError, match="'en' is not LANG=WEIGHT"):
        parse_shares(["en"], "LANG=WEIGHT")


def test_a_prompt_begins_with_the_start(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder / "tokenizer")
    text = tokenizer.render([{"role": "user", "content": "<|audio|>what was said?"}])
    assert text.startswith("<|start_of_role|><|end_of_role|><|audio|>")
    assert tokenizer.encode(text)[0] == tokenizer.id_of("<|start_of_role|>")


@pytest.mark.full
@pytest.mark.parametrize("extra", ["", "--constant-audio --keep-zeros", "--keep-embeddings --mlp-factor 0.5"])
def test_speech_trains_what_was_mapped(folder: Path, tmp_path: Path, extra: str) -> None:
    manifest = folder / "manifest.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "recipes"))
        options = (
            f"--data {manifest}:en --dev {manifest} --cache {folder / 'cache'} --row-frames 50 100 --plain {COMMON} "
            f"--tokenizer {folder / 'tokenizer'} --encoder {folder / 'encoder'} --language-model {folder / 'decoder'} "
            f"--out {tmp_path} --projector-ctc 0 --steps 60 --warmup 5 --cooldown 20 --lr 1e-3 "
            f"--batch-seconds 6 --log-every 10 --mix raw=0.2 punctuated=0.8 keywords=0 "
            f"--whisper {folder / 'whisper'} {extra}"
        )
        recipe("speech").main(options.split())
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [row["reply"] for row in rows if "reply" in row]
    assert losses[-1] < 0.85 * losses[0]
    divergences = [row["teacher_reply"] for row in rows if "teacher_reply" in row]
    # A random Whisper expects other texts than those that are sung: with its embeddings the two losses compete.
    assert divergences[-1] < divergences[0] or "--keep-embeddings" in extra
    assert not any("ctc" in row for row in rows)
    before, after = (load_file(path)[EMBEDDINGS] for path in (
        folder / "decoder" / "language_model.safetensors", tmp_path / "model" / "model.safetensors",
    ))  # fmt: skip
    assert torch.equal(before.to(after.dtype), after) == ("--keep-embeddings" in extra)
    model = lithophone.load(tmp_path / "model")
    assert isinstance(model.transcribe(np.asarray(sing(SENTENCES[0])), 16_000, decode="greedy").text, str)
