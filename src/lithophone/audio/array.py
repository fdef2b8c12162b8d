"""Arrays, tensors and lists -> samples (n, channels)."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.source import name_of
from lithophone.errors import AudioError

RATES_HZ = (1_000, 768_000)
"""Allowed input rates."""

MAX_CHANNELS = 64
"""Tables with more columns are refused as spectrograms."""


def checked_rate(rate_hz: object) -> int:
    """Raises AudioError unless the rate is an integer within RATES_HZ."""
    low, high = RATES_HZ
    if isinstance(rate_hz, numbers.Real) and not isinstance(rate_hz, bool):
        rate = float(rate_hz)
        if low <= rate <= high and rate.is_integer():
            return int(rate)
    raise AudioError(f"the rate is {rate_hz!r}: it must be a whole number of Hz from {low} to {high}, such as 16000")


def array_table(source: Any) -> NDArray[Any]:
    """Samples (n, channels); the longer axis of the source is time. Raises AudioError."""
    return _table(_as_array(source))


def _as_array(source: Any) -> NDArray[Any]:
    if hasattr(source, "detach"):
        source = source.detach().cpu()
        source = source.float() if source.is_floating_point() else source
    try:
        array = np.asarray(source)
    except (TypeError, ValueError) as error:
        raise AudioError(f"{name_of(source)} is no recording ({error}): give a path, bytes, file or array") from error
    if array.dtype.kind == "O":
        raise AudioError(f"{name_of(source)} is no recording: give a path, bytes, file or array")
    if array.size and array.dtype.kind != "f" and array.dtype.newbyteorder("=") not in (np.uint8, np.int16, np.int32):
        raise AudioError(f"{name_of(source)} has type {array.dtype}: allowed are uint8, int16, int32, floats in -1..1")
    return array


def _table(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim not in (1, 2):
        raise AudioError(f"the samples have shape {array.shape}: allowed are (n,), (n, channels) and (channels, n)")
    if array.ndim == 1 or not array.size:
        return array.reshape(-1, 1)
    if min(array.shape) > MAX_CHANNELS:
        raise AudioError(f"shape {array.shape} has more than {MAX_CHANNELS} channels: give samples, not a spectrogram")
    return array.T if array.shape[1] > array.shape[0] else array
