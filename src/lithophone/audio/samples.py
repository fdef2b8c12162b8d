"""Samples as every stage of the pipeline takes them: float32, 16 kHz, one channel, full scale at -1..1."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]

RATE_HZ = 16_000
"""The only rate the models know."""
