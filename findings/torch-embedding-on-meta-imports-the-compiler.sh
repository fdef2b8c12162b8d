#!/usr/bin/env bash
# An nn.Embedding built on the meta device, where nothing is computed, imports torch's compiler (torch._dynamo, and with
# it sympy): the shape of normal_, its initial values, comes from a decomposition in Python. nn.Linear, whose initial
# values are uniform, does not. So whoever builds an empty model to read a checkpoint into waits half a second or more.
# Seen with torch 2.13.0. Expected: no import, and microseconds, as for nn.Linear.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import torch
from torch import nn


def built(kind: type[nn.Module]) -> tuple[float, bool]:
    began = time.perf_counter()
    with torch.device("meta"):
        kind(4, 4)
    return time.perf_counter() - began, "torch._dynamo" in sys.modules


linear_s, linear_imports = built(nn.Linear)
embedding_s, embedding_imports = built(nn.Embedding)
again_s, _ = built(nn.Embedding)
print("torch", torch.__version__)
print(f"nn.Linear on meta: {linear_s * 1e3:.1f} ms, torch._dynamo imported: {linear_imports}")
print(f"nn.Embedding on meta: {embedding_s * 1e3:.1f} ms, torch._dynamo imported: {embedding_imports}")
print(f"a second nn.Embedding: {again_s * 1e3:.1f} ms")
assert not linear_imports and embedding_imports and "sympy" in sys.modules
PYTHON
echo "as described"
