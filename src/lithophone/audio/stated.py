"""The length of a recording by its own headers, to detect cut files; no estimates from bit rate or other tracks."""

from __future__ import annotations

from typing import Any

from lithophone.audio.source import Input

ENDLESS = range(0x7FFF_0000, 0x8000_0001)
"""Data sizes of WAV headers written to a pipe, besides UNKNOWN."""

UNKNOWN = 0xFFFF_FFFF

MAX_HEADER = 1 << 16

NMS_ADPCM = 0x38
"""Codec number in WAV, which FFmpeg gives to AMR; NMS ADPCM has 2, 3 or 4 bits per sample."""

PCM_FILES = {"wav", "w64", "aiff", "caf", "au"}
"""Formats (FFmpeg's first name) whose lengths and positions are exact for PCM only."""

TRACK_FILES = {"mov", "tta", "wv", "ape"}
"""Formats with a length per track."""

WHOLE_FILES = {"matroska", "avi", "flv", "asf"}
"""Formats with one length for all tracks."""

MP3_RATES_HZ = (44_100, 48_000, 32_000)


def kind_of(container: Any) -> str:
    """FFmpeg's first name of the format: "mov" for MP4, "matroska" for WebM."""
    return str(container.format.name).split(",")[0]


def track_length_s(container: Any, stream: Any) -> float | None:
    """Seconds of the track by its headers, or None."""
    kind, codec = kind_of(container), stream.codec_context
    if kind == "flac":
        return _flac_length_s(bytes(codec.extradata or b""), codec.sample_rate)
    if stream.duration is None or not (kind in TRACK_FILES or (kind in PCM_FILES and codec.name.startswith("pcm"))):
        return None
    return float(stream.duration * stream.time_base)


def file_length_s(container: Any, stream: Any) -> float | None:
    """End of the last packet of any track by the headers, or None."""
    stated = kind_of(container) in WHOLE_FILES and stream.duration is None and container.duration
    return container.duration / 1e6 if stated else None


def wav_shortage(file: Input) -> str | None:
    """Warning if a WAV file is shorter than its header states, else None. Rewinds the file."""
    if not file.seekable():
        return None
    stated, there = _wav_bytes(file)
    file.seek(0)
    if stated <= there or stated in ENDLESS:
        return None
    return f"may be cut off: its header states {stated} bytes of samples, the file holds {there}"


def _wav_bytes(file: Input) -> tuple[int, int]:
    """Sample bytes stated by a WAV or RF64 header, and present; (0, 0) if unknown."""
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return 0, 0
    size64 = 0
    while len(chunk := file.read(8)) == 8:
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            start = file.tell()
            return size64 if size == UNKNOWN else size, file.seek(0, 2) - start
        if chunk[:4] == b"ds64" and size < MAX_HEADER:
            body = file.read(size + size % 2)
            size64 = int.from_bytes(body[8:16], "little")
        else:
            file.seek(size + size % 2, 1)
    return 0, 0


def is_nms_adpcm(head: bytes) -> bool:
    """Whether these first bytes of a file say WAV with NMS ADPCM, which FFmpeg reads as AMR."""
    at = head.find(b"fmt ", 12)
    codec, bits = head[at + 8 : at + 10], head[at + 22 : at + 24]
    return (
        head[8:12] == b"WAVE"
        and at > 0
        and int.from_bytes(codec, "little") == NMS_ADPCM
        and 1 < int.from_bytes(bits, "little") < 5
    )


def mp3_length_s(file: Input) -> float | None:
    """Seconds by the Xing, Info or VBRI header of an MP3 file, or None. Rewinds the file."""
    if not file.seekable():
        return None
    head = file.read(10)
    file.seek(10 + _syncsafe(head[6:]) if head[:3] == b"ID3" else 0)
    frame = file.read(256)
    file.seek(0)
    if len(frame) < 256 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return None
    n_frames = _mp3_frames(frame)
    version, rate = frame[1] >> 3 & 3, frame[2] >> 2 & 3
    if not n_frames or version == 1 or rate == 3:
        return None
    halvings = {3: 0, 2: 1, 0: 2}[version]
    return n_frames * (1152 if version == 3 else 576) / (MP3_RATES_HZ[rate] >> halvings)


def _mp3_frames(frame: bytes) -> int:
    """0 if not stated."""
    xing = max(frame.find(b"Xing"), frame.find(b"Info"))
    if 0 <= xing <= 48:
        return int.from_bytes(frame[xing + 8 : xing + 12], "big") if frame[xing + 7] & 1 else 0
    return int.from_bytes(frame[50:54], "big") if frame[36:40] == b"VBRI" else 0


def _syncsafe(data: bytes) -> int:
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(data)))


def _flac_length_s(stream_info: bytes, rate_hz: int) -> float | None:
    """STREAMINFO's total samples (RFC 9639, 8.2): 36 bits, 0 if unknown."""
    n = int.from_bytes(stream_info[13:18], "big") & (1 << 36) - 1
    return n / rate_hz if n and rate_hz else None
