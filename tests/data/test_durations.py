"""Durations of files whose headers tell no length, or a wrong one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from lithophone.audio.reader import load_audio
from lithophone.data.corpora.duration import duration_s
from tests.sounds import noise, silence, tone

RATE_HZ = 44_100


def mp3(path: Path, samples: np.ndarray, bit_rate: int = 64_000, **container: Any) -> Path:
    """By LAME; `format="wav"` puts it into a WAV."""
    with av.open(str(path), "w", **container) as file:
        stream = file.add_stream("libmp3lame", rate=RATE_HZ, layout="mono", bit_rate=bit_rate)
        frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
        frame.rate = RATE_HZ
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def music() -> np.ndarray:
    return np.concatenate([silence(20, RATE_HZ), noise(5, RATE_HZ, peak=0.5)])


def test_flac_from_a_pipe_has_no_length_in_its_header(tmp_path: Path) -> None:
    """Faults, G3: libsndfile says 576460752303423.5 s."""
    data = io.BytesIO()
    soundfile.write(data, tone(1.0), 16_000, format="FLAC")
    header = bytearray(data.getvalue())
    header[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    header[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(header)
    assert soundfile.info(tmp_path / "a.flac").duration > 1e9
    assert duration_s(tmp_path / "a.flac") == pytest.approx(1.0, abs=1e-3)


def test_mp3_of_variable_rate_without_a_xing_header_is_decoded(tmp_path: Path) -> None:
    """Two rates in one stream: libsndfile takes the first for all of it."""
    few, many = (
        mp3(tmp_path / f"{rate}.mp3", samples, rate, options={"write_xing": "0", "id3v2_version": "0"}).read_bytes()
        for samples, rate in ((silence(20, RATE_HZ), 32_000), (noise(5, RATE_HZ), 320_000))
    )
    path = tmp_path / "a.mp3"
    path.write_bytes(few + many)
    assert abs(soundfile.info(path).duration - 25) > 1
    assert duration_s(path) == pytest.approx(len(load_audio(path)) / 16_000)
    assert duration_s(path) == pytest.approx(25.0, abs=0.1)


def test_the_xing_header_of_an_mp3_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mp3(tmp_path / "a.mp3", music())
    monkeypatch.delattr("lithophone.data.corpora.duration._decoded")
    assert duration_s(path) == pytest.approx(25.0, abs=0.1)
    (tmp_path / "tagged.mp3").write_bytes(b"ID3\x04\x00\x00\x00\x01\x00\x00" + bytes(1 << 14) + path.read_bytes())
    assert duration_s(tmp_path / "tagged.mp3") == pytest.approx(25.0, abs=0.1)


def test_a_recording_with_a_misleading_ending_is_decoded(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.raw", tone(1.25), 16_000, format="FLAC")
    assert duration_s(tmp_path / "a.raw") == pytest.approx(1.25)


def test_mp3_inside_a_wav_is_decoded(tmp_path: Path) -> None:
    path = mp3(tmp_path / "a.wav", music(), format="wav")
    assert duration_s(path) == pytest.approx(25.0, abs=0.1)


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("wav", "ULAW"), ("flac", "PCM_24"), ("ogg", "VORBIS")]
)
def test_exact_headers_are_believed(tmp_path: Path, suffix: str, subtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / f"a.{suffix}", tone(1.25), 16_000, subtype=subtype)
    monkeypatch.delattr("lithophone.data.corpora.duration._decoded")
    assert duration_s(tmp_path / f"a.{suffix}") == 1.25


@pytest.mark.parametrize("name", ["a.wav", "a.raw", "a.RAW"])
@pytest.mark.parametrize("data", [b"", b"no sound", b"fLaC"])
def test_what_cannot_be_read_has_no_duration(tmp_path: Path, name: str, data: bytes) -> None:
    """Soundfile asks for the rate of files whose names end in .raw."""
    (tmp_path / name).write_bytes(data)
    assert duration_s(tmp_path / name) is None
    assert duration_s(tmp_path / "none.wav") is None
