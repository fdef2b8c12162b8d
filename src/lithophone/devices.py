"""Names of devices and number types -> torch's, and the best there is where nothing was asked for."""

from __future__ import annotations

import torch

from lithophone.errors import OptionError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}
"""int8 stands for weights in int8 and the rest in float32 (`model/quantize.py`)."""


def torch_device(name: str | torch.device | None) -> torch.device:
    """The device of that name, or the best there is; OptionError where it is unknown or absent."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        present = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise OptionError(f"device {str(name)!r} cannot be used; there is {present}") from error
    return device


def torch_dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The number type of that name, or the one that suits the device; OptionError for one that is unknown there."""
    if name is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    found = name if isinstance(name, torch.dtype) else DTYPES.get(name)
    if found is None or found not in DTYPES.values():
        raise OptionError(f"dtype {str(name)!r} is not known; allowed are {', '.join(DTYPES)}")
    if found is torch.int8 and device.type != "cpu":
        raise OptionError(f"dtype 'int8' is for CPUs, and the device is {device}: use bfloat16 there")
    return found
