"""Peak memory does not grow with the recording, as the operating system measures it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.sounds import tone

RATE_HZ = 16_000
ALLOWED_MIB = 100

CODE = """
import resource, sys
from lithophone.pipeline.assembly import RecordingDone
from lithophone.pipeline.transcriber import Transcriber
from tests.detectors import by_loudness
from tests.tiny_checkpoint import tiny_checkpoint

transcriber = Transcriber(tiny_checkpoint(bpe=True), detector=by_loudness())
for event in transcriber.events([sys.argv[1]], decode="ctc"):
    if isinstance(event, RecordingDone):
        print(event.result.duration_s, len(event.result.segments))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write_talk(path: Path, minutes: int) -> Path:
    """Tones of 25 s with a pause of 5 s behind each, as MP3."""
    half_minute = np.concatenate([tone(25.0, peak=0.3), np.zeros(5 * RATE_HZ, np.float32)])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=RATE_HZ, layout="mono")
        stream.bit_rate = 16_000
        for _ in range(2 * minutes):
            frame = av.AudioFrame.from_ndarray(half_minute[None], format="fltp", layout="mono")
            frame.sample_rate = RATE_HZ
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def peak_mib(path: Path, minutes: int) -> float:
    """Peak of the resident set of a process that transcribes the recording."""
    done = subprocess.run([sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, check=True)
    found, peak = done.stdout.splitlines()
    duration_s, n_segments = map(float, found.split())
    assert duration_s == pytest.approx(60.0 * minutes, abs=1.0)
    assert n_segments == 2 * minutes
    return float(peak)


@pytest.mark.full
def test_three_hours_need_no_more_memory_than_three_minutes(tmp_path: Path) -> None:
    short = peak_mib(write_talk(tmp_path / "short.mp3", 3), 3)
    long = peak_mib(write_talk(tmp_path / "long.mp3", 180), 180)
    assert long - short < ALLOWED_MIB
