"""The sound of a clip: the part of its file that belongs to it, and how far speech stands above the noise in it."""

from __future__ import annotations

import contextlib
import functools
import io
from pathlib import Path

import numpy as np
import soundfile

from lithophone.audio.reader import RATE_HZ, Samples, load_audio
from lithophone.data.manifest import Entry
from lithophone.errors import AudioError

FRAME = RATE_HZ // 50
"""Samples of 20 ms."""

MAX_SNR_DB = 60.0
"""More cannot be told from digital silence."""


def clip_samples(entry: Entry) -> Samples:
    """Samples (n,) of the clip, float32, 16 kHz, one channel. Raises AudioError as `load_audio` does."""
    if entry.start_s is None and entry.end_s is None:
        return load_audio(entry.audio)
    start_s = entry.start_s or 0.0
    with contextlib.suppress(soundfile.LibsndfileError):
        return _stretch(entry.audio, start_s, entry.end_s)
    samples = _whole(entry.audio)
    end = len(samples) if entry.end_s is None else round(entry.end_s * RATE_HZ)
    return _not_empty(samples[round(start_s * RATE_HZ) : end], entry)


def clip_source(entry: Entry) -> Path | bytes:
    """What a transcriber is given: the file, or a WAV of the stretch of it that is the clip's."""
    if entry.start_s is None and entry.end_s is None:
        return entry.audio
    file = io.BytesIO()
    soundfile.write(file, clip_samples(entry), RATE_HZ, format="WAV", subtype="FLOAT")
    return file.getvalue()


def snr_db(samples: Samples) -> float | None:
    """Rough signal-to-noise ratio in dB, 0..60; None for less than half a second.

    Frames of 20 ms without overlap; the noise is the power that a tenth of the frames stays below, speech and noise
    together the one that a twentieth exceeds (NIST's STNR is taken from a histogram of frames in the same way).
    """
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    if len(frames) < 25:
        return None
    floor, top = np.quantile((frames**2).mean(axis=1), (0.10, 0.95))
    if top <= 0:
        return None
    return float(np.clip(10 * np.log10(max(top - floor, 1e-12) / max(floor, 1e-12)), 0.0, MAX_SNR_DB))


def _stretch(path: Path, start_s: float, end_s: float | None) -> Samples:
    """A part of a file that libsndfile can seek in: an hour need not be decoded for a sentence."""
    with soundfile.SoundFile(path) as sound:
        first = min(round(start_s * sound.samplerate), sound.frames)
        last = sound.frames if end_s is None else min(round(end_s * sound.samplerate), sound.frames)
        if first >= last:
            raise AudioError(f"{path} ends at {sound.frames / sound.samplerate:.2f} s, before {start_s:.2f} s")
        sound.seek(first)
        return load_audio(sound.read(last - first, dtype="float32", always_2d=True), sound.samplerate)


@functools.lru_cache(maxsize=1)
def _whole(path: Path) -> Samples:
    """Clips of one recording follow each other in a manifest: it is decoded once."""
    return load_audio(path)


def _not_empty(samples: Samples, entry: Entry) -> Samples:
    if not len(samples):
        raise AudioError(f"{entry.audio} holds nothing from {entry.start_s} to {entry.end_s} s: check the manifest")
    return samples
