"""The transcription loop with a tiny random model; tones stand for speech."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lithophone.errors import AudioError, CheckpointError, DownloadError, OptionError, PromptError
from lithophone.pipeline import request as decoders
from lithophone.pipeline.transcriber import Transcriber, load
from lithophone.pipeline.utterance import Piece
from lithophone.transcript import Segment, Transcript
from tests.conftest import DEMO
from tests.sounds import noise, silence, tone
from tests.tiny_checkpoint import tiny_checkpoint

RATE_HZ = 16_000
SHORT = {"max_new_tokens": 12}
pytestmark = pytest.mark.usefixtures("tones_are_speech")


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


def test_a_stream_begins_before_the_recording_is_done(tiny: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    whole = Transcriber._hear
    monkeypatch.setattr(Transcriber, "_hear", lambda self, jobs, *rest: runs.append(1) or whole(self, jobs, *rest))
    stream = tiny.stream(SAMPLES, RATE_HZ, batch_size=1, **SHORT)
    assert isinstance(next(stream), Segment)
    assert len(runs) == 1


def test_an_abandoned_stream_leaves_nothing_behind(tiny: Transcriber) -> None:
    before = tiny.transcribe(SAMPLES, RATE_HZ, **SHORT)
    next(tiny.stream(SAMPLES, RATE_HZ, batch_size=1, **SHORT))
    assert tiny.transcribe(SAMPLES, RATE_HZ, **SHORT) == before


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


def test_many_short_recordings_share_batches(tiny: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = Transcriber._hear
    monkeypatch.setattr(
        Transcriber, "_hear", lambda self, jobs, *rest: sizes.append(len(jobs)) or whole(self, jobs, *rest)
    )
    results = list(tiny.transcribe_many([tone(0.5)] * 8, RATE_HZ, batch_size=4, **SHORT))
    assert len(results) == 8
    assert sizes == [4, 4]


def test_sources_of_every_kind_say_the_same(tiny: Transcriber, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, SAMPLES, RATE_HZ, subtype="FLOAT")
    expected = tiny.transcribe(SAMPLES, RATE_HZ, **SHORT)
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert tiny.transcribe(source, **SHORT) == expected


def test_progress_is_told_window_by_window(tiny: Transcriber) -> None:
    pieces: list[Piece] = []
    tiny.transcribe(SAMPLES, RATE_HZ, on_piece=pieces.append, **SHORT)
    done = [piece.done_s for piece in pieces]
    assert done == sorted(done)
    assert done[-1] == pieces[0].duration_s == 16.0


def test_translation_is_written_in_the_other_language(tiny: Transcriber) -> None:
    transcript = tiny.transcribe(SAMPLES, RATE_HZ, task="translate", to="ja", **SHORT)
    assert (transcript.task, transcript.language) == ("translate", "ja")


def test_keywords_and_punctuation_reach_the_prompt(tiny: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    build = decoders.build_prompt
    monkeypatch.setattr(decoders, "build_prompt", lambda task, *rest: seen.append(task) or build(task, *rest))
    tiny.transcribe(tone(0.5), RATE_HZ, keywords=("granite",), punctuate=False, **SHORT)
    assert seen[0].keywords == ("granite",)
    assert seen[0].punctuate is False


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
    plus = Transcriber(tiny_checkpoint("plus"))
    assert plus.transcribe(SAMPLES, RATE_HZ, **SHORT).segments
    with pytest.raises(OptionError, match="does not translate"):
        plus.transcribe(SAMPLES, RATE_HZ, task="translate", to="fr")


def test_the_bundled_detector_finds_the_speech_of_the_demo(tiny: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    transcript = tiny.transcribe(DEMO, **SHORT)
    assert transcript.segments
    assert transcript.segments[-1].end_s <= transcript.duration_s


def test_a_saved_model_says_the_same(tiny: Transcriber, tmp_path: Path) -> None:
    tiny.save(tmp_path / "copy")
    copy = load(tmp_path / "copy", device="cpu", dtype="float32")
    assert copy.transcribe(SAMPLES, RATE_HZ, **SHORT) == tiny.transcribe(SAMPLES, RATE_HZ, **SHORT)


def test_bfloat16_runs(tiny_folder: Path) -> None:
    assert load(tiny_folder, dtype="bfloat16").transcribe(SAMPLES, RATE_HZ, **SHORT).segments


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
