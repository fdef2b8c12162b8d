"""300 recordings that were changed at random: samples or a LithophoneError, in bounded time and memory."""

from __future__ import annotations

import io
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lithophone.audio.reader import RATE_HZ, open_audio
from lithophone.errors import LithophoneError
from tests.sounds import noise, tone, write_container

pytestmark = pytest.mark.full

N_FILES = 300
MAX_S = 20.0
MAX_MIB = 200
CONTAINERS = [
    ("flac", "flac", None),
    ("mp3", "libmp3lame", None),
    ("ogg", "libopus", None),
    ("mp4", "aac", "mpeg4"),
    ("m4a", "alac", None),
    ("mkv", "aac", "mpeg4"),
    ("webm", "libopus", None),
    ("mkv", "flac", None),
]
SUBTYPES = ["PCM_16", "PCM_24", "FLOAT", "IMA_ADPCM", "GSM610"]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Six seconds in every format."""
    folder = tmp_path_factory.mktemp("originals")
    sound = np.concatenate([tone(2.0, 48_000), noise(2.0, 48_000, 0.2), tone(2.0, 48_000)])
    files = [
        write_container(folder / f"{i}.{ending}", sound, 48_000, codec, picture).read_bytes()
        for i, (ending, codec, picture) in enumerate(CONTAINERS)
    ]
    for subtype in SUBTYPES:
        file = io.BytesIO()
        soundfile.write(file, sound[::6], 8_000, subtype, format="WAV")
        files.append(file.getvalue())
    return files


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes flipped, cut off, taken out, put in, or values of the header replaced by extreme ones."""
    changed = bytearray(data)
    place, length = int(rng.integers(1, len(data))), int(rng.integers(1, 5_000))
    kind = rng.choice(["flip", "cut", "take", "put", "header"])
    if kind == "flip":
        for at in rng.integers(0, len(data), length % 200 + 1):
            changed[at] = rng.integers(256)
    elif kind == "cut":
        del changed[place:]
    elif kind == "take":
        del changed[place : place + length]
    elif kind == "put":
        changed[place:place] = rng.bytes(length)
    else:
        for at in rng.integers(0, min(len(data), 600), length % 12 + 1):
            changed[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
    return bytes(changed)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of files and hosts that are opened meanwhile."""
    seen: list[str] = []
    active = [True]

    def watch(event: str, args: tuple[object, ...]) -> None:
        if active[0] and event in ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"):
            seen.append(f"{event} {args[0]}")

    sys.addaudithook(watch)
    yield seen
    active[0] = False


def test_mutated_recordings(
    originals: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(socket, "socket", None)
    n_read = n_files = 0
    for seed in range(N_FILES):
        rng = np.random.default_rng(seed)
        data = mutated(originals[seed % len(originals)], rng)
        before, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        n_files += 1
        try:
            with open_audio(data) as stream:
                n_read += sum(len(block) for block in stream) > RATE_HZ
        except LithophoneError:
            pass
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
        assert time.monotonic() - before < MAX_S, f"seed {seed}"
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
        assert grown_mib < MAX_MIB, f"seed {seed}: {grown_mib:.0f} MiB"
    assert n_files == N_FILES
    assert n_read > N_FILES / 2
    assert os.listdir(tmp_path) == []
    assert [name for name in opened if not name.endswith((".py", ".pyc", ".so"))] == []
