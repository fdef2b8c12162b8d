"""Sources: pipes are inputs, and every error of reading is an AudioError."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lithophone.audio.reader import load_audio, open_audio
from lithophone.errors import AudioError
from tests.sounds import Pipe, noise, tone, write_container

READ = "import sys; from lithophone.audio.reader import load_audio; print(len(load_audio({source})))"


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", tone(2.0), 16_000)
    return tmp_path / "a.wav"


class Seekable(Pipe):
    """A file on a disk that may fail."""

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.rest.seek(offset, whence)

    def tell(self) -> int:
        return self.rest.tell()


# --- pipes


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        ("wav", "pcm_s16le"),
        ("flac", "flac"),
        ("ogg", "libopus"),
        ("webm", "libopus"),
        ("mp4", "aac"),  # its index lies at the end
        ("m4a", "alac"),
        ("caf", "alac"),
        ("aiff", "pcm_s16be"),
    ],
)
def test_a_pipe_gives_what_the_file_gives(tmp_path: Path, ending: str, codec: str) -> None:
    path = write_container(tmp_path / f"a.{ending}", noise(3.0, 48_000, 0.3), 48_000, codec)
    np.testing.assert_array_equal(load_audio(Pipe(path.read_bytes())), load_audio(path))


@pytest.mark.parametrize("source", ["'/dev/stdin'", "sys.stdin.buffer"])
@pytest.mark.parametrize("piped", [True, False])
def test_standard_input(wav: Path, source: str, piped: bool) -> None:
    command = [sys.executable, "-c", READ.format(source=source)]
    with wav.open("rb") as file:
        if piped:
            done = subprocess.run(command, input=file.read(), capture_output=True)
        else:
            done = subprocess.run(command, stdin=file, capture_output=True)
    assert (done.stdout, done.stderr) == (b"32000\n", b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe(tmp_path: Path, wav: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(wav.read_bytes()))
    writer.start()
    assert len(load_audio(tmp_path / "pipe")) == 32_000
    writer.join()


def test_samples_of_a_pipe_come_before_its_end() -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(30.0), 16_000, format="WAV")
    pipe = Pipe(file.getvalue())
    with open_audio(pipe) as stream:
        assert len(next(stream)) > 0
        assert pipe.rest.tell() < 100_000


def test_a_pipe_without_end_that_is_no_recording_is_given_up() -> None:
    class Endless(Pipe):
        def readinto(self, buffer: Any) -> int:
            buffer[:] = (b"yes\n" * len(buffer))[: len(buffer)]
            return len(buffer)

    with pytest.raises(AudioError, match="cannot be read"):
        load_audio(Endless(b""))


# --- errors


@pytest.mark.parametrize("kind", [Pipe, Seekable])
@pytest.mark.parametrize("fails_at", [0, 60_000])
@pytest.mark.parametrize(
    ("ending", "codec"), [("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("mp4", "aac"), ("ogg", "libopus")]
)
def test_a_disk_or_pipe_that_fails(
    tmp_path: Path, ending: str, codec: str, kind: type[Pipe], fails_at: int, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_container(tmp_path / f"a.{ending}", noise(20.0, 48_000, 0.3), 48_000, codec).read_bytes()
    assert len(data) > 120_000
    with pytest.raises(AudioError, match="Input/output error"):
        load_audio(kind(data, fails_at))
    assert capfd.readouterr() == ("", "")


def test_what_came_before_the_error_is_given() -> None:
    file = io.BytesIO()
    soundfile.write(file, tone(20.0), 16_000, format="WAV")
    with open_audio(Pipe(file.getvalue(), 400_000)) as stream:
        blocks = [next(stream) for _ in range(10)]
        with pytest.raises(AudioError, match="Input/output error"):
            list(stream)
    assert sum(map(len, blocks)) > 9 * 16_000


@pytest.mark.parametrize("error", [ValueError("I/O operation on closed file"), io.UnsupportedOperation("read")])
def test_objects_that_raise_otherwise(error: Exception) -> None:
    class Broken:
        def read(self, size: int = -1) -> bytes:
            raise error

    with pytest.raises(AudioError, match=str(error)):
        load_audio(Broken())


def test_a_closed_file(wav: Path) -> None:
    for file in (wav.open("rb"), io.BytesIO(wav.read_bytes())):
        file.close()
        with pytest.raises(AudioError, match="closed file"):
            load_audio(file)


def test_a_file_open_for_writing(tmp_path: Path) -> None:
    with (tmp_path / "new.wav").open("wb") as file, pytest.raises(AudioError, match="cannot be read"):
        load_audio(file)


@pytest.mark.parametrize("name", ["x" * 300 + ".wav", "会" * 100, "a/" * 3_000])
def test_a_name_that_is_too_long(name: str) -> None:
    with pytest.raises(AudioError, match=r"cannot be opened .*too long"):
        load_audio(name)


def test_a_file_below_a_file(wav: Path) -> None:
    with pytest.raises(AudioError, match="cannot be opened"):
        load_audio(wav / "b.wav")


@pytest.mark.parametrize(
    "name",
    ["http://example.org/a.wav", "https://example.org/a.mp3?x=1", "s3://bucket/a.flac", Path("http://a.org/b.wav")],
)
def test_a_url_is_told_from_a_missing_file(name: str | Path) -> None:
    with pytest.raises(AudioError, match="is a URL: download it"):
        load_audio(name)


def test_nothing_is_left_open_or_behind(tmp_path: Path, wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    data = write_container(tmp_path / "a.m4a", noise(3.0, 48_000, 0.3), 48_000, "alac").read_bytes()
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for source in (wav, Pipe(data), Pipe(data[:-2_000]), data[:100]):
        try:
            load_audio(source)
        except AudioError:
            continue
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    assert (after, list((tmp_path / "temporary").iterdir())) == (before, [])
