"""The transcription loop with a tiny random model; tones stand for speech."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lithophone.checkpoint import Checkpoint
from lithophone.errors import AudioError, CancelledError, CheckpointError, DownloadError, OptionError, PromptError
from lithophone.model.speech import GraniteSpeech
from lithophone.pipeline.assembly import Event, RecordingDone, WindowDone
from lithophone.pipeline.engine import Engine, Pending
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.sources import AudioSource
from lithophone.pipeline.transcriber import LOOK_AHEAD, LOOK_AHEAD_FULL, Transcriber, load
from lithophone.pipeline.utterance import Utterance
from lithophone.text.tokenizer import Tokenizer
from lithophone.transcript import Segment, Transcript
from tests.conftest import DEMO
from tests.detectors import by_loudness
from tests.sounds import Pipe, noise, silence, tone, write_container
from tests.tiny_checkpoint import tiny_checkpoint

RATE_HZ = 16_000
SHORT = {"max_new_tokens": 12}


def recording(*lengths_s: float, pause_s: float = 1.5) -> np.ndarray:
    """Tones of different pitch with silence before each."""
    parts = [(silence(pause_s), tone(s, frequency_hz=300 + 170 * i)) for i, s in enumerate(lengths_s)]
    return np.concatenate([part for pair in parts for part in pair])


SAMPLES = recording(1.0, 3.0, 0.6, 2.2, 1.7)


def test_times_are_those_of_the_recording(tiny: Transcriber) -> None:
    transcript = tiny.transcribe(SAMPLES, RATE_HZ, **SHORT)
    starts = [segment.start_s for segment in transcript.segments]
    assert starts == pytest.approx([1.1, 3.6, 8.1, 10.2, 13.9], abs=0.05)
    assert transcript.duration_s == pytest.approx(16.0)
    assert all(segment.end_s <= 16.0 for segment in transcript.segments)


def test_a_batch_says_what_its_windows_say_alone(tiny: Transcriber) -> None:
    alone = tiny.transcribe(SAMPLES, RATE_HZ, batch_size=1, **SHORT)
    assert len(alone.segments) == 5
    assert len({segment.text for segment in alone.segments}) > 1
    for batch_size in (2, 3, 8):
        assert tiny.transcribe(SAMPLES, RATE_HZ, batch_size=batch_size, **SHORT) == alone


def test_a_stream_gives_the_same_segments_in_the_order_of_time(tiny: Transcriber) -> None:
    segments = list(tiny.stream(SAMPLES, RATE_HZ, batch_size=2, **SHORT))
    assert tuple(segments) == tiny.transcribe(SAMPLES, RATE_HZ, **SHORT).segments
    assert segments == sorted(segments, key=lambda segment: segment.start_s)


class CountingEngine(Engine):
    """Counts what is submitted and cancelled."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.submitted: list[Pending] = []
        self.cancelled: list[Pending] = []

    def submit(self, utterance: Utterance) -> Pending:
        self.submitted.append(super().submit(utterance))
        return self.submitted[-1]

    def cancel(self, pending: Pending) -> None:
        self.cancelled.append(pending)
        super().cancel(pending)


def counting(checkpoint: Checkpoint | None = None) -> tuple[Transcriber, CountingEngine]:
    made = checkpoint or tiny_checkpoint()
    engine = CountingEngine(made)
    return Transcriber(made, detector=by_loudness(), engine=engine), engine


def test_a_stream_begins_when_its_first_window_is_done() -> None:
    transcriber, engine = counting()
    stream = transcriber.stream(SAMPLES, RATE_HZ, batch_size=1, **SHORT)
    assert isinstance(next(stream), Segment)
    assert [pending.done for pending in engine.submitted] == [True]


def test_windows_are_read_ahead_by_a_bounded_number() -> None:
    transcriber, engine = counting()
    events = transcriber.events([SAMPLES] * 9, RATE_HZ, batch_size=2, decode="greedy", max_new_tokens=1)
    most, n_given = 0, 0
    for event in events:
        n_given += isinstance(event, WindowDone)
        most = max(most, len(engine.submitted) - n_given)
    assert n_given == len(engine.submitted) == 45
    assert most <= 2 * LOOK_AHEAD
    assert most > 2


def test_long_windows_are_read_ahead_by_their_seconds() -> None:
    transcriber, engine = counting()
    long = recording(*[2.0] * 9, pause_s=1.5)
    options: dict[str, Any] = {"batch_size": 2, "limit_s": 3.0, "decode": "greedy", "max_new_tokens": 1}
    most_s, given = 0.0, 0
    for event in transcriber.events([long] * 2, RATE_HZ, **options):
        given += isinstance(event, WindowDone)
        most_s = max(most_s, sum(pending.utterance.duration_s for pending in engine.submitted[given:]))
    assert given == 18
    assert 2 * 3.0 < most_s <= LOOK_AHEAD_FULL * 2 * 3.0 + 3.0


def test_an_abandoned_stream_leaves_nothing_behind() -> None:
    transcriber, engine = counting()
    before = transcriber.transcribe(SAMPLES, RATE_HZ, **SHORT)
    for batch_size in (1, 2, 4):
        stream = transcriber.stream(SAMPLES, RATE_HZ, batch_size=batch_size, **SHORT)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        engine.step()
        assert not engine.busy
        assert transcriber.transcribe(SAMPLES, RATE_HZ, **SHORT) == before
    assert all(pending.done for pending in engine.submitted if pending not in engine.cancelled)


def test_events_end_when_another_thread_cancels_them() -> None:
    transcriber, engine = counting()
    cancelled = threading.Event()
    events = transcriber.events([SAMPLES], RATE_HZ, batch_size=1, cancelled=cancelled, **SHORT)
    assert isinstance(next(events), WindowDone)
    cancelled.set()
    with pytest.raises(CancelledError):
        list(events)
    engine.step()
    assert not engine.busy


class Blocks:
    """Samples that somebody else has decoded, in blocks of 0.3 s."""

    name, duration_s = "blocks", None

    def __init__(self) -> None:
        self.warnings = ["may be cut off"]
        self.closed = False

    def __iter__(self) -> Iterator[np.ndarray]:
        return (SAMPLES[first : first + 4800] for first in range(0, len(SAMPLES), 4800))

    def close(self) -> None:
        self.closed = True


def test_a_stream_of_blocks_is_a_source(tiny: Transcriber) -> None:
    blocks = Blocks()
    transcript = tiny.transcribe(AudioSource(blocks), **SHORT)
    assert transcript.segments == tiny.transcribe(SAMPLES, RATE_HZ, **SHORT).segments
    assert [warning.message for warning in transcript.warnings if warning.code == "damaged"] == ["may be cut off"]
    assert blocks.closed


def test_interleaved_calls_of_different_options_do_not_disturb_each_other(tiny: Transcriber) -> None:
    asked: tuple[dict[str, Any], ...] = (
        {"decode": "greedy", **SHORT},
        {"decode": "sample", "seed": 3, "keywords": ("stone",), **SHORT},
        {"decode": "beam", "num_beams": 3, "max_new_tokens": 7, "batch_size": 2},
        {"task": "translate", "to": "fr", "max_new_tokens": 5},
    )
    alone = [tiny.transcribe(SAMPLES, RATE_HZ, **options).segments for options in asked]
    streams = [tiny.stream(SAMPLES, RATE_HZ, **options) for options in asked]
    rounds = list(zip(*streams, strict=True))
    assert [tuple(column) for column in zip(*rounds, strict=True)] == alone


def test_threads_may_share_a_transcriber(tiny: Transcriber) -> None:
    expected = {n: tiny.transcribe(SAMPLES, RATE_HZ, max_new_tokens=n) for n in (3, 5, 8)}
    found: dict[int, Transcript] = {}

    def run(n: int) -> None:
        found[n] = tiny.transcribe(SAMPLES, RATE_HZ, max_new_tokens=n)

    threads = [threading.Thread(target=run, args=(n,)) for n in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == expected


def test_the_warnings_of_a_stream_are_logged_or_handed_over(
    tiny: Transcriber, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="lithophone"):
        list(tiny.stream(silence(1.0), RATE_HZ))
    assert "no speech" in caplog.text
    found: list[Any] = []
    list(tiny.stream(silence(1.0), RATE_HZ, on_warning=found.append))
    assert [warning.code for warning in found] == ["no_speech"]


def test_a_reply_cut_at_its_budget_is_reported_with_its_times(tiny: Transcriber) -> None:
    transcript = tiny.transcribe(SAMPLES, RATE_HZ, max_new_tokens=2)
    cut = [warning for warning in transcript.warnings if warning.code == "cut"]
    assert cut
    assert cut[0].start_s == transcript.segments[0].start_s
    assert "2 tokens" in cut[0].message


@pytest.mark.parametrize("samples", [silence(3.0), noise(2.0), tone(0.01) * 0, silence(0.01), silence(0.001)])
def test_silence_is_an_empty_transcript_with_a_warning(tiny: Transcriber, samples: np.ndarray) -> None:
    transcript = tiny.transcribe(samples, RATE_HZ)
    assert transcript.text == ""
    assert transcript.duration_s == len(samples) / RATE_HZ
    assert [warning.code for warning in transcript.warnings] == ["no_speech"]


@pytest.mark.parametrize("seconds", [0.002, 0.01, 0.03, 0.5])
def test_very_short_clips(tiny: Transcriber, seconds: float) -> None:
    transcript = tiny.transcribe(tone(seconds), RATE_HZ, **SHORT)
    assert transcript.text or transcript.warnings


def test_speech_without_pause_is_cut_into_windows(tiny: Transcriber) -> None:
    transcript = tiny.transcribe(tone(9.5), RATE_HZ, limit_s=2.0, **SHORT)
    assert len(transcript.segments) >= 5
    assert all(segment.end_s - segment.start_s <= 2.0 for segment in transcript.segments)


def test_a_broken_file_takes_its_own_place_only(tiny: Transcriber, tmp_path: Path) -> None:
    good, broken, missing = tmp_path / "good.wav", tmp_path / "broken.wav", tmp_path / "missing.wav"
    soundfile.write(good, SAMPLES, RATE_HZ)
    broken.write_bytes(b"RIFF no recording")
    results = list(tiny.transcribe_many([broken, good, missing, good], **SHORT))
    assert [source for source, _ in results] == [broken, good, missing, good]
    assert [isinstance(result, AudioError) for _, result in results] == [True, False, True, False]
    assert results[1][1] == results[3][1] == tiny.transcribe(good, **SHORT)


@pytest.mark.parametrize(("ending", "codec"), [("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("ogg", "libopus")])
def test_a_disk_that_fails_while_reading_ends_its_recording_alone(
    tiny: Transcriber, tmp_path: Path, ending: str, codec: str
) -> None:
    """Faults, F7."""
    data = write_container(tmp_path / f"a.{ending}", np.tile(SAMPLES, 3), 48_000, codec).read_bytes()
    broken = Pipe(data, fails_at=len(data) // 2)
    (_, first), (_, second) = tiny.transcribe_many([broken, data], max_new_tokens=2, decode="greedy")
    assert isinstance(first, AudioError)
    assert "Input/output error" in str(first)
    assert isinstance(second, Transcript)
    assert second.segments


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32"])
def test_a_codec_that_cannot_be_sought_in_stops_no_other_recording(tiny: Transcriber, subtype: str) -> None:
    """Faults, G2."""
    file = io.BytesIO()
    soundfile.write(file, tone(1.5, 8_000), 8_000, subtype, format="WAV")
    results = [result for _, result in tiny.transcribe_many([file.getvalue(), b"RIFF", file.getvalue()], **SHORT)]
    assert [type(result) for result in results] == [Transcript, AudioError, Transcript]
    assert results[0] == results[2]


@pytest.mark.parametrize(
    ("reply", "text"),
    [("[Transcription] hello [Translation] bonjour", "bonjour"), ("le mot [Trans", "le mot")],
)
def test_tags_of_a_chain_of_thought_are_in_no_segment(
    tiny: Transcriber, monkeypatch: pytest.MonkeyPatch, reply: str, text: str
) -> None:
    """Faults, N8."""
    monkeypatch.setattr(Tokenizer, "decode", lambda *_, **__: reply)
    result = tiny.transcribe(tone(0.5), RATE_HZ, task="translate", to="fr", **SHORT)
    assert [segment.text for segment in result.segments] == [text]
    assert ("malformed" in [warning.code for warning in result.warnings]) is (text != "bonjour")


def test_many_short_recordings_share_batches(tiny: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = GraniteSpeech.encode

    def counted(self: GraniteSpeech, frames: Any, *rest: Any) -> Any:
        sizes.append(len(frames))
        return whole(self, frames, *rest)

    monkeypatch.setattr(GraniteSpeech, "encode", counted)
    results = list(tiny.transcribe_many([tone(0.5)] * 8, RATE_HZ, batch_size=4, **SHORT))
    assert len(results) == 8
    assert sizes == [4, 4]


def test_sources_of_every_kind_say_the_same(tiny: Transcriber, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, SAMPLES, RATE_HZ, subtype="FLOAT")
    expected = tiny.transcribe(SAMPLES, RATE_HZ, **SHORT)
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert tiny.transcribe(source, **SHORT) == expected


def test_events_come_window_by_window_in_the_order_of_time(tiny: Transcriber) -> None:
    events: list[Event] = list(tiny.events([SAMPLES, silence(1.0)], RATE_HZ, **SHORT))
    *windows, first, second = events
    assert all(isinstance(event, WindowDone) for event in windows)
    assert [event.end_s for event in windows if isinstance(event, WindowDone)] == pytest.approx(
        [2.9, 7.4, 9.5, 13.2, 16.0], abs=0.05
    )
    assert all(
        event.source is SAMPLES and event.duration_s == 16.0 for event in windows if isinstance(event, WindowDone)
    )
    assert isinstance(first, RecordingDone)
    assert isinstance(second, RecordingDone)
    assert first.result == tiny.transcribe(SAMPLES, RATE_HZ, **SHORT)
    assert [warning.code for warning in second.warnings] == ["no_speech"]


def test_a_source_may_have_a_span_a_channel_and_options_of_its_own(tiny: Transcriber, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([SAMPLES, SAMPLES[::-1] * 0.5], axis=1), RATE_HZ, subtype="FLOAT")
    sources = [
        AudioSource(path, channel=0),
        AudioSource(path, channel=1),
        AudioSource(path, channel=0, start_s=3.0, end_s=8.0),
        AudioSource(path, channel=0, options=TranscribeOptions(task="translate", to="de", max_new_tokens=5)),
        AudioSource(path, channel=7),
        AudioSource(path, start_s=99.0, end_s=100.0),
        AudioSource(path, options=TranscribeOptions(task="speakers")),
    ]
    given, results = zip(*tiny.transcribe_many(sources, **SHORT), strict=True)
    assert list(given) == sources
    left, right, span, german, *errors = results
    assert left == tiny.transcribe(SAMPLES, RATE_HZ, **SHORT)
    assert right == tiny.transcribe(SAMPLES[::-1] * 0.5, RATE_HZ, **SHORT)
    assert span == tiny.transcribe(SAMPLES[3 * RATE_HZ : 8 * RATE_HZ], RATE_HZ, **SHORT)
    assert isinstance(german, Transcript)
    assert (german.task, german.language) == ("translate", "de")
    assert [type(error) for error in errors] == [AudioError, AudioError, OptionError]


def test_an_error_in_the_middle_of_a_recording_ends_it_alone(tiny: Transcriber) -> None:
    broken = SAMPLES.copy()
    broken[-100] = np.nan
    events = list(tiny.events([broken, SAMPLES], RATE_HZ, **SHORT))
    ends = [event for event in events if isinstance(event, RecordingDone)]
    assert isinstance(ends[0].result, AudioError)
    assert ends[1].result == tiny.transcribe(SAMPLES, RATE_HZ, **SHORT)
    assert isinstance(events[0], WindowDone)
    with pytest.raises(AudioError, match="nan"):
        tiny.transcribe(broken, RATE_HZ, **SHORT)
    stream = tiny.stream(broken, RATE_HZ, **SHORT)
    assert isinstance(next(stream), Segment)
    with pytest.raises(AudioError, match="nan"):
        list(stream)


def test_sources_that_raise_leave_the_engine_clean() -> None:
    transcriber, engine = counting()

    def sources() -> Iterator[np.ndarray]:
        yield SAMPLES
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(transcriber.transcribe_many(sources(), RATE_HZ, batch_size=8, **SHORT))
    assert not engine.busy


@pytest.mark.parametrize("given", [["a.wav", "b.wav"], (Path("a.wav"), b"RIFF"), [AudioSource("a.wav")], ("a.wav",)])
def test_several_recordings_in_place_of_one_are_refused(tiny: Transcriber, given: Any) -> None:
    for call in (tiny.transcribe, tiny.stream):
        with pytest.raises(OptionError, match="use transcribe_many"):
            call(given)  # type: ignore[operator]


@pytest.mark.parametrize("given", ["a.wav", b"RIFF", Path("a.wav"), AudioSource("a.wav"), 7, None])
def test_one_recording_in_place_of_several_is_refused(tiny: Transcriber, given: Any) -> None:
    for call in (tiny.transcribe_many, tiny.events):
        with pytest.raises(OptionError, match="use transcribe for one"):
            call(given)  # type: ignore[operator]


def test_a_list_of_numbers_is_a_recording(tiny: Transcriber) -> None:
    assert tiny.transcribe(tone(0.5).tolist(), RATE_HZ, **SHORT) == tiny.transcribe(tone(0.5), RATE_HZ, **SHORT)


@pytest.mark.parametrize("name", ["a.mp3", "a.flac"])
def test_a_damaged_file_has_a_warning_in_its_transcript(tiny: Transcriber, tmp_path: Path, name: str) -> None:
    whole = tmp_path / name
    if name == "a.mp3":
        write_container(whole, np.tile(SAMPLES, 2), RATE_HZ, "libmp3lame")
    else:
        soundfile.write(whole, np.tile(SAMPLES, 2), RATE_HZ)
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    damaged = tiny.transcribe(bytes(data), **SHORT)
    assert "damaged" in [warning.code for warning in damaged.warnings]
    assert [warning for warning in tiny.transcribe(whole, **SHORT).warnings if warning.code == "damaged"] == []


def test_a_cut_file_has_a_warning_in_its_transcript(tiny: Transcriber, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.wav", SAMPLES, RATE_HZ)
    cut = (tmp_path / "whole.wav").read_bytes()[: RATE_HZ * 2 * 6]
    [warning] = [w for w in tiny.transcribe(cut, **SHORT).warnings if w.code == "damaged"]
    assert "cut off" in warning.message
    assert (warning.start_s, warning.end_s) == (0.0, pytest.approx(6.0, abs=0.01))


@pytest.mark.parametrize(("file_format", "share"), [("FLAC", 0.5), ("WAV", 0.7), ("MP3", 0.4)])
def test_a_cut_file_has_its_warning_in_the_document(tiny: Transcriber, file_format: str, share: float) -> None:
    file = io.BytesIO()
    soundfile.write(file, SAMPLES, RATE_HZ, format=file_format)
    data = file.getvalue()
    whole, cut = (tiny.transcribe(part, **SHORT).to_dict() for part in (data, data[: int(len(data) * share)]))
    assert "damaged" not in [warning["code"] for warning in whole["warnings"]]
    assert "damaged" in [warning["code"] for warning in cut["warnings"]]


def test_no_word_or_segment_ends_behind_its_recording(tiny: Transcriber) -> None:
    for n in (48_160, 48_161, 48_319, 16_005):
        transcript = tiny.transcribe(tone(4.0)[:n], RATE_HZ, word_timestamps=True, **SHORT)
        assert transcript.segments
        assert all(part.end_s <= n / RATE_HZ for part in (*transcript.segments, *transcript.words))


def test_translation_is_written_in_the_other_language(tiny: Transcriber) -> None:
    transcript = tiny.transcribe(SAMPLES, RATE_HZ, task="translate", to="ja", **SHORT)
    assert (transcript.task, transcript.language) == ("translate", "ja")


def test_a_window_that_leaves_no_room_is_an_error_of_its_recording(tiny: Transcriber) -> None:
    long, short = tone(59.0), tone(1.0)
    results = dict(enumerate(r for _, r in tiny.transcribe_many([long, short], RATE_HZ, limit_s=60.0, **SHORT)))
    assert isinstance(results[0], PromptError)
    assert "lower limit_s" in str(results[0])
    assert isinstance(results[1], Transcript)


def test_wrong_options_are_refused_before_a_source_is_opened(tiny: Transcriber) -> None:
    for call in (tiny.transcribe, tiny.transcribe_many, tiny.stream):
        with pytest.raises(OptionError, match="unknown option"):
            call("nowhere.wav", colour="red")  # type: ignore[operator]
        with pytest.raises(OptionError, match="granite_speech_plus"):
            call("nowhere.wav", task="speakers")  # type: ignore[operator]


def test_plus_models_transcribe_by_default_and_refuse_what_they_lack() -> None:
    plus = Transcriber(tiny_checkpoint("plus"), detector=by_loudness())
    assert plus.transcribe(SAMPLES, RATE_HZ, **SHORT).segments
    with pytest.raises(OptionError, match="does not translate"):
        plus.transcribe(SAMPLES, RATE_HZ, task="translate", to="fr")


def test_the_bundled_detector_finds_the_speech_of_the_demo() -> None:
    transcript = Transcriber(tiny_checkpoint()).transcribe(DEMO, **SHORT)
    assert transcript.segments
    assert transcript.segments[-1].end_s <= transcript.duration_s


def test_a_saved_model_says_the_same(tiny: Transcriber, tmp_path: Path) -> None:
    tiny.save(tmp_path / "copy")
    copy = Transcriber(load(tmp_path / "copy", device="cpu", dtype="float32").checkpoint, detector=by_loudness())
    assert copy.transcribe(SAMPLES, RATE_HZ, **SHORT) == tiny.transcribe(SAMPLES, RATE_HZ, **SHORT)


def test_bfloat16_runs(tiny_folder: Path) -> None:
    model = Transcriber(load(tiny_folder, dtype="bfloat16").checkpoint, detector=by_loudness())
    assert model.transcribe(SAMPLES, RATE_HZ, **SHORT).segments


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name_or_folder": "no-such-model"}, DownloadError, "no-such-model"),
        ({"device": "abacus"}, OptionError, "device 'abacus'"),
        ({"dtype": "float7"}, OptionError, "allowed are float32, bfloat16, float16"),
    ],
)
def test_what_cannot_be_loaded(
    tiny_folder: Path, arguments: dict[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        load(**{"name_or_folder": tiny_folder, **arguments})


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(tmp_path)
