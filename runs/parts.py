"""The language model of a checkpoint, as a folder of stage 2a.

python runs/parts.py data/version-1.2 checkpoints/language_model
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save_file

from lithophone.checkpoint import load_checkpoint
from lithophone.files import write_json


def main() -> None:
    source, out = sys.argv[1:]
    checkpoint = load_checkpoint(source)
    weights = checkpoint.model.state_dict()
    Path(out).mkdir(parents=True, exist_ok=True)
    write_json(Path(out) / "language_model_config.json", checkpoint.config.text_config.to_dict())
    save_file(
        {name: weights[name].contiguous() for name in weights if name.startswith("language_model.")},
        Path(out) / "language_model.safetensors",
    )


if __name__ == "__main__":
    main()
