"""load_audio: every container and every bad input a user may bring."""

from __future__ import annotations

import io
import logging
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from lithophone.audio.reader import RATE_HZ, load_audio
from lithophone.errors import AudioError
from tests.sounds import noise, tone, write_container

CONTAINERS = [
    ("mp3", "libmp3lame", 44_100, None),
    ("ogg", "libopus", 48_000, None),
    ("webm", "libopus", 48_000, None),
    ("webm", "libopus", 48_000, "libvpx"),
    ("m4a", "aac", 44_100, None),
    ("mp4", "aac", 48_000, "mpeg4"),
    ("mkv", "aac", 22_050, "mpeg4"),
    ("flac", "flac", 44_100, None),
    ("aiff", "pcm_s16be", 8_000, None),
]


def frequency_hz(samples: np.ndarray) -> float:
    """The strongest frequency in the middle of a recording, away from the edges that codecs smear."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax()) * RATE_HZ / len(middle)


@pytest.fixture
def mp3(tmp_path: Path) -> Path:
    return write_container(tmp_path / "tone.mp3", tone(2.0, 44_100), 44_100, "libmp3lame")


# --- files


@pytest.mark.parametrize(("ending", "codec", "rate_hz", "picture"), CONTAINERS)
def test_containers(tmp_path: Path, ending: str, codec: str, rate_hz: int, picture: str | None) -> None:
    both = np.stack([tone(2.0, rate_hz), tone(2.0, rate_hz)])
    samples = load_audio(write_container(tmp_path / f"tone.{ending}", both, rate_hz, codec, picture))
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert samples.flags.writeable
    assert abs(len(samples) - 32_000) < 1_100  # AAC fills up its last frame of 1024
    assert frequency_hz(samples) == pytest.approx(440, abs=3)
    assert np.abs(samples[8000:24000]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"])
def test_wav(tmp_path: Path, subtype: str) -> None:
    expected = tone(1.0)
    soundfile.write(tmp_path / "tone.wav", expected, RATE_HZ, subtype)
    samples = load_audio(tmp_path / "tone.wav")
    middle = slice(1_000, 15_000)
    assert len(samples) == pytest.approx(RATE_HZ, abs=600)  # ADPCM writes whole blocks
    np.testing.assert_allclose(samples[middle], expected[middle], atol=0.05)


def test_wav_written_to_a_pipe_states_no_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.wav", tone(1.0), RATE_HZ, "PCM_16")
    data = bytearray((tmp_path / "tone.wav").read_bytes())
    for length in (b"\xff\xff\xff\xff", b"\0\0\0\0"):
        data[4:8] = data[40:44] = length
        assert len(load_audio(bytes(data))) == RATE_HZ


def test_channels_are_averaged(tmp_path: Path) -> None:
    channels = np.stack([tone(0.5, 16_000) * i for i in range(8)], axis=1)
    soundfile.write(tmp_path / "eight.wav", channels / 8, RATE_HZ, "FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "eight.wav"), channels.mean(axis=1) / 8, atol=1e-6)


def test_path_bytes_and_file_objects_agree(mp3: Path) -> None:
    expected = load_audio(mp3)
    data = mp3.read_bytes()
    with mp3.open("rb") as file, tempfile.TemporaryFile() as unnamed, tempfile.SpooledTemporaryFile() as spooled:
        for other in (unnamed, spooled):
            other.write(data)
            other.seek(0)
        for source in (str(mp3), data, bytearray(data), memoryview(data), io.BytesIO(data), file, unnamed, spooled):
            np.testing.assert_array_equal(load_audio(source), expected)
        assert not file.closed


def test_file_object_is_read_from_where_it_stands(mp3: Path) -> None:
    file = io.BytesIO(b"a form field" + mp3.read_bytes())
    file.seek(12)
    np.testing.assert_array_equal(load_audio(file), load_audio(mp3))


def test_file_object_that_cannot_seek(mp3: Path) -> None:
    class Pipe(io.RawIOBase):
        rest = io.BytesIO(mp3.read_bytes())

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self.rest.readinto(buffer)

    expected = load_audio(mp3)
    read = load_audio(Pipe())
    np.testing.assert_allclose(read[: len(expected)], expected, atol=1e-3)
    assert len(read) - len(expected) < 0.05 * RATE_HZ  # FFmpeg trims the padding at the end only where it can seek


def test_no_more_is_held_than_the_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.stack([noise(60.0, 96_000)] * 2, axis=1), 96_000, "PCM_16")
    tracemalloc.start()
    samples = load_audio(tmp_path / "long.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.25 * samples.nbytes + 4 * 2**20


# --- files that are damaged


@pytest.mark.parametrize(("ending", "codec"), [("mp3", "libmp3lame"), ("flac", "flac"), ("mkv", "aac"), ("wav", "wav")])
def test_a_cut_file_gives_what_is_there_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, codec: str
) -> None:
    path = tmp_path / f"cut.{ending}"
    if codec == "wav":
        soundfile.write(path, noise(20.0, 44_100), 44_100)
    else:
        write_container(path, noise(20.0, 44_100), 44_100, codec)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING, "lithophone"):
        samples = load_audio(path)
    assert 9 * RATE_HZ < len(samples) < 11 * RATE_HZ
    assert str(path) in caplog.text


def test_a_whole_file_gives_no_warning(mp3: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_audio(mp3)
    assert not caplog.records


def test_damage_in_the_middle(mp3: Path) -> None:
    data = bytearray(mp3.read_bytes())
    data[4000:4500] = bytes(500)
    assert 28_000 < len(load_audio(data)) <= 32_000


# --- files that are none


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text.mp3", b"this is no recording\n" * 500),
        ("text.wav", b"this is no recording\n" * 500),
        ("noise.mp3", np.random.default_rng(0).bytes(20_000)),
        ("head.wav", b"RIFF\x24\0\0\0WAVEfmt "),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\ntone.mp3\n#EXT-X-ENDLIST\n"),
        ("list.txt", b"ffconcat version 1.0\nfile tone.mp3\n"),
    ],
)
def test_unreadable(tmp_path: Path, mp3: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AudioError, match=rf"{name} cannot be read .*give an audio or video file"):
        load_audio(tmp_path / name)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"nowhere.wav does not exist: check the path"):
        load_audio(tmp_path / "nowhere.wav")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is a folder"):
        load_audio(tmp_path)


def test_path_with_a_null_byte() -> None:
    with pytest.raises(AudioError, match="cannot be opened"):
        load_audio("a\0b.wav")


@pytest.mark.parametrize("source", [b"", io.BytesIO()])
def test_empty_file(source: Any) -> None:
    with pytest.raises(AudioError, match="is empty"):
        load_audio(source)


def test_wav_without_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE_HZ)
    with pytest.raises(AudioError, match=r"none\.wav"):
        load_audio(tmp_path / "none.wav")


def test_video_without_sound(tmp_path: Path) -> None:
    silent = write_container(tmp_path / "silent.mp4", None, picture="mpeg4")
    with pytest.raises(AudioError, match="holds no sound, only video"):
        load_audio(silent)


def test_file_open_as_text() -> None:
    with pytest.raises(AudioError, match="open as text"):
        load_audio(io.StringIO("words"))


def test_files_state_their_own_rate(mp3: Path) -> None:
    with pytest.raises(AudioError, match="leave it out"):
        load_audio(mp3, 16_000)


def test_float_wav_with_nan(tmp_path: Path) -> None:
    samples = tone(10.0)
    samples[150_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE_HZ, "FLOAT")
    with pytest.raises(AudioError, match=r"sample 150000 \(9\.375 s\) of .*nan\.wav is nan"):
        load_audio(tmp_path / "nan.wav")


# --- arrays


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 12_345, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("n", [100, 12_347, 200_001])
def test_length_is_exact(rate_hz: int, n: int) -> None:
    assert abs(len(load_audio(np.zeros(n), rate_hz)) - round(n * RATE_HZ / rate_hz)) <= 1


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 192_000])
def test_resampling_keeps_time_and_level(rate_hz: int) -> None:
    samples = load_audio(tone(6.0, rate_hz), rate_hz)
    np.testing.assert_allclose(samples[800:-800], tone(6.0)[800:-800], atol=2e-3)


def test_an_array_at_16_khz_is_copied_unchanged() -> None:
    samples = tone(5.0)
    loaded = load_audio(samples, 16_000)
    np.testing.assert_array_equal(loaded, samples)
    assert not np.shares_memory(loaded, samples)


@pytest.mark.parametrize(
    ("low", "zero", "dtype"), [(0, 128, "u1"), (-(2**15), 0, "<i2"), (-(2**15), 0, ">i2"), (-(2**31), 0, "i4")]
)
def test_integers_are_scaled(low: int, zero: int, dtype: str) -> None:
    np.testing.assert_array_equal(load_audio(np.array([low, zero], dtype), 16_000), [-1.0, 0.0])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(dtype: Any) -> None:
    np.testing.assert_allclose(load_audio(tone().astype(dtype), 16_000), tone(), atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors(dtype: torch.dtype) -> None:
    samples = torch.from_numpy(tone()).to(dtype).requires_grad_()
    np.testing.assert_allclose(load_audio(samples, 16_000), tone(), atol=4e-3)


def test_lists_and_both_orders_of_channels() -> None:
    assert load_audio([0.0, 0.5, -0.5], 16_000).tolist() == [0.0, 0.5, -0.5]
    both = np.stack([tone(), tone() / 2])
    np.testing.assert_array_equal(load_audio(both, 16_000), tone() * np.float32(0.75))
    np.testing.assert_array_equal(load_audio(both.T, 16_000), tone() * np.float32(0.75))
    np.testing.assert_array_equal(load_audio([[0.5, 0.1], [0.2, 0.0]], 16_000), np.float32([0.3, 0.1]))


@pytest.mark.parametrize("rate_hz", [16_000, 16_000.0, np.int32(16_000), np.float32(16_000)])
def test_rates_that_are_taken(rate_hz: Any) -> None:
    assert len(load_audio(tone(), rate_hz)) == 16_000


@pytest.mark.parametrize(
    "rate_hz", [True, "16000", 0, -16_000, 16_000.5, float("nan"), float("inf"), 10, 10**9, [16_000]]
)
def test_rates_that_are_refused(rate_hz: Any) -> None:
    with pytest.raises(AudioError, match=r"the rate is .*whole number of Hz"):
        load_audio(tone(), rate_hz)


def test_an_array_needs_its_rate() -> None:
    with pytest.raises(AudioError, match="pass rate_hz"):
        load_audio(tone())


@pytest.mark.parametrize(("n", "seconds"), [(160, 0.01), (1, 0.0)])
def test_very_short_and_silent_is_fine(n: int, seconds: float) -> None:
    assert load_audio(np.zeros(n), 16_000).tolist() == [0.0] * n


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "holds no samples"),
        (np.zeros((0, 2)), "holds no samples"),
        (["a"], "allowed are"),
        ([1, 2, 3], "has type int64: allowed are uint8, int16, int32"),
        (None, "the NoneType given is no recording: give a path, bytes, file or array"),
        ({"array": [0.0]}, "the dict given is no recording"),
        (np.zeros(9, bool), "has type bool"),
        (np.zeros(9, complex), "has type complex128"),
        ([[0.1], [0.1, 0.2]], "is no recording"),
        (np.float32(0.5), r"shape \(\)"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (np.zeros((160, 300)), "not a spectrogram"),
        ([0.0, np.nan], r"sample 1 \(0\.000 s\) of the list given is nan"),
        (np.array([[0.0, 0.0], [0.0, -np.inf]]), "sample 1 .* is -inf"),
        (np.r_[np.zeros(70_000), np.inf], "sample 70000 .* is inf"),
        (np.array([0.0, 12_000.0]), "is 12000: floats belong in -1..1"),
        (np.array([1e300]), r"is 1e\+300"),
    ],
)
def test_arrays_that_are_refused(source: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        load_audio(source, 16_000)
