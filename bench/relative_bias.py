"""Four exact forms of Shaw's relative bias, forward and with backward: which one `model/conformer.py` should use.

    python bench/relative_bias.py --out bench/results/relative_bias.json

The forms are timed in turn, many times, and the medians are given with their ratio to the first: an einsum over
gathered vectors, as the reference writes it. Sizes are those of the bundled model and of granite-speech-4.1-2b.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from report import save_results
from torch import Tensor

MAX_POS_EMB = 512
SIZES = {"tiny": (10, 4, 200, 48), "2b": (4, 8, 200, 128)}


def table_window(table: Tensor, size: int) -> Tensor:
    """Vectors of all distances from size - 1 down to -(size - 1): (2 size - 1, d)."""
    return table[MAX_POS_EMB - size + 1 : MAX_POS_EMB + size].flip(0)


def gathered(q: Tensor, table: Tensor) -> Tensor:
    places = torch.arange(q.shape[2], device=q.device)
    return torch.einsum("nhcd,crd->nhcr", q, table[places[:, None] - places + MAX_POS_EMB])


def unfolded(q: Tensor, table: Tensor) -> Tensor:
    windows = table_window(table, q.shape[2]).unfold(0, q.shape[2], 1).flip(0)
    return torch.einsum("nhcd,cdr->nhcr", q, windows)


def skewed(q: Tensor, table: Tensor) -> Tensor:
    size = q.shape[2]
    scores = q @ table_window(table, size).T
    rows = torch.nn.functional.pad(scores, (0, 1)).flatten(2)[..., size - 1 :]
    return rows[..., : size * (2 * size - 1)].unflatten(-1, (size, 2 * size - 1))[..., :size]


def picked(q: Tensor, table: Tensor) -> Tensor:
    size = q.shape[2]
    places = torch.arange(size, device=q.device)
    index = (places - places[:, None] + size - 1).expand(*q.shape[:2], -1, -1)
    return (q @ table_window(table, size).T).gather(-1, index)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gathered": gathered, "unfolded": unfolded, "skewed": skewed, "picked": picked,
}  # fmt: skip


def seconds(run: Callable[[], object], device: str) -> float:
    began = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(size: str, dtype: torch.dtype, device: str, rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of every form, the forms taking turns."""
    blocks, heads, length, dim = SIZES[size]
    q = torch.randn(blocks, heads, length, dim, dtype=dtype, device=device, requires_grad=True)
    table = torch.randn(2 * MAX_POS_EMB + 1, dim, dtype=dtype, device=device, requires_grad=True)
    gradient = torch.randn(blocks, heads, length, length, dtype=dtype, device=device)
    wanted = gathered(q, table)
    for form in FORMS.values():
        torch.testing.assert_close(form(q, table), wanted)
    times: dict[str, dict[str, list[float]]] = {name: {"forward": [], "backward": []} for name in FORMS}
    for _ in range(rounds):
        for name, form in FORMS.items():
            with torch.no_grad():
                times[name]["forward"].append(seconds(lambda form=form: form(q, table), device))  # type: ignore[misc]
            both = seconds(lambda form=form: form(q, table).backward(gradient), device)  # type: ignore[misc]
            times[name]["backward"].append(both)
    return {n: {k: round(1e3 * statistics.median(v[2:]), 3) for k, v in t.items()} for n, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    results = {}
    for size in SIZES:
        for dtype in (torch.float32, torch.bfloat16):
            name = f"{size} {str(dtype).removeprefix('torch.')}"
            results[name] = measure(size, dtype, args.device, args.rounds)
            base = results[name]["gathered"]
            for form, found in results[name].items():
                ratios = "  ".join(f"{k} {v:8.2f} ms  x{base[k] / v:4.2f}" for k, v in found.items())
                print(f"{name:14} {form:9} {ratios}")
    if args.out:
        save_results(args.out, {"milliseconds": results}, args.device)


if __name__ == "__main__":
    main()
