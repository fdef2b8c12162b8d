"""Weights from and to the files of both generations, and files that do not fit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lithophone.errors import CheckpointError
from lithophone.model.lora import fold_lora, merge_lora
from lithophone.model.speech import GraniteSpeech
from lithophone.model.stored_tensors import INDEX, stored_tensors, weight_files
from lithophone.model.weights import SHARD_BYTES, load_weights, save_weights
from tests.tiny import BPE_LABELS, KINDS, LORA, reference_model, tiny_config, tiny_model

BLOCKS = tiny_config("base").encoder_config.num_layers
MIXED = "encoder.layers.0.ff1.up_proj.weight"


def empty_model(kind: str = "base", *, bpe: bool = False) -> GraniteSpeech:
    with torch.device("meta"):
        return GraniteSpeech(tiny_config(kind), BPE_LABELS if bpe else None, LORA).eval()


def loaded(folder: Path, kind: str = "base", *, bpe: bool = False, **options: Any) -> GraniteSpeech:
    model = empty_model(kind, bpe=bpe)
    load_weights(model, weight_files(folder), **options)
    return model


def assert_same(left: torch.nn.Module, right: torch.nn.Module) -> None:
    a, b = left.state_dict(), right.state_dict()
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_weights(tiny_model(), tmp_path)
    return tmp_path


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shard_bytes", [SHARD_BYTES, 60_000])
def test_there_and_back(tmp_path: Path, kind: str, shard_bytes: int) -> None:
    model = tiny_model(kind, bpe=True)
    save_weights(model, tmp_path, shard_bytes=shard_bytes)
    assert (tmp_path / INDEX).exists() == (shard_bytes < SHARD_BYTES)
    assert (tmp_path / "adapter_config.json").exists() == (kind == "lora")
    assert_same(loaded(tmp_path, kind, bpe=True), model)


def test_shards_keep_to_their_size_and_the_index_is_complete(tmp_path: Path) -> None:
    save_weights(tiny_model(), tmp_path, shard_bytes=60_000)
    index = json.loads((tmp_path / INDEX).read_text())
    shards = {path.name: load_file(path) for path in tmp_path.glob("model-*")}
    sizes = {name: sum(t.nbytes for t in tensors.values()) for name, tensors in shards.items()}
    assert len(shards) > 5
    assert all(size <= 60_000 or len(shards[name]) == 1 for name, size in sizes.items())
    assert sum(sizes.values()) == index["metadata"]["total_size"]
    assert index["weight_map"] == {key: name for name, tensors in shards.items() for key in tensors}


@pytest.mark.parametrize("kind", ["base", "plus", "wide"])
@pytest.mark.parametrize("published_names", [True, False])
@pytest.mark.parametrize("shards", ["50GB", "100KB"])
def test_what_transformers_saves(tmp_path: Path, kind: str, published_names: bool, shards: str) -> None:
    reference = reference_model(kind)
    reference.save_pretrained(tmp_path, save_original_format=published_names, max_shard_size=shards)
    keys = {key for path in tmp_path.glob("*.safetensors") for key in load_file(path)}
    assert ("encoder.input_linear.weight" in keys) == published_names
    model = loaded(tmp_path, kind)
    state = reference.state_dict()
    assert torch.equal(model.state_dict()[MIXED], state[f"model.{MIXED}"])
    assert torch.equal(model.language_model.model.norm.weight, state["model.language_model.norm.weight"])
    head = model.language_model.lm_head
    assert (head is None) == (kind == "plus")
    assert head is None or torch.equal(head.weight, state["lm_head.weight"])


def test_half_precision_is_that_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    reference_model().save_pretrained(tmp_path)
    model = loaded(tmp_path, dtype=torch.bfloat16)
    cls = transformers.GraniteSpeechForConditionalGeneration
    reference = cls.from_pretrained(tmp_path, dtype=torch.bfloat16).model.encoder
    theirs = reference.state_dict()
    ours = model.encoder.state_dict()
    assert {name: t.dtype for name, t in ours.items()} == {name: theirs[name].dtype for name in ours}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_tensors_are_copies_of_their_own(saved: Path) -> None:
    model = loaded(saved)
    before = model.encoder.input_linear.weight.clone()
    save_weights(tiny_model(seed=1), saved)
    assert torch.equal(model.encoder.input_linear.weight, before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_number_type_can_be_asked_for_on_the_way_out(tmp_path: Path) -> None:
    save_weights(tiny_model(), tmp_path, dtype=torch.bfloat16)
    kinds = {t.dtype for name, t in load_file(tmp_path / "model.safetensors").items() if "num_batches" not in name}
    assert kinds == {torch.bfloat16}


def test_a_smaller_save_removes_the_files_of_the_one_before(tmp_path: Path) -> None:
    save_weights(tiny_model("lora", bpe=True), tmp_path, shard_bytes=60_000)
    save_weights(tiny_model(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_missing_unexpected_and_wrong_shapes_come_in_one_error(saved: Path) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        del tensors["projector.query"]
        tensors["encoder.extra.weight"] = torch.zeros(2, 3)
        tensors["encoder.out.bias"] = torch.zeros(7)

    edit(saved, spoil)
    with pytest.raises(CheckpointError) as caught:
        loaded(saved)
    message = str(caught.value)
    assert "missing (1): projector.query [1, 3, 32]" in message
    assert "unexpected (1): encoder.extra.weight [2, 3]" in message
    assert "wrong shape (1): encoder.out.bias is [7], expected [40]" in message


def test_a_long_list_is_cut_and_counted(saved: Path) -> None:
    edit(saved, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("encoder.")])
    with pytest.raises(CheckpointError, match=r"missing \(\d+\): .*; and \d+ more"):
        loaded(saved)


def test_nothing_is_read_when_something_is_wrong(saved: Path) -> None:
    edit(saved, lambda tensors: tensors.pop("projector.query"))
    model = tiny_model(seed=1)
    with pytest.raises(CheckpointError):
        load_weights(model, weight_files(saved))
    assert_same(model, tiny_model(seed=1))


def test_tables_and_counters_may_be_there_or_not(saved: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["encoder.attention_dists"] = torch.zeros(200, 200, dtype=torch.int64)
        for name in [name for name in tensors if name.endswith("num_batches_tracked")]:
            del tensors[name]

    edit(saved, change)
    assert_same(loaded(saved), tiny_model())


def test_a_tied_head_may_be_stored_but_has_to_be_equal(tmp_path: Path) -> None:
    save_weights(tiny_model("plus"), tmp_path)
    embeddings = "language_model.model.embed_tokens.weight"
    edit(tmp_path, lambda tensors: tensors.update({"language_model.lm_head.weight": tensors[embeddings].clone()}))
    assert_same(loaded(tmp_path, "plus"), tiny_model("plus"))
    edit(tmp_path, lambda tensors: tensors["language_model.lm_head.weight"].add_(1))
    with pytest.raises(CheckpointError, match="set tie_word_embeddings to false"):
        loaded(tmp_path, "plus")


@pytest.mark.parametrize("newer", [False, True])
def test_adapters_of_either_generation_of_names(tmp_path: Path, newer: bool) -> None:
    model = tiny_model("lora")
    save_weights(model, tmp_path)
    if newer:
        path = tmp_path / "adapter_model.safetensors"
        save_file(
            {k.replace("language_model.model.", "model.language_model."): t for k, t in load_file(path).items()}, path
        )
    assert_same(loaded(tmp_path, "lora"), model)


def test_merged_adapters_are_not_saved_twice(tmp_path: Path) -> None:
    model = tiny_model("lora")
    merge_lora(model)
    with pytest.raises(CheckpointError, match="fold_lora"):
        save_weights(model, tmp_path)
    fold_lora(model)
    save_weights(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_folders_that_are_not_complete(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        weight_files(tmp_path / "empty")
    save_weights(tiny_model(), tmp_path, shard_bytes=100_000)
    shutil.move(sorted(tmp_path.glob("model-*"))[0], tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="lacks model-00001-of-"):
        weight_files(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(CheckpointError, match="no index of weights"):
        weight_files(tmp_path)


def test_damaged_and_double_files_are_named(saved: Path) -> None:
    path = saved / "model.safetensors"
    shutil.copy(path, saved / "copy.safetensors")
    with pytest.raises(CheckpointError, match=r"stored twice: in model\.safetensors and in copy\.safetensors"):
        load_weights(empty_model(), [path, saved / "copy.safetensors"])
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="downloaded completely"):
        loaded(saved)


@torch.no_grad()
@pytest.mark.parametrize("zero", [("up_proj", "down_proj"), ("down_proj",)])
def test_a_feed_forward_of_zeros_is_not_computed(tmp_path: Path, zero: tuple[str, ...]) -> None:
    """One with zeros in its last layer alone is: it can be trained."""
    model = tiny_model().eval()
    first = model.encoder.layers[0].ff1
    for name in zero:
        getattr(first, name).weight.zero_()
    save_weights(model, tmp_path)
    found = loaded(tmp_path)
    assert [layer.ff1.constant for layer in found.encoder.layers] == [len(zero) == 2, *[False] * (BLOCKS - 1)]
    x = torch.randn(2, 7, len(first.pre_norm.weight), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found.encoder.layers[0].ff1(x).expand_as(x), first(x), rtol=0, atol=1e-6)


def test_a_file_that_changes_while_it_is_read_is_named(saved: Path) -> None:
    (file,) = weight_files(saved)
    stored = list(stored_tensors([file]).values())
    file.write_bytes(file.read_bytes()[:-40])
    last = max(stored, key=lambda tensor: tensor.end)
    with pytest.raises(
        CheckpointError, match=rf"{re.escape(last.key)} has \d+ bytes, and needs {last.end - last.begin}"
    ):
        last.read()
    file.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        stored[0].read()


def test_scales_of_an_unknown_dtype_are_refused(tmp_path: Path) -> None:
    scales = torch.ones(6).to(torch.float8_e4m3fn)
    tensors = {"encoder.out.weight": torch.ones(4, 8, dtype=torch.int8), "encoder.out.weight_scale": scales}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"encoder\.out\.weight_scale is stored as F8_E4M3; read are F64, F32"):
        stored_tensors(weight_files(tmp_path))
