"""int8 weights: exact products of rounded numbers, tokens that do not know of each other, and every kind of layer."""

from __future__ import annotations

import copy
import os
import platform
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lithophone.decode.options import Greedy
from lithophone.decode.scheduler import decode_batch
from lithophone.errors import CheckpointError, ConfigError, OptionError
from lithophone.model.int4_groups import group_size, pack_groups, unpack_groups
from lithophone.model.int8_kernels import (
    ACTIVATION_LEVELS,
    FBGEMM,
    WEIGHT_LEVELS,
    OneDNN,
    Plain,
    activation_levels,
    activation_scales,
    is_exact,
)
from lithophone.model.lora import LoraLinear
from lithophone.model.quantize import (
    QUANTIZATION,
    ROUNDED_AT_ONCE,
    SCALE,
    Int8Matrix,
    Int8Rows,
    dequantize_rows,
    has_int8,
    int8_groups,
    int8_layers,
    is_quantized,
    products,
    products_are_exact,
    quantize_,
    quantize_rows,
    set_int8,
    weight_count,
)
from lithophone.model.speech import GraniteSpeech
from lithophone.model.stored_tensors import stored_tensors, weight_files
from lithophone.model.weights import load_weights, save_weights
from tests.tiny import BPE_LABELS, ENCODER, KINDS, audio_prompt, randomise, tiny_config, tiny_frames, tiny_model

pytestmark = pytest.mark.usefixtures("int8_products")
needs_kernels = pytest.mark.skipif(not products_are_exact(), reason="torch has no exact int8 kernels for this CPU")

LEVELS = activation_levels() or ACTIVATION_LEVELS[0]
FRAMES = 70
N_AUDIO = 15


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def int8_model(kind: str = "base", *, bpe: bool = False, seed: int | None = None) -> GraniteSpeech:
    model = tiny_model(kind, bpe=bpe) if seed is None else tiny_model(kind, bpe=bpe, seed=seed)
    quantize_(model)
    return model


def logits(model: GraniteSpeech) -> Tensor:
    with torch.no_grad():
        return model([audio_prompt(N_AUDIO)], *tiny_frames(FRAMES))[0]


def closeness(a: Tensor, b: Tensor) -> float:
    """The least cosine between two sets of vectors."""
    return float(F.cosine_similarity(a.detach().flatten(0, -2), b.detach().flatten(0, -2), -1).min())


def slow_product(x: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    """What `Int8Matrix` computes, in integers and spelled out: the judge of the fast one."""
    token_scale = activation_scales(x, LEVELS)
    sums = (x / token_scale).round().long() @ values.flatten(1).long().T
    return (sums.double() * scale.double() * token_scale.double()).to(x.dtype)


@pytest.mark.parametrize("few_rows", [False, True])
@pytest.mark.parametrize("shape", [(48, 32), (99, 64), (512, 8192), (ROUNDED_AT_ONCE // 8 + 3, 8), (1, 1), (24, 16, 1)])
@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_products_are_those_of_integers(shape: tuple[int, ...], n: int, few_rows: bool) -> None:
    values, scale = quantize_rows(noise(*shape))
    x = noise(2, n, shape[1], seed=1)
    out = Int8Matrix(values, scale, few_rows=few_rows).product(x)
    torch.testing.assert_close(out, slow_product(x, values, scale), rtol=1e-6, atol=1e-6)


@needs_kernels
def test_decoder_layers_are_laid_out_for_few_rows_and_others_for_many() -> None:
    model = int8_model(bpe=True)
    kinds = {
        path: type(layer.weight.packed) for path, layer in int8_layers(model).items() if hasattr(layer.weight, "packed")
    }
    few = FBGEMM if is_exact(FBGEMM, LEVELS) else OneDNN
    assert {kind for path, kind in kinds.items() if path.startswith("language_model.model.layers.")} == {few}
    assert {kind for path, kind in kinds.items() if path.startswith(("encoder.", "projector."))} == {OneDNN}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_is_close_to_its_float_self(dtype: torch.dtype) -> None:
    layer = randomise(nn.Linear(256, 384)).to(dtype).requires_grad_(False)
    x = noise(5, 256).to(dtype)
    wanted = layer(x)
    quantize_(layer)
    out = layer(x)
    assert out.dtype == dtype
    assert 0 < float((out - wanted).norm() / wanted.norm()) < (0.015 if LEVELS == 127 else 0.02)


def test_rows_are_rounded_to_the_nearest_of_255_steps() -> None:
    weight = noise(6, 40)
    weight[2] *= 1e-3
    values, scale = quantize_rows(weight)
    assert values.abs().amax(1).tolist() == [127] * 6
    assert ((dequantize_rows(values, scale, torch.float32) - weight).abs() <= 0.5001 * scale[:, None]).all()


def test_tokens_have_a_scale_of_their_own() -> None:
    x = noise(4, 40) * torch.tensor([[1.0], [1e-3], [1e4], [1.0]])
    for levels in ACTIVATION_LEVELS:
        steps = x / activation_scales(x, levels)
        torch.testing.assert_close(steps.abs().amax(1), torch.full((4,), float(levels)))


@pytest.mark.parametrize("few_rows", [False, True])
def test_integers_come_out_of_the_packed_form_as_they_went_in(few_rows: bool) -> None:
    values, scale = quantize_rows(noise(99, 64))
    assert torch.equal(Int8Matrix(values, scale, few_rows=few_rows).values, values)
    assert torch.equal(Int8Matrix(values.T.contiguous().T, scale, few_rows=few_rows).values, values)


@pytest.mark.parametrize("few_rows", [False, True])
def test_a_token_does_not_know_its_batch(few_rows: bool) -> None:
    matrix = Int8Matrix(*quantize_rows(noise(70, 64)), few_rows=few_rows)
    x = noise(40, 64, seed=1)
    x[7] *= 1000
    together = matrix.product(x)
    assert all(torch.equal(matrix.product(x[i : i + 1])[0], together[i]) for i in range(40))
    assert torch.equal(matrix.product(x[3:20]), together[3:20])


@pytest.mark.parametrize("few_rows", [False, True])
def test_zeros_stay_zeros_and_what_is_not_finite_stays_so(few_rows: bool) -> None:
    weight = noise(6, 32)
    weight[4] = 0.0
    x = noise(3, 32, seed=1)
    x[0], x[1, 3] = 0.0, float("nan")
    out = Int8Matrix(*quantize_rows(weight), few_rows=few_rows).product(x)
    assert (out[0] == 0).all()
    assert out[1].isnan().all()
    assert out[2, 4] == 0
    assert out[2].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_gives_nearly_the_same_logits(kind: str) -> None:
    wanted, found = logits(tiny_model(kind)), logits(int8_model(kind))
    assert closeness(found, wanted) > (0.99 if LEVELS == 127 else 0.97)
    assert not torch.equal(found, wanted)


def test_the_projector_gives_nearly_the_same_embeddings() -> None:
    with torch.no_grad():
        wanted, found = (m.audio_embeddings(*tiny_frames(FRAMES))[0] for m in (tiny_model(), int8_model()))
    assert closeness(found, wanted) > 0.995


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_the_head_is_int8_tied_or_not(kind: str) -> None:
    model = int8_model(kind).language_model
    assert (model.lm_head is None) == (kind == "plus")
    table = model.model.embed_tokens.weight if model.lm_head is None else model.lm_head.weight
    hidden = noise(3, 64)
    wanted = slow_product(hidden, table.values, table.scale) / model.config.logits_scaling
    torch.testing.assert_close(model.logits(hidden), wanted)


def test_embeddings_are_rows_of_the_table() -> None:
    model = int8_model("plus").language_model
    ids = torch.tensor([[3, 96], [0, 3]])
    found, wanted = model.embed(ids), tiny_model("plus").language_model.embed(ids)
    assert found.shape == wanted.shape
    assert torch.equal(found[0, 0], found[1, 1])
    assert closeness(found, wanted) > 0.9999


def test_the_bpe_head_and_layers_with_adapters_are_int8_as_well() -> None:
    model = int8_model("lora", bpe=True)
    adapted = [path for path, layer in model.named_modules() if isinstance(layer, LoraLinear)]
    assert adapted
    assert {"bpe_head", *adapted} <= int8_layers(model).keys()
    assert all(isinstance(layer.lora_A.weight, nn.Parameter) for layer in map(model.get_submodule, adapted))


def test_what_stays_as_it_was() -> None:
    left = {name for name, tensor in int8_model("base", bpe=True).named_parameters() if tensor.dim() > 1}
    layers = {name.partition(".layers.")[2].partition(".")[2] for name in left if ".layers." in name}
    assert layers == {"attn.rel_pos_emb.weight", "conv.depth_conv.conv.weight"}
    others = {name for name in left if ".layers." not in name}
    assert others == {
        "encoder.input_linear.weight", "encoder.out.weight", "encoder.out_mid.weight", "projector.query",
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_everything_else_keeps_its_number_type(dtype: torch.dtype) -> None:
    model = tiny_model().to(dtype)
    quantize_(model)
    frames, lengths = tiny_frames(FRAMES)
    with torch.no_grad():
        audio, _ = model.audio_embeddings(frames.to(dtype), lengths)
    assert audio.dtype == dtype
    assert model.language_model.embed(torch.tensor([1])).dtype == dtype
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert not any(p.requires_grad for p in model.parameters())


def test_a_batch_is_decoded_as_its_rows_are() -> None:
    model = int8_model()
    options = Greedy(max_new_tokens=8)
    prompts = [noise(n, 64, seed=n) for n in (5, 9, 17)]
    together = decode_batch(model, prompts, options, [0, 0, 0])
    assert [reply.ids for reply in together] == [decode_batch(model, [p], options, [0])[0].ids for p in prompts]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_int8_count(kind: str) -> None:
    model = tiny_model(kind, bpe=True)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert weight_count(model) == count
    quantize_(model)
    assert sum(parameter.numel() for parameter in model.parameters()) < count
    assert weight_count(model) == count


@pytest.mark.parametrize(("kind", "names"), [("base", {"q", "k", "v", "gate", "up"}), ("lora", {"gate", "up"})])
def test_layers_that_read_the_same_input_are_packed_together(kind: str, names: set[str]) -> None:
    layers = int8_layers(int8_model(kind))  # of "lora", q and v have adapters
    together = [path for path, layer in layers.items() if isinstance(layer.weight, Int8Rows)]
    assert {path.rpartition(".")[2].removesuffix("_proj") for path in together} == names
    assert all(path.startswith("language_model.model.layers.") for path in together)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("zeros", "packed"), [((), 3), ((1,), 2), ((0, 2), 0)])
def test_a_product_of_layers_together_is_that_of_each(bias: bool, zeros: tuple[int, ...], packed: int) -> None:
    alone = [randomise(nn.Linear(64, n, bias=bias), seed=n).requires_grad_(False) for n in (48, 16, 24)]
    for number in zeros:
        alone[number].weight.zero_()
    together = copy.deepcopy(alone)
    weights = [quantize_rows(layer.weight) for layer in together]
    paths = (f"language_model.model.layers.3.self_attn.{name}_proj" for name in "qkv")
    set_int8(dict(zip(paths, together, strict=True)), weights, torch.float32)
    for layer in alone:
        quantize_(layer)
    assert sum(isinstance(layer.weight, Int8Rows) for layer in together) == packed
    for x in (noise(1, 1, 64), noise(3, 5, 64)):
        for out, layer, wanted in zip(products(x, *together), together, alone, strict=True):
            assert torch.equal(out, wanted(x))
            assert torch.equal(layer(x), wanted(x))
    assert all(torch.equal(a.weight.values, b.weight.values) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("kind", ["base", "plus", "lora"])
def test_a_state_dict_there_and_back(kind: str) -> None:
    model, again = int8_model(kind, bpe=True), tiny_model(kind, bpe=True, seed=1)
    assert not has_int8(again)
    shapes = {name: tensor.shape for name, tensor in again.state_dict().items()}
    state = model.state_dict()
    assert {name: t.shape for name, t in state.items() if not name.endswith(SCALE)} == shapes
    for layers in int8_groups(again):
        weights = [(state.pop(f"{path}.weight"), state.pop(f"{path}.{SCALE}")) for path in layers]
        for values, scale in weights:
            assert (values.dtype, scale.dtype, scale.shape) == (torch.int8, torch.float32, values.shape[:1])
        set_int8(layers, weights, torch.float32)
    again.load_state_dict(state)
    assert has_int8(again)
    assert torch.equal(logits(again), logits(model))


def test_a_configuration_says_so() -> None:
    assert is_quantized({"quantization_config": QUANTIZATION})
    assert not is_quantized({"model_type": "granite_speech"})
    with pytest.raises(ConfigError, match="'gptq'"):
        is_quantized({"quantization_config": {"quant_method": "gptq"}})


def test_other_devices_are_refused_and_the_layer_is_left_whole() -> None:
    layer = nn.Linear(8, 4, device="meta")
    with pytest.raises(OptionError, match="this is meta: use bfloat16"):
        quantize_(layer)
    assert isinstance(layer.weight, nn.Parameter)
    with pytest.raises(OptionError, match="this is meta"):
        Int8Matrix(*quantize_rows(noise(4, 8))).product(torch.empty(2, 8, device="meta"))


def test_without_exact_products_int8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lithophone.model.quantize.activation_levels", lambda: None)
    with pytest.raises(OptionError, match="overflow on this CPU"):
        quantize_(nn.Linear(8, 4))


@pytest.mark.parametrize("shape", [(48, 32), (99, 64), (512, 8192), (24, 16)])
def test_the_slow_products_are_those_of_integers(shape: tuple[int, ...]) -> None:
    values, scale = quantize_rows(noise(*shape))
    x = noise(2, 5, shape[1], seed=1)
    out = Plain(values, scale).product(x, LEVELS)
    torch.testing.assert_close(out, slow_product(x, values, scale), rtol=1e-6, atol=1e-6)


class Saturating(Plain):
    """Products whose sums of two exceed 16 bits are wrong, as with AVX2 alone."""

    def product(self, x: Tensor, levels: int) -> Tensor:
        return super().product(x, levels) - 1.0 * (2 * (2 * levels + 1) * WEIGHT_LEVELS > 2**15)


def test_sums_that_overflow_are_noticed() -> None:
    assert [is_exact(Plain, levels) for levels in ACTIVATION_LEVELS] == [True, True]
    assert [is_exact(Saturating, levels) for levels in ACTIVATION_LEVELS] == [False, True]


@pytest.mark.parametrize(("most", "chosen"), [(127, 127), (126, 63), (63, 63), (62, None)])
def test_the_most_levels_that_are_exact_are_chosen(
    monkeypatch: pytest.MonkeyPatch, most: int, chosen: int | None
) -> None:
    monkeypatch.setattr("lithophone.model.int8_kernels.is_exact", lambda kind, levels: levels <= most)
    assert activation_levels() == chosen


@needs_kernels
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction set is one of x86")
def test_seven_bits_are_exact_with_avx2_alone() -> None:
    """oneDNN told to use AVX2, as on CPUs without VNNI: the product is that of integers, and so is a whole model's."""
    code = """
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from lithophone.model.int8_kernels import OneDNN, Plain, activation_levels, is_exact

levels = activation_levels()
torch.manual_seed(0)
values, scale = torch.randint(-127, 128, (96, 544), dtype=torch.int8), torch.ones(96)
steps = torch.randint(-levels, levels + 1, (40, 544)).float()
same = torch.equal(OneDNN(values, scale).product(steps, levels), Plain(values, scale).product(steps, levels))
print(is_exact(OneDNN, 127), levels, same)
"""
    told = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    out = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | told, capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["False", "63", "True"]


@needs_kernels
def test_products_do_not_need_torchscript() -> None:
    """Without it the same functions run in Python: TorchScript is deprecated."""
    code = """
import torch
from lithophone.model.int8_kernels import FBGEMM, OneDNN, Plain, activation_levels, activation_scales, is_exact

levels = activation_levels()
torch.manual_seed(0)
values, scale = torch.randint(-127, 128, (96, 544), dtype=torch.int8), torch.rand(96)
x = torch.randn(2, 3, 544)
wanted = Plain(values, scale).product(x, levels)
kinds = [kind for kind in (OneDNN, FBGEMM) if is_exact(kind, levels)]
same = [torch.allclose(kind(values, scale).product(x, levels), wanted, rtol=1e-6, atol=0) for kind in kinds]
print(type(activation_scales).__name__, all(same))
"""
    told = os.environ | {"PYTORCH_JIT": "0"}
    out = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "function True"


def test_seven_bits_are_close_to_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    x, layer = noise(40, 256), randomise(nn.Linear(256, 384)).requires_grad_(False)
    wanted = layer(x)
    errors = []
    monkeypatch.setattr("lithophone.model.quantize.packed", lambda values, scale, *, few_rows: Plain(values, scale))
    for levels in ACTIVATION_LEVELS:
        monkeypatch.setattr("lithophone.model.quantize.activation_levels", lambda levels=levels: levels)
        matrix = Int8Matrix(*quantize_rows(layer.weight))
        errors.append(float((matrix.product(x, layer.bias) - wanted).norm() / wanted.norm()))
    assert errors[0] < errors[1] < 2 * errors[0] < 0.03


def test_nothing_else_is_done_with_an_int8_weight() -> None:
    layer = nn.Linear(8, 4)
    quantize_(layer)
    with pytest.raises(TypeError, match="Int8Matrix"):
        torch.matmul(noise(2, 8), layer.weight)
    with pytest.raises(AssertionError, match="width"):
        Int8Matrix(*quantize_rows(noise(4, 8, 3))).squeeze(-1)


def test_weights_of_zeros_take_no_room_in_a_file(tmp_path: Path) -> None:
    """Their scales stand for them; a float reader sees zeros as well."""
    model = tiny_model(bpe=True)
    block = model.encoder.layers[1]
    for layer in (block.ff1.up_proj, block.ff1.down_proj):
        layer.weight.data.zero_()
    expected = logits(model)
    quantize_(model)
    save_weights(model, tmp_path)
    stored = stored_tensors(weight_files(tmp_path))
    assert "encoder.layers.1.ff1.up_proj.weight" not in stored
    assert "encoder.layers.2.ff1.up_proj.weight" in stored
    for dtype in (torch.int8, torch.float32):
        again = tiny_model(bpe=True, seed=1)
        load_weights(again, weight_files(tmp_path), dtype=dtype)
        assert again.encoder.layers[1].ff1.constant
        assert closeness(logits(again), expected) > 0.97
    wide = replace(ENCODER, feedforward_mult=3)
    with pytest.raises(CheckpointError, match=r"ff1\.up_proj\.weight"):
        load_weights(GraniteSpeech(replace(tiny_config(), encoder_config=wide), BPE_LABELS), weight_files(tmp_path))


def test_rows_of_zeros_take_no_room_in_a_file(tmp_path: Path) -> None:
    model = tiny_model(bpe=True)
    weight = model.language_model.model.layers[0].get_parameter("self_attn.q_proj.weight")
    weight.data[1::2] = 0.0
    expected = logits(model)
    quantize_(model)
    save_weights(model, tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        rows = file.get_slice("language_model.model.layers.0.self_attn.q_proj.weight").get_shape()
    assert rows == [len(weight) // 2, weight.shape[1]]
    for dtype in (torch.int8, torch.float32):
        again = tiny_model(bpe=True, seed=1)
        load_weights(again, weight_files(tmp_path), dtype=dtype)
        assert closeness(logits(again), expected) > 0.97
    assert not again.language_model.model.layers[0].get_parameter("self_attn.q_proj.weight")[1::2].any()


def test_scales_for_other_rows_are_refused(tmp_path: Path) -> None:
    model = tiny_model(bpe=True)
    quantize_(model)
    save_weights(model, tmp_path)
    path, name = tmp_path / "model.safetensors", "language_model.model.layers.0.self_attn.q_proj.weight"
    tensors = load_file(path)
    save_file(tensors | {name: tensors[name][1:].clone()}, path)
    with pytest.raises(CheckpointError, match=r"q_proj\.weight"):
        load_weights(tiny_model(bpe=True), weight_files(tmp_path), dtype=torch.int8)


def test_feed_forwards_of_zeros_are_not_computed(tmp_path: Path) -> None:
    """Of a language model with biases, in int8; floats can be trained."""
    model = tiny_model("biased")
    first, second = (layer.mlp for layer in list(model.language_model.model.layers)[:2])
    for layer in (first.gate_proj, first.up_proj, first.down_proj, second.up_proj):
        layer.weight.data.zero_()
    quantize_(model)
    expected = logits(model)
    save_weights(model, tmp_path)
    found = {}
    for dtype in (torch.int8, torch.float32):
        again = tiny_model("biased", seed=1)
        load_weights(again, weight_files(tmp_path), dtype=dtype)
        found[dtype] = [(layer.mlp.constant, layer.mlp.constant_gate) for layer in again.language_model.model.layers][
            :2
        ]
        assert closeness(logits(again), expected) > 0.97
    assert found == {torch.int8: [(True, True), (False, True)], torch.float32: [(False, False)] * 2}


def test_groups_of_4_bits_are_close_and_half_as_large() -> None:
    weight = noise(6, 96, 1) * torch.tensor([1.0, 5.0, 0.0, 1e-3, 1.0, 1.0])[:, None, None]
    weight[4, 7] = 40.0
    packed, scale = pack_groups(weight)
    assert packed.shape == (6, 48, 1)
    assert packed.dtype == torch.uint8
    assert scale.shape == (6, 3)
    again = unpack_groups(packed, scale)
    assert again.shape == weight.shape
    assert not again[2].any()
    error, whole = (some.view(6, 3, 32).norm(dim=-1) for some in (again - weight, weight))
    error[4, 0] = 0.0
    assert float((error / whole.clamp_min(1e-9)).max()) < 0.13, "one large weight changes its own group alone"


@pytest.mark.parametrize(
    ("width", "size"), [(64, 32), (528, 33), (544, 32), (1024, 32), (65, None), (62, 62), (34, 34), (66, 33)]
)
def test_groups_divide_a_row(width: int, size: int | None) -> None:
    assert group_size(width) == size


@pytest.mark.parametrize("kind", ["base", "biased"])
def test_a_file_with_4_bits_is_read_in_every_dtype(tmp_path: Path, kind: str) -> None:
    """As the weights of the same file in 8 bits, rounded to 4."""
    model = tiny_model(kind, bpe=True)
    model.language_model.model.layers[0].get_parameter("self_attn.q_proj.weight").data[1::2] = 0.0
    quantize_(model)
    chosen = re.compile(r"(language_model.*(q_proj|down_proj)|ff1\.\w+_proj|up_conv|bpe_head)\.weight")
    four, eight = tmp_path / "4", tmp_path / "8"
    save_weights(model, eight)
    save_weights(model, four, four_bits=lambda name: chosen.search(name) is not None)
    sizes = [sum(path.stat().st_size for path in folder.iterdir()) for folder in (four, eight)]
    assert sizes[0] < sizes[1]

    expected = tiny_model(kind, bpe=True, seed=1)
    load_weights(expected, weight_files(eight))
    packed = [name for name, _ in expected.named_parameters() if chosen.search(name)]
    stored = stored_tensors(weight_files(four))
    assert {stored[name].kind for name in packed} == {"U8"}
    for name in packed:
        parameter = expected.get_parameter(name)
        assert stored[name].shape == tuple(parameter.shape)
        parameter.data = unpack_groups(*pack_groups(parameter))
    for dtype in (torch.int8, torch.float32):
        found = tiny_model(kind, bpe=True, seed=1)
        load_weights(found, weight_files(four), dtype=dtype)
        assert closeness(logits(found), logits(expected)) > 0.97
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=0.0, atol=1e-6)
