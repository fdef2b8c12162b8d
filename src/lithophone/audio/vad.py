"""Voice activity detection: a speech probability for every 32 ms of samples.

Silero VAD (bundled, MIT) on onnxruntime. Knows no model, no text and no files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.reader import Samples

CHUNK = 512
"""Samples per probability: 32 ms."""

CONTEXT = 64
"""Samples before a chunk that the detector sees again."""

CHUNKS_PER_RUN = 256
"""Chunks per call of the detector: 8 s, so that memory does not grow with the recording."""


class SpeechDetector(Protocol):
    """Anything that tells speech from the rest."""

    def speech_probabilities(self, samples: Samples) -> NDArray[np.float32]:
        """samples (n,) at 16 kHz -> (ceil(n / 512),), 0..1."""
        ...


class SileroVAD:
    """Silero VAD v6 (bundled, MIT) on onnxruntime: one core, about 400 times faster than real time.

    Nothing is loaded before the first call. Every thread gets a session of its own, so threads may share the object.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def speech_probabilities(self, samples: Samples) -> NDArray[np.float32]:
        """samples (n,) at 16 kHz -> (ceil(n / 512),), 0..1; the last chunk is filled up with zeros."""
        hidden = cell = np.zeros((1, 1, 128), np.float32)
        found = []
        for chunks in _chunks(samples):
            probabilities, hidden, cell = self._session().run(None, {"input": chunks, "h": hidden, "c": cell})
            found.append(probabilities)
        return np.concatenate([np.zeros(0, np.float32), *found])

    def _session(self) -> Any:
        if not hasattr(self._local, "session"):
            self._local.session = _new_session()
        return self._local.session


@cache
def bundled_detector() -> SileroVAD:
    """The detector that everybody shares who does not bring one."""
    return SileroVAD()


def _chunks(samples: Samples) -> Iterator[NDArray[np.float32]]:
    """(<= 256, 576): chunks with the 64 samples before them, zeros before the beginning and after the end."""
    step = CHUNK * CHUNKS_PER_RUN
    before = np.zeros(CONTEXT, np.float32)
    for start in range(0, len(samples), step):
        stretch = samples[start : start + step]
        filled = np.concatenate([before, stretch, np.zeros(-len(stretch) % CHUNK, np.float32)])
        yield np.lib.stride_tricks.sliding_window_view(filled, CONTEXT + CHUNK)[::CHUNK].copy()
        before = filled[-CONTEXT:]


def _new_session() -> Any:
    import onnxruntime  # here, because reading files and subtitles needs none of it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = files("lithophone").joinpath("assets/silero_vad/silero_vad_16k_sequence.onnx").read_bytes()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
