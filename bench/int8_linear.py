"""int8 products on CPUs: speed and error of torch's kernels for `model/quantize.py`, and the gain of a model.

    python bench/int8_linear.py --out bench/results/int8_linear.json

Per product, in the sizes of granite-speech-4.1-2b and of the bundled model: median milliseconds and mean relative error
over tokens of different magnitude; weights of decoder steps come from memory, not from a cache. Then an encoder pass, a
prompt and decoding steps at real widths and few layers, with the least cosine to float32. One thread by default: on a
busy machine the threads of a product wait for each other.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from report import save_results
from torch import Tensor

from lithophone.model.cache import KVCache
from lithophone.model.config import EncoderConfig, ModelConfig, TextConfig
from lithophone.model.quantize import Int8Matrix, quantize_, quantize_rows
from lithophone.model.speech import GraniteSpeech

Product = Callable[[Tensor], Tensor]
Figures = dict[str, dict[str, float]]

SIZES = {
    (2048, 2048): (16, (1, 2, 4, 8, 16, 64)), (2048, 4096): (8, (1, 8, 400)), (2048, 100_352): (1, (1, 4)),
    (1024, 1024): (1, (400, 1500)), (1024, 4096): (1, (400, 1500)), (192, 576): (1, (1, 1500)),
}  # fmt: skip
"""(Inputs, outputs) of a layer -> number of copies used in turn, numbers of rows."""
SLOW = {"weight only": 64}
"""Most rows a form is measured with."""

LAYERS, VOCABULARY = 3, 8192
MODEL = ModelConfig(
    encoder_config=EncoderConfig(num_layers=LAYERS),
    text_config=TextConfig(num_hidden_layers=LAYERS, vocab_size=VOCABULARY),
    audio_token_index=VOCABULARY - 1,
)
N_FRAMES, N_PROMPT, N_STEPS, BATCHES = 750, 250, 8, (1, 8)
KINDS = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32, "int8 + bfloat16": torch.bfloat16,
}  # fmt: skip
"""Models, and the dtype they compute in beside int8."""


def forms(weight: Tensor) -> dict[str, Product]:
    """The product with a weight `(N, K)`, in all forms."""
    values, scale = quantize_rows(weight)
    half, half_scale = weight.bfloat16(), scale.bfloat16()
    ours = Int8Matrix(values, scale).product
    return {
        "float32": lambda x: F.linear(x, weight),
        "bfloat16": lambda x: F.linear(x.bfloat16(), half),
        "per token": ours,
        "per token, bfloat16": lambda x: ours(x.bfloat16()),
        "per tensor, fbgemm": per_tensor("fbgemm", weight, scale),
        "per tensor, onednn": per_tensor("onednn", weight, scale),
        "_int_mm": lambda x: int_mm(x, values, scale),
        "weight only": lambda x: torch.ops.aten._weight_int8pack_mm(x.bfloat16(), values, half_scale),
    }


def per_tensor(engine: str, weight: Tensor, scale: Tensor) -> Product:
    """`quantized.linear_dynamic`: one scale for all tokens."""
    torch.backends.quantized.engine = engine
    zeros = torch.zeros(len(scale), dtype=torch.int64)
    integers = torch.quantize_per_channel(weight, scale.double(), zeros, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(integers, None)

    def product(x: Tensor) -> Tensor:
        torch.backends.quantized.engine = engine
        return torch.ops.quantized.linear_dynamic(x, packed)

    return product


def int_mm(x: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    """Signed activations, unpacked weights."""
    tokens = x.abs().amax(-1, keepdim=True) / 127
    return torch._int_mm((x / tokens).round_().to(torch.int8), values.T).float().mul_(tokens).mul_(scale)


def compare(products: list[dict[str, Product]], x: Tensor, rounds: int) -> Figures:
    """Form -> median milliseconds and relative error, forms in turn."""
    names = [name for name in products[0] if len(x) <= SLOW.get(name, len(x))]
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            times[name] += [seconds(lambda product=each[name]: product(x)) for each in products]
    wanted = products[0]["float32"](x)
    found = {name: products[0][name](x).float() for name in names}
    errors = {name: float(((y - wanted).norm(dim=-1) / wanted.norm(dim=-1)).mean()) for name, y in found.items()}
    return {name: {"ms": milliseconds(times[name]), "error": round(errors[name], 5)} for name in names}


def measure_products(rounds: int) -> dict[str, Figures]:
    results = {}
    for (inputs, outputs), (copies, many) in SIZES.items():
        products = [forms(torch.randn(outputs, inputs) / inputs**0.5) for _ in range(copies)]
        for rows in many:
            x = torch.randn(rows, inputs) * torch.randn(rows, 1).exp()
            results[f"{rows} x {inputs} x {outputs}"] = compare(products, x, rounds)
    return results


def build_models() -> dict[str, GraniteSpeech]:
    torch.manual_seed(0)
    original = GraniteSpeech(MODEL).eval()
    models = {kind: copy.deepcopy(original).to(dtype) for kind, dtype in KINDS.items()}
    for kind, model in models.items():
        if kind.startswith("int8"):
            quantize_(model)
    return models


@torch.inference_mode()
def measure_models(rounds: int) -> dict[str, Figures]:
    """Part -> kind of model -> median milliseconds and least cosine to float32."""
    models = build_models()
    frames = torch.randn(1, N_FRAMES, MODEL.encoder_config.input_dim)
    prompt = 0.1 * torch.randn(1, N_PROMPT, MODEL.text_config.hidden_size)
    results = {
        "encoder and projector": in_turn(models, lambda m, dtype: m.audio_embeddings(frames.to(dtype))[0], rounds),
        "prompt": in_turn(models, lambda m, dtype: m.language_model(prompt.to(dtype)), rounds),
    }
    for batch in BATCHES:
        caches = {model: filled_cache(model, batch) for model in models.values()}
        results[f"step x {batch}"] = in_turn(models, lambda m, _, c=caches: step(m, c[m]), N_STEPS)
    return results


def filled_cache(model: GraniteSpeech, batch: int) -> KVCache:
    cache = model.language_model.new_cache(batch, N_PROMPT + N_STEPS)
    cache.advance(N_PROMPT)
    return cache


def step(model: GraniteSpeech, cache: KVCache) -> Tensor:
    """One more token in every row."""
    ids = torch.arange(len(cache.lengths))
    hidden = model.language_model(model.language_model.embed(ids)[:, None], cache)
    return model.language_model.logits(hidden)


def in_turn(models: dict[str, GraniteSpeech], run: Callable[..., Tensor], rounds: int) -> Figures:
    times: dict[str, list[float]] = {kind: [] for kind in models}
    last: dict[str, Tensor] = {}
    for _ in range(rounds):
        for kind, model in models.items():
            began = time.perf_counter()
            out = run(model, KINDS[kind])
            times[kind].append(time.perf_counter() - began)
            last[kind] = out.float().flatten(0, -2)
    cosines = {kind: float(F.cosine_similarity(y, last["float32"], dim=-1).min()) for kind, y in last.items()}
    return {kind: {"ms": milliseconds(times[kind]), "cosine": round(cosines[kind], 6)} for kind in models}


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def milliseconds(times: list[float]) -> float:
    return round(1e3 * statistics.median(times), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", message=".*quantize_per_channel.*deprecated")

    results = {"products": measure_products(args.rounds), "models": measure_models(args.rounds)}
    for name, found in (results["products"] | results["models"]).items():
        print(name, *(f"    {form:20} {figures}" for form, figures in found.items()), sep="\n")
    if args.out:
        save_results(args.out, results)


if __name__ == "__main__":
    main()
