"""Checkpoint folders with int8 weights: rounded on the way in, saved, read again, and taken back to floats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lithophone.checkpoint import holds_int8, load_checkpoint, save_checkpoint, suits_int8
from lithophone.errors import CheckpointError, ConfigError, OptionError
from lithophone.model.quantize import SCALE, has_int8, int8_layers, is_quantized, quantize_
from lithophone.pipeline.transcriber import load
from lithophone.runtime import torch_dtype
from lithophone.transcript import Transcript
from tests.test_checkpoint import our_tokens
from tests.tiny import KINDS, tiny_frames
from tests.tiny_checkpoint import tiny_checkpoint

pytestmark = pytest.mark.usefixtures("int8_products")

WEIGHT = "encoder.layers.0.conv.up_conv.weight"


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    save_checkpoint(tiny_checkpoint(), tmp_path / "floats")
    return tmp_path / "floats"


@pytest.fixture
def integers(floats: Path, tmp_path: Path) -> Path:
    save_checkpoint(load_checkpoint(floats, dtype=torch.int8), tmp_path / "integers")
    return tmp_path / "integers"


@pytest.mark.parametrize("kind", KINDS)
def test_rounded_while_reading_is_rounded_afterwards(tmp_path: Path, kind: str) -> None:
    checkpoint = tiny_checkpoint(kind, bpe=True)
    save_checkpoint(checkpoint, tmp_path)
    model = load_checkpoint(tmp_path, dtype=torch.int8).model
    quantize_(checkpoint.model)
    ours, theirs = model.state_dict(), checkpoint.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(tmp_path: Path, kind: str) -> None:
    checkpoint = tiny_checkpoint(kind, bpe=True)
    quantize_(checkpoint.model)
    save_checkpoint(checkpoint, tmp_path, dtype=torch.bfloat16)
    assert holds_int8(tmp_path)
    again = load_checkpoint(tmp_path, dtype=torch.int8)
    assert has_int8(again.model)
    assert len(our_tokens(again)) == 12
    scales = {name: t for name, t in load_file(tmp_path / "model.safetensors").items() if name.endswith(SCALE)}
    assert {t.dtype for t in scales.values()} == {torch.float32}


def test_large_models_and_integers_suit_int8(floats: Path, integers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert suits_int8(integers)
    assert not suits_int8(floats)
    assert load(floats, "cpu").dtype == torch.float32
    monkeypatch.setattr("lithophone.checkpoint.MANY_WEIGHTS", 10_000)
    assert suits_int8(floats)
    assert has_int8(load(floats, "cpu").checkpoint.network)
    monkeypatch.setattr("lithophone.checkpoint.products_are_exact", lambda: False)
    assert not suits_int8(floats)


def test_a_folder_of_integers_loads_as_it_comes_on_a_cpu_without_exact_products(
    integers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made elsewhere, read here: as the floats that the integers stand for."""
    monkeypatch.setattr("lithophone.model.quantize.activation_levels", lambda: None)
    model = load(integers, "cpu")
    assert (has_int8(model.checkpoint.network), model.dtype) == (False, torch.float32)
    with pytest.raises(OptionError, match="overflow on this CPU"):
        load(integers, "cpu", "int8")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_exact_products_integers_are_read_in_the_dtype_given(
    integers: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr("lithophone.model.quantize.activation_levels", lambda: None)
    model = load(integers, "cpu", dtype)
    assert (has_int8(model.checkpoint.network), model.dtype) == (False, getattr(torch, dtype))
    model.save(integers.parent / "again")
    assert not is_quantized(json.loads((integers.parent / "again" / "config.json").read_text()))
    assert not has_int8(load(integers.parent / "again", "cpu").checkpoint.network)


def test_a_folder_of_integers_can_be_read_as_floats(floats: Path, integers: Path) -> None:
    model, wanted = (load_checkpoint(folder, dtype=torch.bfloat16).model for folder in (integers, floats))
    assert not has_int8(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    for path in int8_layers(model):
        a, b = (m.get_submodule(path).weight.detach().float() for m in (model, wanted))
        assert float((a - b).norm() / b.norm()) < 0.02
    with torch.no_grad():
        assert model.audio_embeddings(tiny_frames(70)[0].bfloat16())[0].isfinite().all()


def test_a_folder_of_integers_is_taken_as_it_is(floats: Path, integers: Path) -> None:
    assert has_int8(load(integers, "cpu").checkpoint.model)
    assert not has_int8(load(floats, "cpu").checkpoint.model)
    assert not has_int8(load(integers, "cpu", "float32").checkpoint.model)
    assert has_int8(load(floats, "cpu", "int8").checkpoint.model)


def test_other_devices_and_other_kinds_are_refused(integers: Path) -> None:
    with pytest.raises(OptionError, match="dtype 'int8' is for CPUs"):
        torch_dtype("int8", torch.device("cuda"))
    config = json.loads((integers / "config.json").read_text())
    (integers / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(ConfigError, match="awq"):
        load_checkpoint(integers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_a_scale_that_fits_no_weight_is_unexpected(integers: Path, dtype: torch.dtype) -> None:
    tensors = load_file(integers / "model.safetensors")
    tensors[f"{WEIGHT}_scale"] = torch.ones(3)
    save_file(tensors, integers / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected \(1\): .*up_conv\.weight_scale \[3\]"):
        load_checkpoint(integers, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_floats_with_scales_are_refused(integers: Path, dtype: torch.dtype) -> None:
    tensors = load_file(integers / "model.safetensors")
    tensors[WEIGHT] = tensors[WEIGHT].half()
    save_file(tensors, integers / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"up_conv\.weight is stored as F16 with scales in F32; allowed are F64"):
        load_checkpoint(integers, dtype=dtype)


@pytest.mark.parametrize(("levels", "bits"), [(127, 8), (63, 7)])
def test_a_transcript_tells_what_the_model_computed_in(
    floats: Path, monkeypatch: pytest.MonkeyPatch, levels: int, bits: int
) -> None:
    monkeypatch.setattr("lithophone.model.quantize.activation_levels", lambda: levels)
    told = {}
    for dtype in ("float32", "int8"):
        transcript = load(floats, "cpu", dtype).transcribe(torch.zeros(8000), 16_000)
        told[dtype] = transcript.dtype, transcript.activation_bits
        assert Transcript.from_dict(transcript.to_dict()) == transcript
    assert told == {"float32": ("float32", None), "int8": ("int8", bits)}
    assert transcript.to_dict()["activation_bits"] == bits
