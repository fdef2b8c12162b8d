"""Samples of a clip, and an estimate of its signal-to-noise ratio."""

from __future__ import annotations

import numpy as np

from lithophone.audio.reader import RATE_HZ, Samples, load_audio
from lithophone.data.manifest import Entry

FRAME = RATE_HZ // 50
"""Samples of 20 ms."""

MAX_SNR_DB = 60.0
"""Upper bound of the estimate, reached by digital silence."""


def clip_samples(entry: Entry) -> Samples:
    """Samples (n,) of the clip, float32, 16 kHz, mono. Raises AudioError as `load_audio`."""
    return load_audio(entry.audio, start_s=entry.start_s, end_s=entry.end_s)


def snr_db(samples: Samples) -> float | None:
    """Signal-to-noise ratio in dB, 0..60, estimated; None for less than half a second.

    Frames of 20 ms without overlap; the noise is the 10th percentile of frame power, speech and noise the 95th, much as
    in NIST's STNR.
    """
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    if len(frames) < 25:
        return None
    floor, top = np.quantile((frames**2).mean(axis=1), (0.10, 0.95))
    if top <= 0:
        return None
    return float(np.clip(10 * np.log10(max(top - floor, 1e-12) / max(floor, 1e-12)), 0.0, MAX_SNR_DB))
