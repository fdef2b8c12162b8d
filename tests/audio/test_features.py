"""The front end: against the reference's own numbers, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lithophone.audio.features import (
    FRAME_SIZE,
    RATE_HZ,
    FrameStream,
    audio_embedding_count,
    batch_frames,
    frame_count,
    log_mel_frames,
)
from tests.conftest import SHARED

GOLDEN = SHARED / "golden" / "features.npz"
CASES = ("noise_1s", "noise_odd", "noise_even", "tone", "silence", "impulse")


@pytest.mark.shared
@pytest.mark.parametrize("case", CASES)
def test_frames_equal_the_reference(case: str) -> None:
    golden = np.load(GOLDEN)
    frames = log_mel_frames(torch.from_numpy(golden[f"{case}.samples"]).flatten().float())
    wanted = torch.from_numpy(golden[f"{case}.frames"]).reshape(-1, FRAME_SIZE)
    torch.testing.assert_close(frames, wanted, atol=1e-5, rtol=0)
    assert audio_embedding_count(len(frames)) == int(golden[f"{case}.n_audio"].item())


def plain_log_mel(samples: np.ndarray) -> np.ndarray:
    """Frame by frame and band by band, in float64, from the formula."""
    padded = np.pad(samples.astype(np.float64), 256, mode="reflect")
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    top = 2595 * math.log10(1 + 8000 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, 82) / 2595) - 1)
    rows = []
    for t in range(len(samples) // 160 + 1):
        power = np.abs(np.fft.rfft(padded[160 * t : 160 * t + 512] * window)) ** 2
        bands = []
        for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
            hz = np.arange(257) * 8000 / 256
            weight = np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)).clip(0)
            bands.append(math.log10(max((power * weight).sum(), 1e-10)))
        rows.append(bands)
    log = np.array(rows)
    log = np.maximum(log, log.max() - 8) / 4 + 1
    return log[: len(log) // 2 * 2].reshape(-1, 160)


def test_frames_equal_a_plain_loop() -> None:
    samples = np.random.default_rng(0).standard_normal(5000).astype(np.float32) * 0.1
    frames = log_mel_frames(torch.from_numpy(samples))
    np.testing.assert_allclose(frames.numpy(), plain_log_mel(samples), atol=1e-4)


@pytest.mark.parametrize("n_samples", [1, 159, 160, 161, 255, 257, 319, 320, 480, 5000, 16001])
def test_the_number_of_frames_is_known_beforehand(n_samples: int) -> None:
    frames = log_mel_frames(torch.randn(n_samples))
    assert frames.shape == (frame_count(n_samples), FRAME_SIZE)
    assert frames.isfinite().all()


def test_every_begun_window_gives_all_its_embeddings() -> None:
    assert [audio_embedding_count(n) for n in (0, 1, 15, 16, 30, 31)] == [0, 3, 3, 6, 6, 9]


def test_a_batch_is_padded_with_zeros() -> None:
    frames, lengths = batch_frames([torch.ones(3, 160), torch.ones(5, 160)])
    assert lengths.tolist() == [3, 5]
    assert frames[0, 3:].abs().sum() == 0


def test_loudness_moves_all_bands_alike() -> None:
    samples = torch.randn(RATE_HZ) * 0.1
    louder = log_mel_frames(samples * 10)
    torch.testing.assert_close(louder - log_mel_frames(samples), torch.full_like(louder, 0.5), atol=1e-4, rtol=0)


# --- frames of an utterance that grows


@pytest.mark.parametrize("size", [1, 159, 160, 500, 16_000])
def test_frames_in_pieces_are_those_of_the_whole(size: int) -> None:
    n = 1_500 if size == 1 else 40_000
    samples = 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(0))
    samples[:300] *= 9.0  # the maximum comes first: later samples do not raise the floor
    whole, stream = log_mel_frames(samples), FrameStream()
    for start in range(0, n, size):
        frames = stream.push(samples[start : start + size])
        assert len(frames) >= (min(n, start + size) - 576) // 320
        if len(frames) > 1:
            torch.testing.assert_close(frames, whole[: len(frames)], atol=1e-5, rtol=1e-5)
    assert len(frames) >= len(whole) - 2


def test_a_louder_sample_raises_the_floor_of_all_frames() -> None:
    samples = torch.zeros(16_000)
    samples[100:8_000] = 0.001 * torch.randn(7_900, generator=torch.Generator().manual_seed(0))
    samples[12_000] = 1.0
    stream = FrameStream()
    before = stream.push(samples[:10_000])
    after = stream.push(samples[10_000:])
    torch.testing.assert_close(after, log_mel_frames(samples)[: len(after)], atol=1e-5, rtol=1e-5)
    assert (after[: len(before)] - before).abs().max() > 0.1


def test_too_few_samples_give_no_frames() -> None:
    stream = FrameStream()
    assert stream.push(torch.zeros(0)).shape == (0, 160)
    assert stream.push(torch.zeros(256)).shape == (0, 160)
    assert stream.push(torch.zeros(400)).shape == (1, 160)
