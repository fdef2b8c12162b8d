"""Any recording -> samples: float32, 16 kHz, one channel.

Decoding streams: every block is checked, averaged over its channels and resampled before the next one is read, so that
only the final samples are held. libsndfile reads wav (four times faster), FFmpeg, through PyAV, everything else. This
module knows no frames, no windows and no model.
"""

from __future__ import annotations

import contextlib
import io
import logging
import numbers
import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import av
import numpy as np
import soundfile
import soxr
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from lithophone.errors import AudioError

Samples: TypeAlias = NDArray[np.float32]
Block: TypeAlias = tuple[int, NDArray[Any]]
"""Rate in Hz, and some samples (n, channels) as they were read."""

RATE_HZ = 16_000
"""The only rate the models know."""

RATES_HZ = (1_000, 768_000)
"""Lowest and highest rate accepted from a source."""

MAX_CHANNELS = 64
"""A table with more columns is a spectrogram, not a recording."""

MAX_PEAK = 1_000.0
"""Float samples belong in -1..1. Above this they are integers that nobody scaled."""

BLOCK_SIZE = 1 << 16
"""Samples read at once from arrays and by libsndfile."""

logger = logging.getLogger(__name__)


def load_audio(source: Any, rate_hz: float | None = None) -> Samples:
    """Read a recording of any kind as samples (n,), float32, 16 kHz, one channel, full scale at -1..1.

    source: a path (str, PathLike), the bytes of a file, a binary file object (read from where it stands; not closed),
        or the samples themselves: numpy array, torch tensor or list, (n,), (n, channels) or (channels, n). The longer
        axis is time, (n, channels) where both are equal. Channels are averaged. Integers (uint8, int16, int32) are
        scaled to -1..1; floats are taken as they are, and refused with a peak above 1000.
    rate_hz: the rate of an array, which must be given; files state their own.

    What can be decoded of a damaged or cut file is returned and a warning is logged. n is round(seconds * 16000) to
    within one sample. Raises AudioError if the source cannot be read, holds no sound, no samples, NaN or infinity.
    """
    name = _name(source)
    if not _is_file(source):
        return _gathered(_resampled(_mono(_array_blocks(source, rate_hz), name)), name)
    if rate_hz is not None:
        raise AudioError(f"rate_hz={rate_hz!r} was given with {name}: files state their own rate; leave it out")
    with _opened(source, name) as file:
        return _gathered(_resampled(_mono(_file_blocks(file, name), name)), name)


def _is_file(source: object) -> bool:
    return isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read")


def _name(source: object) -> str:
    """What error messages call the source."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return f"the {type(source).__name__} given"


def _gathered(parts: Iterable[Samples], name: str) -> Samples:
    """Join parts in one growing buffer, which unlike concatenation never holds the recording twice."""
    buffer = bytearray()
    for part in parts:
        buffer += np.ascontiguousarray(part, np.float32).data
    if not buffer:
        raise AudioError(f"{name} holds no samples: give a recording that is not empty")
    return np.frombuffer(buffer, np.float32)


# --- blocks -> mono -> 16 kHz


def _mono(blocks: Iterable[Block], name: str) -> Iterator[tuple[int, Samples]]:
    position = 0
    for rate_hz, block in blocks:
        _check_values(block, position, rate_hz, name)
        yield rate_hz, _scaled(block).mean(axis=1, dtype=np.float32)
        position += len(block)


def _check_values(block: NDArray[Any], position: int, rate_hz: int, name: str) -> None:
    """Raise at the first sample that is not a number, or is far beyond full scale."""
    if block.dtype.kind != "f" or not block.size:
        return
    bad = ~(np.abs(block) <= MAX_PEAK).all(axis=1)
    if not bad.any():
        return
    first = int(bad.argmax())
    where = f"sample {position + first} ({(position + first) / rate_hz:.3f} s) of {name}"
    values = block[first]
    if not np.isfinite(values).all():
        raise AudioError(f"{where} is {values[~np.isfinite(values)][0]}: all samples must be finite; repair the source")
    peak = np.abs(values).max()
    raise AudioError(f"{where} is {peak:g}: floats belong in -1..1; divide integers by their full scale, or pass int16")


def _scaled(block: NDArray[Any]) -> Samples:
    """Integers to -1..1 as WAV defines them (uint8 has its zero at 128), floats as they are."""
    if block.dtype.kind == "f":
        return block.astype(np.float32, copy=False)
    full_scale = 2.0 ** (8 * block.dtype.itemsize - 1)
    zero = full_scale if block.dtype.kind == "u" else 0.0
    return ((block.astype(np.float64) - zero) / full_scale).astype(np.float32)


def _resampled(blocks: Iterable[tuple[int, Samples]]) -> Iterator[Samples]:
    """Each stretch of equal rate through its own resampler: a stream may change its rate on the way."""
    for rate_hz, stretch in groupby(blocks, key=lambda block: block[0]):
        samples = (block for _, block in stretch)
        yield from samples if rate_hz == RATE_HZ else _resampled_stretch(samples, _checked_rate(rate_hz))


def _resampled_stretch(blocks: Iterable[Samples], rate_hz: int) -> Iterator[Samples]:
    resampler = soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _checked_rate(rate_hz: object) -> int:
    low, high = RATES_HZ
    if isinstance(rate_hz, numbers.Real) and not isinstance(rate_hz, bool):
        rate = float(rate_hz)
        if low <= rate <= high and rate.is_integer():
            return int(rate)
    raise AudioError(f"the rate is {rate_hz!r}: it must be a whole number of Hz from {low} to {high}, such as 16000")


# --- arrays


def _array_blocks(source: Any, rate_hz: float | None) -> Iterator[Block]:
    table = _table(_as_array(source))
    if rate_hz is None:
        raise AudioError(f"{_name(source)} does not say its rate: pass rate_hz, such as load_audio(samples, 16000)")
    rate = _checked_rate(rate_hz)
    return ((rate, table[start : start + BLOCK_SIZE]) for start in range(0, len(table), BLOCK_SIZE))


def _as_array(source: Any) -> NDArray[Any]:
    """A numpy array of numbers, from whatever holds them; tensors come from any device and any float type."""
    if hasattr(source, "detach"):
        source = source.detach().cpu()
        source = source.float() if source.is_floating_point() else source
    try:
        array = np.asarray(source)
    except (TypeError, ValueError) as error:
        raise AudioError(f"{_name(source)} is no recording ({error}): give a path, bytes, file or array") from error
    if array.size and array.dtype.kind != "f" and array.dtype.newbyteorder("=") not in (np.uint8, np.int16, np.int32):
        raise AudioError(f"{_name(source)} has type {array.dtype}: allowed are uint8, int16, int32 and floats in -1..1")
    return array


def _table(array: NDArray[Any]) -> NDArray[Any]:
    """(n,), (n, channels) or (channels, n) -> (n, channels)."""
    if array.ndim not in (1, 2):
        raise AudioError(f"the samples have shape {array.shape}: allowed are (n,), (n, channels) and (channels, n)")
    if array.ndim == 1 or not array.size:
        return array.reshape(-1, 1)
    if min(array.shape) > MAX_CHANNELS:
        raise AudioError(f"shape {array.shape} has more than {MAX_CHANNELS} channels: give samples, not a spectrogram")
    return array.T if array.shape[1] > array.shape[0] else array


# --- files


@contextlib.contextmanager
def _opened(source: Any, name: str) -> Iterator[BinaryIO]:
    """The source as a seekable binary file that stands at its beginning."""
    if isinstance(source, (str, os.PathLike)):
        with _opened_path(Path(source), name) as file:
            yield file
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
    else:
        yield _from_its_beginning(source, name)


def _opened_path(path: Path, name: str) -> BinaryIO:
    if path.is_dir():
        raise AudioError(f"{name} is a folder: give one audio or video file")
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise AudioError(f"{name} does not exist: check the path (now in {Path.cwd()})") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"{name} cannot be opened ({error}): give an audio or video file that you may read") from error
    return file


def _from_its_beginning(file: Any, name: str) -> BinaryIO:
    """The file object itself if it can be rewound to where it stands, else the rest of it in memory."""
    if isinstance(file, io.TextIOBase):
        raise AudioError(f"{name} is open as text: open it as binary, open(path, 'rb')")
    named = isinstance(getattr(file, "name", ""), str)  # PyAV refuses the numbers that unnamed temporary files have
    if named and hasattr(file, "seekable") and file.seekable() and file.tell() == 0:
        return cast(BinaryIO, file)
    return io.BytesIO(file.read())


def _file_blocks(file: BinaryIO, name: str) -> Iterator[Block]:
    head = file.read(12)
    file.seek(0)
    if not head:
        raise AudioError(f"{name} is empty (0 bytes): give an audio or video file")
    sound = _soundfile(file) if head[8:] == b"WAVE" else None
    return _while_readable(_soundfile_blocks(sound, name) if sound else _container_blocks(file, name), name)


def _while_readable(blocks: Iterator[Block], name: str) -> Iterator[Block]:
    """Blocks until the file turns out to be broken: nothing before that is an error, something is a warning."""
    read = False
    try:
        for block in blocks:
            yield block
            read = True
    except (av.FFmpegError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or error
        if not read:
            raise AudioError(f"{name} cannot be read ({reason}): give an audio or video file FFmpeg knows") from error
        logger.warning("%s is damaged (%s): only what comes before the damage is used", name, reason)


def _soundfile(file: BinaryIO) -> soundfile.SoundFile | None:
    """libsndfile's view of the file, or None where it does not know the codec or the header gives no length."""
    with contextlib.suppress(soundfile.LibsndfileError):
        sound = soundfile.SoundFile(file)
        if sound.frames:
            return sound
    file.seek(0)
    return None


def _soundfile_blocks(sound: soundfile.SoundFile, name: str) -> Iterator[Block]:
    with sound:
        for block in sound.blocks(BLOCK_SIZE, dtype="float32", always_2d=True):
            yield sound.samplerate, block
        if "should be" in sound.extra_info:  # libsndfile's own log of the header
            logger.warning("%s may be cut off: its header states another length than the file has", name)


def _container_blocks(file: BinaryIO, name: str) -> Iterator[Block]:
    """What FFmpeg decodes from the best audio stream."""
    # Playlists inside the file may name other files and hosts: none of them is opened.
    with av.open(file, options={"protocol_whitelist": "none"}, metadata_errors="ignore") as container:
        stream = container.streams.best("audio")
        if stream is None:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "an empty container"
            raise AudioError(f"{name} holds no sound, only {kinds}: give a recording with an audio track")
        read_s = 0.0
        for frame in _decoded(container, stream, name):
            read_s += frame.samples / frame.sample_rate
            if frame.samples:
                yield frame.sample_rate, _frame_table(frame)
        _warn_if_short(read_s, (container.duration or 0) / av.time_base, name)


def _decoded(container: Any, stream: Any, name: str) -> Iterator[AudioFrame]:
    """Frames of all packets that can be decoded; the others are counted and reported, as players do."""
    damaged = 0
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.InvalidDataError as error:
            damaged += 1
            reason = error
    if damaged:
        logger.warning("%s: %d damaged packets were left out (%s)", name, damaged, reason)


def _frame_table(frame: AudioFrame) -> NDArray[Any]:
    """(n, channels) from FFmpeg's planar (channels, n) or interleaved (1, n * channels)."""
    samples = frame.to_ndarray()
    return samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)


def _warn_if_short(read_s: float, stated_s: float, name: str) -> None:
    """Containers without a length in the header give FFmpeg's estimate, hence the tolerance."""
    if read_s < stated_s - max(1.0, 0.05 * stated_s):
        logger.warning("%s may be cut off: %.1f s are stated, %.1f s could be read", name, stated_s, read_s)
