"""Mixing: level and speech of several channels survive in one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lithophone.audio.mixing import JOINED_S, Block, joined, mix_gains, mono
from lithophone.audio.reader import load_audio, open_audio
from lithophone.errors import AudioError
from tests.sounds import noise, tone, write_container

SURROUND = ("FL", "FR", "FC", "LFE", "SL", "SR")


def mixed(table: NDArray[np.float32], layout: tuple[str, ...] = (), block: int = 700) -> NDArray[np.float32]:
    blocks = [Block(16_000, table[i : i + block], layout) for i in range(0, len(table), block)]
    return np.concatenate([samples for _, samples in mono(blocks, "x")])


def rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(samples).mean()))


# --- channels that cancel each other


@pytest.mark.parametrize("gain", [-1.0, -0.9, -1.1])
def test_opposite_phase_is_as_on_either_channel(gain: float) -> None:
    left = tone(2.0) + noise(2.0)
    result = mixed(np.stack([left, np.float32(gain) * left], axis=1))
    assert rms(result) == pytest.approx(max(1, -gain) * rms(left), rel=0.01)
    assert abs(np.corrcoef(result, left)[0, 1]) > 0.999


def test_four_channels_of_which_two_are_inverted() -> None:
    left = tone(2.0)
    assert rms(mixed(np.stack([left, -left, left, -left], axis=1))) == pytest.approx(rms(left), rel=0.01)


def test_a_recording_that_is_inverted_from_its_middle_on_loses_nothing() -> None:
    left, right = tone(4.0), tone(4.0)
    right[32_000:] *= -1
    result = mixed(np.stack([left, right], axis=1))
    fade = slice(32_000, 32_160)
    np.testing.assert_allclose(np.delete(result, fade), np.delete(left, fade), atol=1e-6)


def test_noise_in_both_channels_does_not_hide_that_speech_cancels() -> None:
    speech = tone(2.0, peak=0.5)
    result = mixed(np.stack([speech + noise(2.0, seed=1), noise(2.0, seed=2) - speech], axis=1))
    assert rms(result) == pytest.approx(rms(speech), rel=0.02)


def test_the_change_to_one_channel_makes_no_click() -> None:
    left, right = tone(2.0, peak=0.5), tone(2.0, peak=0.4)
    right[16_000:] *= -1
    steps = np.abs(np.diff(mixed(np.stack([left, right], axis=1))))
    assert steps.max() < 1.1 * np.abs(np.diff(left)).max()


@pytest.mark.parametrize("second", [0.0, 0.3, 1.0])
def test_ordinary_stereo_is_the_mean(second: float) -> None:
    left, right = noise(2.0, seed=1), np.float32(second) * noise(2.0, seed=2)
    np.testing.assert_array_equal(mixed(np.stack([left, right], axis=1)), (left + right) / 2)


@pytest.mark.parametrize("block", [1, 333, 4_000, 32_000])
def test_the_mix_does_not_depend_on_the_sizes_of_blocks(block: int) -> None:
    left, right = noise(2.0, seed=1), noise(2.0, seed=2)
    right[12_345:] = -left[12_345:]
    table = np.stack([left, right], axis=1)
    np.testing.assert_array_equal(mixed(table, block=block), mixed(table, block=5_000))


# --- surround


def test_dialogue_in_the_centre_keeps_its_level() -> None:
    table = np.zeros((16_000, 6), np.float32)
    table[:, 2] = tone()
    np.testing.assert_array_equal(mixed(table, SURROUND), tone())


@pytest.mark.parametrize(("channel", "gain"), [(0, 0.7071), (1, 0.7071), (2, 1.0), (3, 0.0), (4, 0.5), (5, 0.5)])
def test_gains_are_those_of_ffmpeg(channel: int, gain: float) -> None:
    assert mix_gains(SURROUND, 6)[channel] == pytest.approx(gain, abs=1e-4)


@pytest.mark.parametrize(("layout", "n"), [((), 6), (("FL", "FR"), 2), (("FL", "FR", "BL", "BR"), 4)])
def test_without_a_centre_all_channels_weigh_the_same(layout: tuple[str, ...], n: int) -> None:
    np.testing.assert_array_equal(mix_gains(layout, n), np.full(n, 1 / n, np.float32))


@pytest.mark.parametrize(("ending", "codec"), [("ac3", "ac3"), ("flac", "flac"), ("mkv", "aac"), ("wav", "pcm_s16le")])
def test_the_centre_of_a_file_keeps_its_level(tmp_path: Path, ending: str, codec: str) -> None:
    """Faults, N10: the layout is the container's."""
    table = np.zeros((6, 48_000), np.float32)
    table[2] = tone(1.0, 48_000)
    samples = load_audio(write_container(tmp_path / f"a.{ending}", table, 48_000, codec))
    assert rms(samples[4_000:12_000]) == pytest.approx(rms(tone()), rel=0.03)


@pytest.mark.parametrize(("ending", "codec"), [("wav", "pcm_s24le"), ("mp3", "libmp3lame"), ("m4a", "aac")])
def test_a_file_of_opposite_phase_is_as_loud_as_either_channel(tmp_path: Path, ending: str, codec: str) -> None:
    """Faults, F21."""
    left = tone(1.0, 48_000)
    path = write_container(tmp_path / f"a.{ending}", np.stack([left, -left]), 48_000, codec)
    mixed, alone = load_audio(path), load_audio(path, channel=0)
    assert rms(mixed) == pytest.approx(rms(alone), rel=0.01)
    assert rms(alone) == pytest.approx(rms(left), rel=0.1)


# --- one channel


def test_one_channel_can_be_taken() -> None:
    both = np.stack([tone(), -tone()])
    np.testing.assert_array_equal(load_audio(both, 16_000, channel=0), tone())
    np.testing.assert_array_equal(load_audio(both, 16_000, channel=1), -tone())


@pytest.mark.parametrize("channel", [2, -1])
def test_a_channel_that_is_not_there(channel: int) -> None:
    with (
        pytest.raises(AudioError, match=rf"2 channels, 0 to 1: there is no channel {channel}"),
        open_audio(np.zeros((100, 2)), 16_000, channel=channel) as stream,
    ):
        list(stream)


def test_packets_are_joined_to_a_second_and_only_with_their_like() -> None:
    rate = 1_000
    packets = [Block(rate, np.full((20, 1), n, np.float32)) for n in range(120)]
    stereo = Block(rate, np.ones((20, 2), np.float32), ("FL", "FR"))
    blocks = list(joined([*packets, stereo, Block(2 * rate, np.zeros((20, 1), np.float32))]))
    assert [len(block.table) for block in blocks] == [int(JOINED_S * rate)] * 2 + [400, 20, 20]
    assert [block.rate_hz for block in blocks] == [rate] * 4 + [2 * rate]
    assert np.concatenate([block.table for block in blocks[:3]])[:, 0].tolist() == [
        n for n in range(120) for _ in range(20)
    ]
