"""Augmentation: speed, room, microphone, noise, codec and gain on samples; SpecAugment on frames.

Randomness comes from the caller. Samples: numpy float32 (n,) at 16 kHz; frames: torch (B, T, 160).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from torch import Tensor

from lithophone.audio.features import FRAME_S, N_MELS, RATE_HZ

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Augment:
    """Probabilities and ranges; `Augment.none()` changes nothing."""

    speed_p: float = 0.7
    speed_range: tuple[float, float] = (0.84, 1.18)
    room_p: float = 0.3
    room_decay_s: tuple[float, float] = (0.1, 0.5)
    room_direct_db: tuple[float, float] = (3.0, 20.0)
    microphone_p: float = 0.5
    microphone_db: float = 5.0
    microphone_low_hz: tuple[float, float] = (40.0, 350.0)
    microphone_high_hz: tuple[float, float] = (3000.0, 12000.0)
    noise_p: float = 0.6
    noise_snr_db: tuple[float, float] = (3.0, 40.0)
    babble_p: float = 0.08
    babble_snr_db: tuple[float, float] = (10.0, 30.0)
    babble_voices: tuple[int, int] = (3, 7)
    codec_p: float = 0.15
    gain_db: tuple[float, float] = (-12.0, 6.0)
    spec_p: float = 0.9
    time_masks_per_s: float = 0.3
    time_mask_frames: int = 12
    mel_masks: int = 2
    mel_mask_bands: int = 10

    @staticmethod
    def none() -> Augment:
        return Augment(speed_p=0, room_p=0, microphone_p=0, noise_p=0, babble_p=0, codec_p=0, gain_db=(0, 0), spec_p=0)


STRONG = Augment(
    room_p=0.4, noise_p=0.5, noise_snr_db=(2.0, 25.0), microphone_p=0.7, spec_p=1.0, time_masks_per_s=0.8,
    time_mask_frames=16, mel_mask_bands=16,
)  # fmt: skip
"""For stages behind a frozen encoder, which fits its training clips better than new ones."""

KNOTS = 8
"""Points of a microphone's frequency response, equally spaced in octaves from 60 Hz to 8 kHz."""

SLOPE_DB = 18.0
"""Roll-off per octave outside a microphone's band."""


def change_speed(samples: Samples, speed: float) -> Samples:
    """Resample to play `speed` times as fast, pitch included: n samples become about n / speed."""
    out: Samples = soxr.resample(samples, RATE_HZ * speed, RATE_HZ, quality="LQ")
    return out


def distort(samples: Samples, augment: Augment, rng: np.random.Generator) -> Samples:
    """Room, noise, microphone, gain and codec, each with its own probability."""
    if rng.random() < augment.room_p:
        samples = add_room(samples, rng.uniform(*augment.room_decay_s), rng.uniform(*augment.room_direct_db), rng)
    if rng.random() < augment.noise_p:
        samples = add_noise(samples, coloured_noise(len(samples), rng), rng.uniform(*augment.noise_snr_db))
    if rng.random() < augment.microphone_p:
        band_hz = rng.uniform(*augment.microphone_low_hz), rng.uniform(*augment.microphone_high_hz)
        samples = through_microphone(samples, augment.microphone_db, band_hz, rng)
    gain = 10.0 ** (rng.uniform(*augment.gain_db) / 20.0)
    clipped: Samples = np.clip(samples * gain, -1.0, 1.0).astype(np.float32)
    return recode(clipped, CODECS[int(rng.integers(len(CODECS)))]) if rng.random() < augment.codec_p else clipped


def add_room(samples: Samples, decay_s: float, direct_db: float, rng: np.random.Generator) -> Samples:
    """Convolve with a direct sound and an exponentially decaying noise tail.

    `decay_s`: time to -60 dB; `direct_db`: energy of the direct sound over that of the tail.
    """
    length = int(decay_s * RATE_HZ)
    tail = rng.standard_normal(length) * 10.0 ** (-3.0 * np.arange(length) / length)
    response = np.concatenate([[1.0], tail * 10.0 ** (-direct_db / 20.0) / np.sqrt(np.sum(tail**2))])
    size = 1 << (len(samples) + length).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    return wet.astype(np.float32)


def through_microphone(
    samples: Samples, deviation_db: float, band_hz: tuple[float, float], rng: np.random.Generator
) -> Samples:
    """Random smooth frequency response that falls off outside the band, at constant power.

    `deviation_db`: standard deviation at KNOTS frequencies, interpolated between. Without it, a language with synthetic
    voices only would be identified by their lack of a microphone.
    """
    spectrum = np.fft.rfft(samples, 1 << max(1, len(samples) - 1).bit_length())
    octaves = np.log2(np.maximum(np.linspace(0.0, RATE_HZ / 2, len(spectrum)), 1.0))
    low, high = np.log2(band_hz)
    knots = np.linspace(np.log2(60.0), np.log2(RATE_HZ / 2), KNOTS)
    response_db = np.interp(octaves, knots, rng.normal(0.0, deviation_db, KNOTS))
    response_db -= SLOPE_DB * (np.maximum(0.0, low - octaves) + np.maximum(0.0, octaves - high))
    filtered = np.fft.irfft(spectrum * 10.0 ** (response_db / 20.0))[: len(samples)]
    loudness = np.sqrt(np.mean(samples**2) / max(float(np.mean(filtered**2)), 1e-12))
    found: Samples = (filtered * loudness).astype(np.float32)
    return found


def coloured_noise(length: int, rng: np.random.Generator) -> Samples:
    """Noise with a power spectrum of f ** -slope, slope drawn between white (0) and brown (2)."""
    size = 1 << max(1, length - 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-rng.uniform(0.0, 2.0) / 2.0)
    return np.fft.irfft(spectrum, size)[:length].astype(np.float32)


def add_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Add noise at a signal-to-noise ratio; digital silence is unchanged."""
    wanted = np.mean(samples**2) * 10.0 ** (-snr_db / 10.0)
    scale = np.sqrt(wanted / max(float(np.mean(noise**2)), 1e-12))
    noisy: Samples = (samples + scale * noise).astype(np.float32)
    return noisy


CODECS = ("ULAW", "ALAW", "GSM610", "VORBIS", "MPEG_LAYER_III")
"""Subtypes of libsndfile; the first three are telephone codecs at 8 kHz. Its Opus takes three times as long as MP3."""

_CONTAINERS = {"VORBIS": "OGG", "MPEG_LAYER_III": "MP3"}
LOWEST_QUALITY = 0.9
"""Compression level of libsndfile, 0 to 1: 10 kbit/s and more, by codec."""


def recode(samples: Samples, codec: str) -> Samples:
    """Encode and decode: n samples again, aligned to within a few."""
    telephone = codec not in _CONTAINERS
    rate_hz = 8_000 if telephone else RATE_HZ
    sent = soxr.resample(samples, RATE_HZ, rate_hz, quality="LQ") if telephone else samples
    file = io.BytesIO()
    quality = {} if telephone else {"compression_level": LOWEST_QUALITY}
    soundfile.write(file, sent, rate_hz, format=_CONTAINERS.get(codec, "WAV"), subtype=codec, **quality)
    file.seek(0)
    received, rate_hz = soundfile.read(file, dtype="float32")
    back = soxr.resample(received, rate_hz, RATE_HZ, quality="LQ") if rate_hz != RATE_HZ else received
    fitted: Samples = np.pad(back, (0, max(0, len(samples) - len(back))))[: len(samples)].astype(np.float32)
    return fitted


def spec_augment(frames: Tensor, lengths: Tensor, augment: Augment, rng: np.random.Generator) -> Tensor:
    """SpecAugment (arXiv 1904.08779): frames (B, T, 160) with masked times and mel bands, copied."""
    frames = frames.clone()
    for row, length in zip(frames, lengths.tolist(), strict=True):
        if rng.random() < augment.spec_p:
            _mask_row(row[:length], augment, rng)
    return frames


def _mask_row(row: Tensor, augment: Augment, rng: np.random.Generator) -> None:
    fill = row.mean()
    mels = row.view(len(row), 2, N_MELS)
    for _ in range(augment.mel_masks):
        width = int(rng.integers(0, augment.mel_mask_bands + 1))
        start = int(rng.integers(0, N_MELS - width + 1))
        mels[:, :, start : start + width] = fill
    for _ in range(int(rng.poisson(augment.time_masks_per_s * len(row) * FRAME_S))):
        width = int(rng.integers(0, augment.time_mask_frames + 1))
        start = int(rng.integers(0, max(1, len(row) - width)))
        row[start : start + width] = fill


def seeded(*key: int | str) -> np.random.Generator:
    """Generator seeded by the key alone: `seeded(seed, "batch", step)`."""
    words = [k if isinstance(k, int) else int.from_bytes(k.encode(), "little") % 2**63 for k in key]
    return np.random.Generator(np.random.PCG64(words))
