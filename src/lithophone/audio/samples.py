"""Samples: float32, 16 kHz, one channel, full scale -1..1."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]

RATE_HZ = 16_000
"""Sample rate of all models."""
