"""Augmentation: what it may change, and that the generator alone decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lithophone.train.data.augment import (
    CODECS,
    Augment,
    add_noise,
    add_room,
    change_speed,
    coloured_noise,
    distort,
    recode,
    seeded,
    spec_augment,
    through_microphone,
)
from tests.sounds import tone

TONE = np.sin(np.arange(8000) * 0.2).astype(np.float32) * 0.3


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_speed_changes_the_length(speed: float) -> None:
    assert len(change_speed(TONE, speed)) == pytest.approx(8000 / speed, abs=2)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_comes_at_the_given_ratio(snr_db: float) -> None:
    noisy = add_noise(TONE, coloured_noise(8000, seeded(1)), snr_db)
    added = noisy - TONE
    assert 10 * np.log10(np.mean(TONE**2) / np.mean(added**2)) == pytest.approx(snr_db, abs=0.1)


def test_noise_on_silence_is_silence() -> None:
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(add_noise(silence, coloured_noise(100, seeded(1)), 0.0), silence)


def test_a_room_keeps_the_direct_sound_and_adds_a_tail() -> None:
    click = np.zeros(8000, np.float32)
    click[100] = 1.0
    wet = add_room(click, 0.2, 6.0, seeded(1))
    assert wet.shape == click.shape
    assert wet[100] == pytest.approx(1.0, abs=1e-5)
    assert np.abs(wet[:100]).max() < 1e-5
    assert 10 * np.log10(np.sum(wet[101:] ** 2)) == pytest.approx(-6.0, abs=0.1)
    assert np.mean(wet[101:900] ** 2) > 10 * np.mean(wet[2500:3300] ** 2)


def test_a_microphone_keeps_loudness_and_place_and_loses_what_is_outside_of_its_band() -> None:
    inside, outside = tone(1.0, frequency_hz=1000.0, peak=0.2), tone(1.0, frequency_hz=7000.0, peak=0.2)
    heard = through_microphone(inside + outside, 0.0, (100.0, 3500.0), seeded(1))
    assert np.mean(heard**2) == pytest.approx(np.mean((inside + outside) ** 2), rel=1e-4)
    power = [float(np.dot(heard, part)) ** 2 for part in (inside, outside)]
    assert 10 * np.log10(power[0] / power[1]) == pytest.approx(18.0, abs=0.5)
    assert np.dot(heard, inside) > 0


def test_microphones_differ() -> None:
    noise = coloured_noise(16_000, seeded(5))
    spectra = [np.abs(np.fft.rfft(through_microphone(noise, 6.0, (100.0, 8000.0), seeded(n)))) for n in (1, 2)]
    bands = [np.array([part.mean() for part in np.array_split(one, 40)]) for one in spectra]
    assert np.std(20 * np.log10(bands[0] / bands[1])) > 2.0
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(through_microphone(silence, 6.0, (100.0, 8000.0), seeded(1)), silence)


def test_no_augmentation_changes_nothing() -> None:
    np.testing.assert_array_equal(distort(TONE, Augment.none(), seeded(1)), TONE)
    frames = torch.randn(2, 50, 160)
    assert torch.equal(spec_augment(frames, torch.tensor([50, 20]), Augment.none(), seeded(1)), frames)


def test_the_key_alone_decides() -> None:
    once, again = (distort(TONE, Augment(room_p=1, noise_p=1), seeded(7, "row", 3)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, distort(TONE, Augment(room_p=1, noise_p=1), seeded(7, "row", 4)))


def test_masks_stay_inside_the_utterance_and_leave_the_input_alone() -> None:
    frames = torch.randn(2, 60, 160)
    before = frames.clone()
    masked = spec_augment(frames, torch.tensor([60, 30]), Augment(spec_p=1.0, time_masks_per_s=10), seeded(1))
    assert torch.equal(frames, before)
    assert not torch.equal(masked[0], frames[0])
    assert torch.equal(masked[1, 30:], frames[1, 30:])


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_keeps_the_speech_in_its_place(codec: str) -> None:
    samples = sum(tone(0.7, frequency_hz=hz, peak=0.2) for hz in (300.0, 800.0, 1700.0)) * np.hanning(11_200)
    received = recode(samples.astype(np.float32), codec)
    assert len(received) == len(samples)
    assert received.dtype == np.float32
    assert np.corrcoef(samples, received)[0, 1] > 0.9
    assert not np.array_equal(samples, received)


def test_a_telephone_has_no_high_sounds() -> None:
    high = tone(0.5, frequency_hz=6000.0)
    assert np.abs(recode(high, "ULAW")).mean() < 0.02 * np.abs(high).mean()
