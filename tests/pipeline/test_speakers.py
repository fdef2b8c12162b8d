"""Speakers found by voice: segments come at the end, journals keep turns, errors are those of one recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lithophone.diarization.clustering import SpeakerCount
from lithophone.diarization.diarizer import default_diarizer
from lithophone.errors import JournalError, LithophoneError, OptionError
from lithophone.pipeline.assembly import RecordingDone, WindowDone
from lithophone.pipeline.captions import Captions
from lithophone.pipeline.journal import Journal
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.sources import AudioSource
from lithophone.pipeline.transcriber import Transcriber
from lithophone.transcript import Segment, Transcript
from tests.detectors import by_loudness
from tests.sounds import silence, tone
from tests.tiny_checkpoint import spelling_checkpoint, tiny_checkpoint

RATE_HZ = 16_000
OPTIONS: dict[str, Any] = {"decode": "ctc", "ctc_head": "characters", "limit_s": 4.0, "batch_size": 2, "diarize": True}


class HalvesDiarizer:
    """Ann speaks in the first 3 s, then Bob; counts what it gets."""

    name = "halves"

    def __init__(self) -> None:
        self.started: list[tuple[str | None, float, SpeakerCount]] = []
        self.pushed: list[tuple[int, int]] = []

    def start(self, recording: str | None, start_s: float, count: SpeakerCount) -> HalvesDiarizer:
        if recording == "unknown":
            raise OptionError("there is no such recording")
        self.started.append((recording, start_s, count))
        return self

    def push(self, start: int, samples: Any) -> None:
        self.pushed.append((start, len(samples)))

    def turns(self, duration_s: float) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
        turns = (Segment("", 0.0, 3.0, speaker="Ann"), Segment("", 3.0, duration_s, speaker="Bob"))
        return turns, ("Cleo did not speak",)


def recording(folder: Path, name: str = "talk") -> Path:
    path = folder / f"{name}.wav"
    parts = [tone(1.8, frequency_hz=300.0), silence(1.2), tone(3.0, frequency_hz=500.0), silence(1.2), tone(1.0)]
    soundfile.write(path, np.concatenate(parts), RATE_HZ, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def whole() -> Transcriber:
    return Transcriber(spelling_checkpoint(), detector=by_loudness(), diarizer=HalvesDiarizer())


@pytest.fixture
def transcriber(whole: Transcriber) -> Transcriber:
    whole.diarizer = HalvesDiarizer()
    return whole


def halves(transcriber: Transcriber) -> HalvesDiarizer:
    assert isinstance(transcriber.diarizer, HalvesDiarizer)
    return transcriber.diarizer


def test_words_have_the_speakers_of_the_turns(transcriber: Transcriber, tmp_path: Path) -> None:
    transcript = transcriber.transcribe(recording(tmp_path), **OPTIONS, word_timestamps=True)
    assert {segment.speaker for segment in transcript.segments} == {"Ann", "Bob"}
    for segment in transcript.segments:
        assert {word.speaker for word in segment.words} == {segment.speaker}
        assert (segment.start_s, segment.end_s) == (segment.words[0].start_s, segment.words[-1].end_s)
        assert segment.speaker == ("Ann" if segment.start_s + segment.end_s < 6.0 else "Bob")
    plain = transcriber.transcribe(recording(tmp_path), **{**OPTIONS, "diarize": False}, word_timestamps=True)
    assert [replace(word, speaker=None) for word in transcript.words] == list(plain.words)


def test_words_are_left_out_unless_asked_for(transcriber: Transcriber, tmp_path: Path) -> None:
    path = recording(tmp_path)
    timed = transcriber.transcribe(path, **OPTIONS, word_timestamps=True)
    found = transcriber.transcribe(path, **OPTIONS)
    assert found.words == ()
    assert found.segments == tuple(replace(segment, words=()) for segment in timed.segments)


def test_segments_come_when_all_is_read(transcriber: Transcriber, tmp_path: Path) -> None:
    path = recording(tmp_path)
    *windows, last, done = transcriber.events([path], **OPTIONS)
    assert len(windows) == 3
    assert all(isinstance(one, WindowDone) and not one.segments for one in windows)
    assert isinstance(last, WindowDone)
    assert isinstance(done, RecordingDone)
    assert isinstance(done.result, Transcript)
    assert last.segments == done.result.segments
    assert tuple(transcriber.stream(path, on_warning=lambda warning: None, **OPTIONS)) == last.segments


def test_a_diarizer_gets_all_windows_and_the_bounds(transcriber: Transcriber, tmp_path: Path) -> None:
    transcriber.transcribe(recording(tmp_path), **OPTIONS, min_speakers=2)
    assert halves(transcriber).started == [("talk", 0.0, SpeakerCount(2, None))]
    assert [start for start, _ in halves(transcriber).pushed] == sorted(
        {start for start, _ in halves(transcriber).pushed}
    )
    assert len(halves(transcriber).pushed) == 3


def test_samples_have_no_name_and_parts_have_their_start(transcriber: Transcriber, tmp_path: Path) -> None:
    transcriber.transcribe(tone(1.0), RATE_HZ, **OPTIONS, speakers=2)
    transcriber.transcribe(AudioSource(recording(tmp_path), start_s=1.5), **OPTIONS)
    assert halves(transcriber).started == [(None, 0.0, SpeakerCount(2, 2)), ("talk", 1.5, SpeakerCount())]


def test_warnings_are_the_recordings(transcriber: Transcriber, tmp_path: Path) -> None:
    transcript = transcriber.transcribe(recording(tmp_path), **OPTIONS)
    assert [(w.code, w.message) for w in transcript.warnings if w.code == "speakers"] == [
        ("speakers", "Cleo did not speak")
    ]


def test_a_recording_that_the_diarizer_does_not_know_fails_alone(transcriber: Transcriber, tmp_path: Path) -> None:
    paths = [recording(tmp_path, "unknown"), recording(tmp_path)]
    (_, error), (_, transcript) = transcriber.transcribe_many(paths, **OPTIONS)
    assert isinstance(error, LithophoneError)
    assert str(error) == "there is no such recording"
    assert isinstance(transcript, Transcript)
    assert transcript.segments


def test_without_the_option_no_speaker_is_looked_for(transcriber: Transcriber, tmp_path: Path) -> None:
    transcript = transcriber.transcribe(recording(tmp_path), **{**OPTIONS, "diarize": False})
    assert halves(transcriber).started == []
    assert {segment.speaker for segment in transcript.segments} == {None}


def test_segments_without_aligned_words_have_one_speaker(tmp_path: Path) -> None:
    """The tiny model lacks the family's character head."""
    transcriber = Transcriber(tiny_checkpoint(), detector=by_loudness(), diarizer=HalvesDiarizer())
    options = {"decode": "greedy", "max_new_tokens": 6, "limit_s": 4.0, "diarize": True}
    transcript = transcriber.transcribe(recording(tmp_path), **options)
    assert {segment.speaker for segment in transcript.segments} <= {"Ann", "Bob"}
    assert transcript.text == transcriber.transcribe(recording(tmp_path), **{**options, "diarize": False}).text


def test_a_missing_speaker_model_is_said_before_anything_is_read(
    transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcriber.diarizer = None
    monkeypatch.setattr("lithophone.diarization.weights.PACKAGE", "a-package-that-is-not-there")
    default_diarizer.cache_clear()
    with pytest.raises(OptionError, match="diarize needs the speaker model"):
        transcriber.events(["no such file"], **OPTIONS)


def test_live_captions_have_no_speakers(transcriber: Transcriber) -> None:
    with pytest.raises(OptionError, match="diarize needs the whole recording"):
        Captions(transcriber, TranscribeOptions(**OPTIONS))


# --- journals


def documents(transcriber: Transcriber, paths: list[Path], journal: Path, **changes: Any) -> list[Any]:
    with Journal(journal) as kept:
        options = {**OPTIONS, **changes}
        return [
            r.to_dict()
            for _, r in transcriber.transcribe_many(paths, journal=kept, **options)
            if isinstance(r, Transcript)
        ]


def test_a_finished_recording_keeps_its_speakers(transcriber: Transcriber, tmp_path: Path) -> None:
    paths, journal = [recording(tmp_path)], tmp_path / "journal"
    first = documents(transcriber, paths, journal)
    transcriber.diarizer = again = HalvesDiarizer()
    assert documents(transcriber, paths, journal) == first
    assert again.started == []
    assert {segment["speaker"] for segment in first[0]["segments"]} == {"Ann", "Bob"}


@pytest.mark.parametrize("lines", [3, 4, 5, 6])
def test_a_broken_run_finds_the_same_speakers(
    transcriber: Transcriber, tmp_path: Path, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lithophone.pipeline.groups.GROUP", 1)
    paths, journal = [recording(tmp_path), recording(tmp_path, "other")], tmp_path / "journal"
    whole = documents(transcriber, paths, journal)
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))
    assert documents(transcriber, paths, journal) == whole


def test_a_journal_of_another_diarizer_is_refused(transcriber: Transcriber, tmp_path: Path) -> None:
    paths, journal = [recording(tmp_path)], tmp_path / "journal"
    documents(transcriber, paths, journal)
    halves(transcriber).name = "thirds"
    with pytest.raises(JournalError, match="diarizer is 'thirds', in the journal 'halves'"):
        documents(transcriber, paths, journal)
    with pytest.raises(JournalError, match="diarize is False, in the journal True"):
        documents(transcriber, paths, journal, diarize=False)


# --- options


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, None),
        ({"diarize": True}, SpeakerCount(1, None)),
        ({"diarize": True, "speakers": 3}, SpeakerCount(3, 3)),
        ({"diarize": True, "min_speakers": 2, "max_speakers": 2}, SpeakerCount(2, 2)),
        ({"diarize": True, "max_speakers": 4}, SpeakerCount(1, 4)),
    ],
)
def test_options_bound_the_number_of_speakers(options: dict[str, Any], count: SpeakerCount | None) -> None:
    assert TranscribeOptions(**options).speaker_count == count


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"speakers": 2}, "speakers=2 goes with diarize"),
        ({"max_speakers": 2}, "max_speakers=2 goes with diarize"),
        ({"diarize": True, "speakers": 0}, "speakers is 0"),
        ({"diarize": True, "speakers": -1}, "speakers is -1"),
        ({"diarize": True, "speakers": 1.5}, "speakers is 1.5: it must be a whole number"),
        ({"diarize": True, "speakers": True}, "speakers is True"),
        ({"diarize": True, "min_speakers": 3, "max_speakers": 2}, "min_speakers is 3 and max_speakers is 2"),
        ({"diarize": True, "speakers": 2, "max_speakers": 2}, "leave out max_speakers"),
        ({"diarize": True, "task": "speakers", "speakers": 2}, "speakers=2 goes with task 'transcribe'"),
        ({"diarize": True, "task": "word-times"}, "diarize goes with task 'transcribe'"),
        ({"diarize": True, "task": "translate", "to": "en"}, "diarize goes with task 'transcribe'"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises(OptionError, match=error):
        TranscribeOptions(**options)
