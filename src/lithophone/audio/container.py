"""Files of any container -> blocks on the container's clock, by FFmpeg (PyAV).

Time 0 is the earliest timestamp of all tracks, as in players; trimmed priming is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.codec.context import CodecContext
from numpy.typing import NDArray

from lithophone.audio.clock import Clock, Frame, SeekMissedError
from lithophone.audio.mixing import Block
from lithophone.audio.samples import RATE_HZ
from lithophone.audio.source import Input
from lithophone.audio.stated import (
    PCM_FILES,
    file_length_s,
    is_nms_adpcm,
    kind_of,
    mp3_length_s,
    track_length_s,
    wav_shortage,
)
from lithophone.errors import AudioError

OPTIONS = {
    "protocol_whitelist": "none",  # playlists may name other files and hosts
    "max_size": "32768",  # bytes per packet of WAV: 4096, the default, is three times slower
}

DECODERS = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
"""Decoders that also know comfort noise, if PyAV was built with them."""

EXACT_SEEK = {"flac", "ogg", "mov", "matroska"}
"""Formats, besides PCM, with exact timestamps after a seek."""

PREROLL_S = 1.0
"""Seconds decoded before the start: decoders and resamplers have memory."""

MIN_SEEK_S = 10.0
"""Earlier starts are decoded from 0."""

MISSING_IN_FILE_S = 1.0
"""MISSING_S of the last packet of all tracks, whose length may be unknown."""

ESTIMATED = {"mp3", "aac", "flac", "ac3", "eac3", "amr", "dts", "g722"}
"""Formats whose length FFmpeg estimates from the bit rate unless the header states it."""

TS_DISCONT = 0x0200
"""FFmpeg's flag: timestamps may restart anywhere."""

MAX_PRIMING_S = 0.2
"""Codec priming before 0; more is sound."""

MISSING_S = 0.25
"""Smaller differences at the end are codec framing."""


class ContainerBlocks:
    """Blocks of the best audio track, from `start_s` on if seeking is exact, else from 0.

    warn: called with every warning. Raises AudioError for unreadable files.
    """

    def __init__(self, file: Input, name: str, start_s: float, warn: Callable[[str], None]) -> None:
        self._file = file
        self._name = name
        self._warn = warn
        self.start = 0
        """Position of the first block, in samples at 16 kHz."""
        self._open()
        try:
            self._blocks = self._sought(start_s) if self._can_seek(start_s) else self._decoded(None)
        except SeekMissedError:
            self._reopen()

    def __iter__(self) -> Iterator[Block]:
        return self._blocks

    def close(self) -> None:
        self._container.close()

    @property
    def duration_s(self) -> float | None:
        """End of the track, None if neither headers nor timestamps state it."""
        return self._end_s or (None if kind_of(self._container) in ESTIMATED else self._length_s)

    @property
    def channels(self) -> int:
        return int(self._codec.channels)

    # --- opening

    def _open(self) -> None:
        mp3_s = mp3_length_s(self._file)
        self._shortage = wav_shortage(self._file)
        head = self._file.peek()
        if is_nms_adpcm(head):
            raise AudioError(
                f"{self._name} holds NMS ADPCM, which FFmpeg takes for AMR: convert it to WAV with PCM or FLAC"
            )
        is_wav = head[:4] == b"RIFF"
        options = {**OPTIONS, "probesize": "32768"} if is_wav else OPTIONS  # else FFmpeg reads 1 MB
        try:
            self._container = cast(Any, av.open(self._file, options=options, metadata_errors="ignore"))
        except av.FFmpegError as error:
            self._file.check()
            raise self._unreadable(error) from error
        streams = self._container.streams
        self._stream: Any = streams.best("audio") or next(iter(streams.audio), None)  # `best` misses late tracks
        if self._stream is None:
            kinds = ", ".join(sorted({s.type for s in streams})) or "an empty container"
            self.close()
            raise AudioError(f"{self._name} holds no sound, only {kinds}: give a recording with an audio track")
        if self._stream.codec_context is None:
            self.close()
            raise AudioError(f"{self._name} has a codec that FFmpeg does not know: convert it to WAV or FLAC")
        self._codec = _codec_of(self._stream)
        self._zero_s = _zero_s(self._container.start_time)
        self._zero = float(self._zero_s)
        length = self._container.duration
        self._length_s = length / av.time_base if length and length > 0 else None
        stated_s = mp3_s if kind_of(self._container) == "mp3" else track_length_s(self._container, self._stream)
        self._end_s = None if stated_s is None else stated_s + float(self._late_s())

    def _reopen(self) -> None:
        self.close()
        self._file.seek(0)
        self._open()
        self.start = 0
        self._blocks = self._decoded(None)

    def _unreadable(self, error: Exception) -> AudioError:
        if self._file.is_empty:
            return AudioError(f"{self._name} is empty (0 bytes): give an audio or video file")
        reason = getattr(error, "strerror", None) or error
        return AudioError(f"{self._name} cannot be read ({reason}): give an audio or video file FFmpeg knows")

    def _late_s(self) -> Fraction:
        start_s: Fraction = (self._stream.start_time or 0) * self._stream.time_base
        return max(Fraction(0), start_s - self._zero_s)

    # --- where decoding begins

    def _can_seek(self, start_s: float) -> bool:
        is_pcm = kind_of(self._container) in PCM_FILES and self._codec.name.startswith("pcm")
        exact = (is_pcm or kind_of(self._container) in EXACT_SEEK) and self._codec.sample_rate
        return bool(start_s > MIN_SEEK_S and exact and self._file.seekable())

    def _sought(self, start_s: float) -> Iterator[Block]:
        rate_hz = self._codec.sample_rate
        unit = rate_hz // math.gcd(rate_hz, RATE_HZ)  # a multiple of it is an integer at 16 kHz
        position_s = Fraction(int((start_s - PREROLL_S) * rate_hz) // unit * unit, rate_hz)
        target = math.floor((position_s + self._zero_s - Fraction(PREROLL_S)) / self._stream.time_base)
        try:
            self._container.seek(target, stream=self._stream)
        except av.FFmpegError as error:
            raise SeekMissedError from error
        self.start = int(position_s * RATE_HZ)
        return self._decoded(position_s)

    def _decoded(self, position_s: Fraction | None) -> Iterator[Block]:
        """Blocks; decodes the first, so that unreadable files raise early."""
        jumps = bool(self._container.format.flags & TS_DISCONT)
        clock = Clock(self._length_s, jumps, self._warn, None if position_s is None else float(position_s))
        blocks = self._guarded(clock)
        first = next(blocks, None)
        return blocks if first is None else chain([first], blocks)

    def _guarded(self, clock: Clock) -> Iterator[Block]:
        """Blocks up to the first error: AudioError before any block, else a warning."""
        read = False
        try:
            for block in clock.blocks(self._frames()):
                yield block
                read = True
        except av.FFmpegError as error:
            self._file.check()
            if not read:
                raise self._unreadable(error) from error
            self._warn(f"damaged at {clock.end_s:.1f} s ({error.strerror}): what follows is left out")
        self._file.check()
        self._warn_if_cut(clock)

    def _warn_if_cut(self, clock: Clock) -> None:
        read_s = clock.end_s
        if self._shortage:
            self._warn(self._shortage)
        if self._end_s is not None and read_s < self._end_s - MISSING_S:
            self._warn(f"may be cut off: {self._end_s:.1f} s are stated, {read_s:.1f} s could be read")
        stated_s = file_length_s(self._container, self._stream)
        if stated_s is not None and self._last_s < stated_s - MISSING_IN_FILE_S:
            self._warn(f"may be cut off: {stated_s:.1f} s are stated, {self._last_s:.1f} s could be read")

    # --- packets -> frames

    def _frames(self) -> Iterator[Frame]:
        """Frames of decodable packets; an empty one after a lost last packet."""
        self._damage = _Damage()
        frame: Frame | None = None
        for packet in self._packets():
            for decoded in self._decoded_frames(packet):
                frame = self._timed(decoded)
                yield frame
        if frame is None and self._damage.n:
            raise AudioError(
                f"{self._name} cannot be read ({self._damage.reason}): give an audio or video file FFmpeg knows"
            )
        if self._damage.n:
            packets = "1 damaged packet was" if self._damage.n == 1 else f"{self._damage.n} damaged packets were"
            self._warn(f"{packets} left out ({self._damage.reason})")
        if frame is not None and self._damage.lost_s:
            yield Frame(frame.rate_hz, frame.table[:0], frame.layout, None, self._damage.lost_s, True)

    def _decoded_frames(self, packet: Any) -> list[AudioFrame]:
        try:
            return [frame for frame in self._codec.decode(packet) if frame.samples]
        except av.error.EOFError:
            return []
        except av.FFmpegError as error:
            self._damage.add(str(error.strerror), float((packet.duration or 0) * packet.time_base))
            return []

    def _timed(self, frame: AudioFrame) -> Frame:
        """The frame on the clock. In FLAC, a lone one without timestamp is a damaged rest."""
        damage = self._damage
        tick_s = float(frame.time_base or self._stream.time_base)
        time_s = None if frame.pts is None else frame.pts * tick_s - self._zero
        if time_s is None and damage.is_timed and not damage.is_near and self._codec.name == "flac":
            damage.add("a packet has lost its header", 0.0)
        layout = tuple(channel.name for channel in frame.layout.channels)
        timed = Frame(frame.sample_rate, _table(frame), layout, time_s, damage.lost_s, damage.is_near)
        damage.pass_by(time_s is not None)
        return timed

    def _packets(self) -> Iterator[Any]:
        """Packets of the track; `_last_s` becomes the end of all tracks' packets."""
        self._last_s = 0.0
        ticks_s = {stream.index: float(stream.time_base or 0) for stream in self._container.streams}
        for packet in self._container.demux():
            if packet.pts is not None:
                end_s = (packet.pts + (packet.duration or 0)) * ticks_s.get(packet.stream_index, 0.0) - self._zero
                self._last_s = max(self._last_s, end_s)
            if packet.stream == self._stream:
                yield packet


def _codec_of(stream: Any) -> Any:
    own = stream.codec_context
    if kind_of(stream.container) == "wav":  # its codec number of AMR is ambiguous
        return own
    try:
        other = cast(Any, CodecContext.create(DECODERS[own.name], "r"))
    except (KeyError, ValueError, av.FFmpegError):
        return own
    other.sample_rate, other.layout = own.sample_rate or 8_000, "mono"
    return other


def _zero_s(start_time: int | None) -> Fraction:
    """The container's start, without short priming before 0."""
    start_s = Fraction(start_time or 0, av.time_base)
    return Fraction(0) if -MAX_PRIMING_S < start_s < 0 else start_s


class _Damage:
    """Damaged packets of a track; `lost_s` counts since the last frame."""

    def __init__(self) -> None:
        self.n = 0
        self.reason = ""
        self.lost_s = 0.0
        self.is_near = False
        """No timestamp has followed the last damage."""
        self.is_timed = False
        """Some frame had a timestamp."""

    def add(self, reason: str, lost_s: float) -> None:
        self.n, self.reason, self.is_near = self.n + 1, reason, True
        self.lost_s += lost_s

    def pass_by(self, is_timed: bool) -> None:
        self.lost_s, self.is_near = 0.0, self.is_near and not is_timed
        self.is_timed = self.is_timed or is_timed


def _table(frame: AudioFrame) -> NDArray[Any]:
    """Planar (channels, n) or interleaved (1, n * channels) -> (n, channels)."""
    samples: NDArray[Any] = np.asarray(frame.to_ndarray())
    return samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
