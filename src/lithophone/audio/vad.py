"""Voice activity detection: speech probabilities per 32 ms, by Silero VAD (bundled, MIT) on onnxruntime."""

from __future__ import annotations

import threading
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.samples import Samples

CHUNK = 512
"""Samples per probability (32 ms)."""

CONTEXT = 64
"""Samples before a chunk that the network also takes."""

CHUNKS_PER_RUN = 256
"""Per call of the network (8 s), to bound memory."""


class DetectorStream(Protocol):
    """State of voice activity detection in one recording."""

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """The next samples (n,), 16 kHz, n >= 0 -> probabilities (m,), 0..1, of completed chunks."""
        ...

    def flush(self) -> NDArray[np.float32]:
        """End of the recording -> probability of an incomplete last chunk, (0,) or (1,)."""
        ...


class SpeechDetector(Protocol):
    """A voice activity detector with independent streams."""

    def stream(self) -> DetectorStream: ...


class ChunkStream:
    """Base of detector streams: cuts blocks into chunks, the last zero-padded."""

    def __init__(self) -> None:
        self._rest: Samples = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> NDArray[np.float32]:
        samples = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(samples) // CHUNK * CHUNK
        self._rest = samples[whole:].copy()
        return self.probabilities(samples[:whole].reshape(-1, CHUNK))

    def flush(self) -> NDArray[np.float32]:
        rest, self._rest = self._rest, self._rest[:0]
        return self.probabilities(np.pad(rest, (0, -len(rest) % CHUNK)).reshape(-1, CHUNK))

    def probabilities(self, chunks: Samples) -> NDArray[np.float32]:
        """The next chunks (m, 512), m >= 0 -> (m,), 0..1."""
        raise NotImplementedError


class SileroVAD:
    """Silero VAD v6: 400 times real time on one core.

    Loaded on first use. Threads may share a detector, not a stream.
    """

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._session: Any = None

    def stream(self) -> DetectorStream:
        return _SileroStream(self)

    def speech_probabilities(self, samples: Samples) -> NDArray[np.float32]:
        """A recording (n,), 16 kHz -> (ceil(n / 512),), 0..1."""
        stream = self.stream()
        return np.concatenate([stream.push(samples), stream.flush()])

    def session(self) -> Any:
        with self._loading:
            if self._session is None:
                self._session = _new_session()
        return self._session


class _SileroStream(ChunkStream):
    """Keeps the LSTM state and the last 64 samples."""

    def __init__(self, detector: SileroVAD) -> None:
        super().__init__()
        self._detector = detector
        self._hidden = self._cell = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros((1, CONTEXT), np.float32)

    def probabilities(self, chunks: Samples) -> NDArray[np.float32]:
        runs = [self._run(chunks[i : i + CHUNKS_PER_RUN]) for i in range(0, len(chunks), CHUNKS_PER_RUN)]
        return np.concatenate([np.zeros(0, np.float32), *runs])

    def _run(self, chunks: Samples) -> NDArray[np.float32]:
        before = np.concatenate([self._context, chunks[:-1, -CONTEXT:]])
        inputs = {"input": np.concatenate([before, chunks], axis=1), "h": self._hidden, "c": self._cell}
        found: NDArray[np.float32]
        found, self._hidden, self._cell = self._detector.session().run(None, inputs)
        self._context = chunks[-1:, -CONTEXT:].copy()
        return found


@cache
def bundled_detector() -> SileroVAD:
    """The default detector."""
    return SileroVAD()


def _new_session() -> Any:
    import onnxruntime  # here: reading files and subtitles does not need it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = files("lithophone").joinpath("assets/silero_vad/silero_vad_16k_sequence.onnx").read_bytes()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
