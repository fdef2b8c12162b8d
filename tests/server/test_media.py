"""Recordings of strangers: limits, crashes and streams that nobody reads to the end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lithophone.audio.reader import load_audio
from lithophone.errors import AudioError
from lithophone.server.errors import ApiError
from lithophone.server.media import MediaDecoder, MediaLimits, MediaStream
from tests.server.running import wav
from tests.sounds import tone, write_container

LIMITS = MediaLimits(cpu_s=20, memory_mb=2000, duration_s=60)


@pytest.fixture(scope="module")
def decoder() -> Iterator[MediaDecoder]:
    made = MediaDecoder(LIMITS)
    made.start()
    yield made
    made.close()


def read(stream: MediaStream) -> np.ndarray:
    try:
        return np.concatenate(list(stream))
    finally:
        stream.close()


@pytest.mark.parametrize(("name", "codec", "rate_hz"), [("a.m4a", "aac", 44_100), ("a.ogg", "libopus", 48_000)])
def test_samples_are_those_of_the_reader(
    decoder: MediaDecoder, tmp_path: Path, name: str, codec: str, rate_hz: int
) -> None:
    path = write_container(tmp_path / name, tone(3.0, rate_hz), rate_hz, codec)
    stream = decoder.decode(path.read_bytes(), name)
    np.testing.assert_array_equal(read(stream), load_audio(path))
    assert stream.read_s == pytest.approx(3.0, abs=0.1)


def test_damage_is_a_warning(decoder: MediaDecoder) -> None:
    stream = decoder.decode(wav(2.0)[:40_000], "cut.wav")
    assert len(read(stream)) == 19_978
    assert "may be cut off" in stream.warnings[0]


def test_errors_name_the_file(decoder: MediaDecoder) -> None:
    with pytest.raises(AudioError, match=r"^notes\.txt cannot be read"):
        decoder.decode(b"some words " * 99, "notes.txt")


def test_names_may_be_of_any_length(decoder: MediaDecoder) -> None:
    with pytest.raises(AudioError, match="^" + "x" * 200 + " cannot be read"):
        decoder.decode(b"some words " * 99, "x" * 9_000)


def test_a_recording_beyond_the_limit_is_refused_by_its_header(decoder: MediaDecoder) -> None:
    with pytest.raises(ApiError, match="up to 60 s") as refused:
        decoder.decode(wav(70.0), "long.wav")
    assert refused.value.status == 413


def test_a_recording_that_states_no_length_is_refused_when_it_gets_too_long(tmp_path: Path) -> None:
    decoder = MediaDecoder(MediaLimits(20, 2000, duration_s=2.0))
    path = write_container(tmp_path / "a.mka", tone(9.0), 16_000, "flac")
    data = path.read_bytes()
    with pytest.raises(ApiError, match="up to 2 s"):
        read(decoder.decode(data, "a"))
    decoder.close()


@pytest.mark.parametrize("limits", [MediaLimits(20, 60, 60), MediaLimits(0, 2000, 60)])
def test_memory_and_cpu_are_limited(limits: MediaLimits) -> None:
    decoder = MediaDecoder(limits)
    with pytest.raises(AudioError):
        read(decoder.decode(wav(50.0), "a.wav"))
    decoder.close()


def test_a_decoder_that_was_killed_starts_again(decoder: MediaDecoder) -> None:
    assert decoder._process is not None
    decoder._process.kill()
    decoder._process.wait()
    assert len(read(decoder.decode(wav(), "a.wav"))) == 28_800


def test_a_stream_that_is_closed_ends_its_process(decoder: MediaDecoder) -> None:
    stream = decoder.decode(wav(50.0), "a.wav")
    assert decoder._process is not None
    assert children(decoder._process.pid)
    stream.close()
    assert ended(decoder._process.pid)


def children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()


def ended(process: int) -> bool:
    for _ in range(100):
        if not children(process):
            return True
        time.sleep(0.05)
    return False


def test_descriptors_are_given_back(decoder: MediaDecoder) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read(decoder.decode(wav(0.2), "a.wav"))
        with pytest.raises(AudioError):
            decoder.decode(b"junk" * 9, "junk")
    assert len(os.listdir("/proc/self/fd")) == before
