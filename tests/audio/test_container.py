"""Containers: samples lie on the clock that players show subtitles by, and a warning is true when it is given."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from lithophone.audio import container
from lithophone.audio.reader import RATE_HZ, load_audio, open_audio
from lithophone.errors import AudioError
from tests.sounds import Pipe, beep, noise, onset_s, silence, tone, write_container, write_shifted


def read(source: object) -> tuple[NDArray[np.float32], list[str]]:
    """Samples and warnings."""
    with open_audio(source) as stream:
        return np.concatenate(list(stream)), stream.warnings


def wav(samples: NDArray[np.float32], rate_hz: int = RATE_HZ, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, subtype, format="WAV")
    return file.getvalue()


def late(seconds: float) -> Callable[[float], float]:
    return lambda _: seconds


# --- the container's clock


@pytest.mark.parametrize(
    ("ending", "codec", "picture"),
    [
        ("mp4", "aac", "mpeg4"),
        ("mkv", "aac", "mpeg4"),
        ("mov", "pcm_s16le", "mpeg4"),
        ("mkv", "libopus", "mpeg4"),
        ("flv", "aac", "flv"),
        ("ts", "mp2", "mpeg2video"),
    ],
)
@pytest.mark.parametrize("seconds", [0.25, 3.94, 14.0])
def test_a_track_that_begins_late(tmp_path: Path, ending: str, codec: str, picture: str, seconds: float) -> None:
    rate_hz = 48_000 if codec in ("libopus", "mp2") else 44_100
    path = write_shifted(
        tmp_path / f"late.{ending}", beep(1.0, 2.0, rate_hz), rate_hz, codec, late(seconds), picture, seconds + 3
    )
    samples, warnings = read(path)
    assert onset_s(samples) == pytest.approx(1.0 + seconds, abs=0.06)
    assert warnings == []


def test_the_clock_starts_with_the_earliest_track(tmp_path: Path) -> None:
    """Recorders that write the time of day into their timestamps: players count from the first packet."""
    path = write_shifted(tmp_path / "day.mkv", beep(1.0, 2.0), RATE_HZ, "flac", late(36_000.0), picture=None)
    samples, _ = read(path)
    assert onset_s(samples) == pytest.approx(1.0, abs=0.01)
    assert len(samples) == pytest.approx(2 * RATE_HZ, abs=100)


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "aac"), ("mkv", "flac"), ("mkv", "libopus")])
def test_a_pause_of_the_recorder_is_silence(tmp_path: Path, ending: str, codec: str) -> None:
    rate_hz = 48_000
    sound = np.concatenate([beep(0.5, 2.0, rate_hz), beep(0.5, 2.0, rate_hz)])
    path = write_shifted(tmp_path / f"pause.{ending}", sound, rate_hz, codec, lambda time_s: 5.0 * (time_s >= 1.5))
    samples, _ = read(path)
    assert len(samples) == pytest.approx(9 * RATE_HZ, abs=1_500)
    assert onset_s(samples) == pytest.approx(0.5, abs=0.05)
    assert 3 + onset_s(samples[3 * RATE_HZ :]) == pytest.approx(7.5, abs=0.05)


@pytest.mark.parametrize(("ending", "codec"), [("mkv", "flac"), ("mkv", "pcm_s16le"), ("mov", "aac")])
def test_packets_that_are_missing_are_silence(tmp_path: Path, ending: str, codec: str) -> None:
    sound = beep(3.0, 4.0, 48_000)
    path = write_shifted(
        tmp_path / f"holes.{ending}", sound, 48_000, codec, lambda time_s: None if 1.0 < time_s < 2.0 else 0.0
    )
    samples, _ = read(path)
    assert onset_s(samples) == pytest.approx(3.0, abs=0.05)


def test_an_edit_list_that_skips_the_beginning_is_obeyed(tmp_path: Path) -> None:
    """MP4 cut without encoding: the track holds sound before the cut, which no player plays."""
    path = write_container(tmp_path / "cut.m4a", beep(1.0, 3.0, 48_000), 48_000, "alac")
    plain, edited = read(path)[0], read(_with_media_time(path.read_bytes(), 24_000))[0]
    assert onset_s(plain) == pytest.approx(1.0, abs=0.01)
    assert onset_s(edited) == pytest.approx(0.5, abs=0.01)


def _with_media_time(data: bytes, media_time: int) -> bytes:
    """The MP4 with another start in its only edit (box elst, version 0: size, type, flags, count, duration, time)."""
    at = data.index(b"elst") + 4 + 4 + 4 + 4
    return data[:at] + media_time.to_bytes(4, "big") + data[at + 4 :]


@pytest.mark.parametrize(("ending", "codec"), [("mp3", "libmp3lame"), ("flac", "flac"), ("mkv", "aac"), ("m4a", "aac")])
def test_damage_moves_nothing_behind_it(tmp_path: Path, ending: str, codec: str) -> None:
    sound = np.concatenate([noise(6.0, 48_000, 0.05), beep(1.0, 2.0, 48_000)])
    data = bytearray(write_container(tmp_path / f"a.{ending}", sound, 48_000, codec).read_bytes())
    middle = len(data) // 3
    data[middle : middle + 400] = bytes(400)
    samples, warnings = read(bytes(data))
    assert 6.5 + onset_s(samples[int(6.5 * RATE_HZ) :]) == pytest.approx(7.0, abs=0.06)
    assert any("damaged packet" in warning for warning in warnings)


def test_files_behind_each_other_are_read_on(tmp_path: Path) -> None:
    ogg = write_container(tmp_path / "a.ogg", beep(0.5, 2.0, 48_000), 48_000, "libopus").read_bytes()
    samples, warnings = read(ogg + ogg)
    assert len(samples) == pytest.approx(4 * RATE_HZ, abs=200)
    assert 2 + onset_s(samples[2 * RATE_HZ :]) == pytest.approx(2.5, abs=0.05)
    assert warnings == []


# --- discontinuous transmission of AMR


@pytest.mark.parametrize("ending", ["amr", "3gp"])
@pytest.mark.parametrize("own", [True, False])
def test_amr_with_comfort_noise_keeps_its_length(
    tmp_path: Path, ending: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "libopencore_amrnb" not in av.codec.codecs_available:
        pytest.skip("this build of FFmpeg has no encoder for AMR")
    if own:
        monkeypatch.setattr(container, "DECODERS", {})
    sound = np.concatenate([noise(0.02, 8_000), beep(0.5, 1.5, 8_000), silence(4.0, 8_000), beep(0.5, 1.5, 8_000)])
    path = tmp_path / f"phone.{ending}"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libopencore_amrnb", rate=8_000, layout="mono", options={"dtx": "1"})
        frame = av.AudioFrame.from_ndarray((sound * 32_767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 8_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    samples, _ = read(path)
    assert len(samples) == pytest.approx(7.02 * RATE_HZ, abs=800)
    assert onset_s(samples, 0.15) == pytest.approx(0.52, abs=0.05)
    assert 3 + onset_s(samples[3 * RATE_HZ :], 0.15) == pytest.approx(6.02, abs=0.05)


# --- WAV of every kind


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "MS_ADPCM", "IMA_ADPCM", "ALAW", "ULAW"])
@pytest.mark.parametrize("piped", [False, True])
def test_wav_codecs_that_cannot_be_sought_in(subtype: str, piped: bool) -> None:
    data = wav(tone(2.0, 8_000), 8_000, subtype)
    samples, warnings = read(Pipe(data) if piped else data)
    assert len(samples) == pytest.approx(2 * RATE_HZ, abs=1_100)
    assert np.corrcoef(samples[1_000:30_000], tone(2.0)[1_000:30_000])[0, 1] > 0.9
    assert warnings == []


@pytest.mark.parametrize("subtype", ["NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"])
@pytest.mark.parametrize("piped", [False, True])
def test_nms_adpcm_is_refused(subtype: str, piped: bool) -> None:
    """FFmpeg decodes it as AMR: other sound, of another length."""
    data = wav(tone(2.0, 8_000), 8_000, subtype)
    with pytest.raises(AudioError, match="NMS ADPCM, which FFmpeg takes for AMR: convert"):
        read(Pipe(data) if piped else data)


def test_amr_inside_wav_is_read(tmp_path: Path) -> None:
    """It has the codec number of NMS ADPCM."""
    if "libopencore_amrnb" not in av.codec.codecs_available:
        pytest.skip("this build of FFmpeg has no encoder for AMR")
    sound = np.concatenate([noise(0.02, 8_000), beep(1.0, 2.0, 8_000)])
    path = write_container(tmp_path / "a.wav", sound, 8_000, "libopencore_amrnb")
    assert path.read_bytes()[20:22] == b"\x38\0"
    samples, _ = read(path)
    assert len(samples) == pytest.approx(len(sound) * 2, abs=800)
    assert onset_s(samples, 0.15) == pytest.approx(1.02, abs=0.05)


@pytest.mark.parametrize(
    ("rate_hz", "stereo", "piped"), [(44_100, False, False), (16_000, False, True), (22_050, True, False)]
)
def test_mp3_inside_wav_ends_where_it_ends(tmp_path: Path, rate_hz: int, stereo: bool, piped: bool) -> None:
    """Faults, F4: the length in the header is a guess; reading beyond the end gave old sound again."""
    sound = np.concatenate([noise(19.0, rate_hz, 0.02), tone(1.0, rate_hz)])
    data = mp3_in_wav(tmp_path, np.stack([sound, sound]) if stereo else sound, rate_hz)
    samples, warnings = read(Pipe(data) if piped else data)
    assert soundfile.info(io.BytesIO(data)).duration > 20.1, "the guess of libsndfile"
    assert len(samples) == pytest.approx(20.0 * RATE_HZ, abs=0.09 * RATE_HZ)
    assert np.abs(samples[-RATE_HZ // 2 :]).max() > 0.3, "the tone is the end"
    assert warnings == []


def mp3_in_wav(folder: Path, sound: NDArray[np.float32], rate_hz: int) -> bytes:
    """As recorders write it: codec 0x55, a fact chunk, packets of about 64 kbit/s."""
    mp3 = write_container(folder / "a.mp3", sound, rate_hz, "libmp3lame").read_bytes()
    with av.open(io.BytesIO(mp3)) as file:
        packets = b"".join(bytes(packet) for packet in file.demux() if packet.size)
    n_channels, n = np.atleast_2d(sound).shape
    chunk = b"\x55\0" + bytes([n_channels, 0]) + rate_hz.to_bytes(4, "little") + (8_000).to_bytes(4, "little")
    chunk += b"\1\0\0\0\x0c\0\1\0\2\0\0\0\xa1\1\1\0\x71\5"
    body = b"WAVEfmt " + len(chunk).to_bytes(4, "little") + chunk
    body += b"fact\4\0\0\0" + n.to_bytes(4, "little") + b"data" + len(packets).to_bytes(4, "little") + packets
    return b"RIFF" + len(body).to_bytes(4, "little") + body


# --- warnings


def whole_files(folder: Path) -> dict[str, bytes]:
    sound = noise(1.00007, peak=0.2)
    plain = wav(sound)
    piped = plain.replace(len(plain[44:]).to_bytes(4, "little"), b"\xff\xff\xff\xff")
    return {
        "odd24": wav(sound[:16_001], subtype="PCM_24"),
        "oddu8": wav(sound[:16_001], subtype="PCM_U8"),
        "oddmu": wav(sound[:16_001], subtype="ULAW"),
        "padded": wav(sound[:16_001], subtype="PCM_U8") + b"\0",
        "pipe": piped,
        "sox": plain.replace(len(plain[44:]).to_bytes(4, "little"), b"\0\xf0\xff\x7f"),
        "byte rate 0": plain[:28] + bytes(4) + plain[32:],
        "size 0": plain[:40] + bytes(4) + plain[44:],
        "chunk behind": plain + b"LIST\x0a\0\0\0INFOabcdef",
        **{
            f"screen.{ending}{' aac' * (ending == 'mkv' and codec == 'aac')}": write_shifted(
                folder / f"s.{ending}", sound, RATE_HZ, codec, late(0), picture, 20.0
            ).read_bytes()
            for ending, codec, picture in [
                ("mp4", "aac", "mpeg4"),
                ("mkv", "aac", "mpeg4"),
                ("mkv", "flac", "mpeg4"),
                ("avi", "pcm_s16le", "mpeg4"),
            ]
        },
    }


def test_whole_files_give_no_warning(tmp_path: Path) -> None:
    for name, data in whole_files(tmp_path).items():
        samples, warnings = read(data)
        assert (name, warnings) == (name, [])
        framing = 2_100 if name in ("screen.mp4", "screen.mkv aac") else 0
        assert len(samples) == pytest.approx(16_001, abs=framing), name


def test_a_subtitle_behind_the_sound_does_not_cut_the_sound_off(tmp_path: Path) -> None:
    path = tmp_path / "subtitled.mkv"
    with av.open(str(path), "w") as file, av.open(io.BytesIO(b"1\n00:01:00,000 --> 00:01:10,000\nEnd\n")) as srt:
        audio = file.add_stream("flac", rate=RATE_HZ, layout="mono")
        text = file.add_stream_from_template(srt.streams[0])
        frame = av.AudioFrame.from_ndarray(np.zeros((1, RATE_HZ), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        file.mux([*audio.encode(frame), *audio.encode(None)])
        for packet in srt.demux():
            if packet.size:
                packet.stream = text
                file.mux(packet)
    samples, warnings = read(path)
    assert (len(samples), warnings) == (RATE_HZ, [])


@pytest.mark.parametrize("lost", [1, 2, 1_000, 200_000])
def test_a_wav_that_lacks_any_sample_is_called_cut_off(lost: int) -> None:
    samples, (warning,) = read(wav(noise(20.0))[:-lost])
    assert "may be cut off: its header states 640000 bytes of samples" in warning
    assert len(samples) == (640_000 - lost) // 2


@pytest.mark.parametrize(
    ("ending", "codec"),
    [("mp3", "libmp3lame"), ("flac", "flac"), ("mkv", "aac"), ("webm", "libopus"), ("aiff", "pcm_s16be")],
)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_cut_file_says_how_much_is_there(tmp_path: Path, ending: str, codec: str, share: float) -> None:
    data = write_container(tmp_path / f"a.{ending}", noise(20.0, 48_000, 0.3), 48_000, codec).read_bytes()
    samples, warnings = read(data[: round(share * len(data))])
    assert len(samples) == pytest.approx(20 * share * RATE_HZ, rel=0.2)
    assert any("may be cut off: 20." in warning for warning in warnings), warnings


def test_an_mp3_without_a_header_of_its_length_is_not_called_cut_off(tmp_path: Path) -> None:
    """FFmpeg guesses from the first bit rate."""
    data = b""
    for n, (sound, bit_rate) in enumerate([(silence(5.0, 48_000), 32_000), (noise(5.0, 48_000, 0.5), 320_000)]):
        path = tmp_path / f"{n}.mp3"
        with av.open(str(path), "w", options={"write_xing": "0", "id3v2_version": "0"}) as file:
            stream = file.add_stream("libmp3lame", rate=48_000, layout="mono", bit_rate=bit_rate)
            frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            frame.sample_rate = 48_000
            file.mux([*stream.encode(frame), *stream.encode(None)])
        data += path.read_bytes()
    with av.open(io.BytesIO(data)) as file:
        assert file.duration / 1e6 > 30.0
    samples, warnings = read(data)
    assert len(samples) == pytest.approx(10 * RATE_HZ, rel=0.02)
    assert warnings == []
    with open_audio(data) as opened:
        assert opened.duration_s is None


# --- stretches


@pytest.mark.parametrize(
    ("ending", "codec", "rate_hz", "atol"),
    [
        ("wav", "pcm_s16le", 44_100, 1e-6),
        ("flac", "flac", 44_100, 1e-6),
        ("ogg", "libopus", 48_000, 1e-5),
        ("m4a", "alac", 44_100, 1e-6),
        ("aiff", "pcm_s16be", 22_050, 1e-6),
        ("mp3", "libmp3lame", 44_100, 1e-6),
        ("wav", "adpcm_ima_wav", 44_100, 1e-6),
        ("mov", "pcm_s16le", 48_000, 1e-6),
    ],
)
def test_a_stretch_is_what_the_whole_has_there(
    tmp_path: Path, ending: str, codec: str, rate_hz: int, atol: float
) -> None:
    path = write_container(tmp_path / f"a.{ending}", noise(24.0, rate_hz, 0.3), rate_hz, codec)
    whole = load_audio(path)
    for start_s, end_s in [(0.0, 2.0), (7.3, 8.1), (15.0001, 16.7), (21.5, None)]:
        part = load_audio(path, start_s=start_s, end_s=end_s)
        end = None if end_s is None else round(end_s * RATE_HZ)
        np.testing.assert_allclose(part, whole[round(start_s * RATE_HZ) : end], atol=atol)
    piped = load_audio(Pipe(path.read_bytes()), start_s=15.0001, end_s=16.7)
    np.testing.assert_allclose(piped, load_audio(path, start_s=15.0001, end_s=16.7), atol=atol)


def test_a_stretch_of_a_late_track_lies_on_the_clock(tmp_path: Path) -> None:
    path = write_shifted(tmp_path / "late.mkv", beep(20.0, 24.0, 48_000), 48_000, "libopus", late(4.0), "mpeg4", 20.0)
    assert onset_s(load_audio(path, start_s=23.0)) == pytest.approx(1.0, abs=0.01)


def test_a_stretch_is_sought_not_decoded(tmp_path: Path) -> None:
    path = write_container(tmp_path / "long.flac", noise(120.0, 48_000), 48_000, "flac")

    class Counting(io.BytesIO):
        n_read = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.n_read += len(data)
            return data

    file = Counting(path.read_bytes())
    assert len(load_audio(file, start_s=100.0, end_s=102.0)) == 2 * RATE_HZ
    assert file.n_read < len(file.getvalue()) / 3


@pytest.mark.parametrize(("start_s", "end_s"), [(-1.0, None), (2.0, 2.0), (3.0, 1.0), (float("nan"), None)])
def test_stretches_that_are_none(start_s: float, end_s: float | None) -> None:
    with pytest.raises(AudioError, match="give 0 <= start_s < end_s"):
        load_audio(tone(), RATE_HZ, start_s=start_s, end_s=end_s)


@pytest.mark.parametrize("start_s", [2.0, 50.0])
def test_a_stretch_behind_the_end(start_s: float) -> None:
    with pytest.raises(AudioError, match=r"ends at 2.00 s: nothing lies at"):
        load_audio(wav(tone(2.0)), start_s=start_s)


# --- durations


def test_duration_is_known_before_reading(tmp_path: Path) -> None:
    for source in (wav(tone(3.0)), write_container(tmp_path / "a.m4a", tone(3.0, 48_000), 48_000)):
        with open_audio(source, end_s=2.5) as stream:
            assert stream.duration_s == 2.5
    with open_audio(tone(3.0), RATE_HZ, start_s=1.0) as stream:
        assert stream.duration_s == 2.0
