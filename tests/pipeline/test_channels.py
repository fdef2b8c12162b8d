"""Channels as speakers: what is on one channel is transcribed and labelled by itself."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lithophone.audio.reader import RATE_HZ
from lithophone.checkpoint import load_checkpoint
from lithophone.errors import AudioError
from lithophone.pipeline.channels import channel_sources, merged, transcribe_channels
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.sources import AudioSource
from lithophone.pipeline.transcriber import Transcriber
from lithophone.transcript import Segment, Transcript, TranscriptWarning, Word
from tests.sounds import silence, tone

pytestmark = pytest.mark.usefixtures("tones_are_speech")
SHORT = TranscribeOptions(max_new_tokens=5)
LEFT = np.concatenate([tone(1.0), silence(4.0)])
RIGHT = np.concatenate([silence(3.0), tone(1.0), silence(1.0)])


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Transcriber:
    return Transcriber(load_checkpoint(tiny_folder))


@pytest.fixture
def call(tmp_path: Path) -> Path:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([LEFT, RIGHT], axis=1), RATE_HZ, subtype="FLOAT")
    return path


def one(tiny: Transcriber, source: object) -> Transcript:
    [(given, result)] = transcribe_channels(tiny, [source], SHORT)
    assert given is source
    assert isinstance(result, Transcript), result
    return result


def test_each_channel_is_a_speaker_with_the_words_of_that_channel(tiny: Transcriber, call: Path) -> None:
    result = one(tiny, call)
    assert [segment.speaker for segment in result.segments] == ["channel 1", "channel 2"]
    alone = [tiny.transcribe(samples, RATE_HZ, options=SHORT) for samples in (LEFT, RIGHT)]
    assert [s.text for s in result.segments] == [s.text for one in alone for s in one.segments]
    assert [s.start_s for s in result.segments] == [s.start_s for one in alone for s in one.segments]
    assert result.duration_s == 5.0


def test_a_pipe_and_a_file_object_give_their_channels_too(tiny: Transcriber, call: Path, tmp_path: Path) -> None:
    expected = one(tiny, call)
    assert one(tiny, io.BytesIO(call.read_bytes())) == expected
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(call.read_bytes()))
    writer.start()
    assert one(tiny, tmp_path / "pipe") == expected
    writer.join()


def test_a_silent_channel_is_named_in_its_warning(tiny: Transcriber) -> None:
    result = one(tiny, AudioSource(np.stack([LEFT, silence(5.0), RIGHT], axis=1), RATE_HZ))
    assert [segment.speaker for segment in result.segments] == ["channel 1", "channel 3"]
    assert [w.message for w in result.warnings if w.code == "no_speech"] == [
        "channel 2: no speech was found in the recording"
    ]


def test_one_channel_has_no_speaker(tiny: Transcriber) -> None:
    source = AudioSource(LEFT, RATE_HZ)
    assert one(tiny, source) == tiny.transcribe(LEFT, RATE_HZ, options=SHORT)
    assert channel_sources(AudioSource(np.stack([LEFT, RIGHT], axis=1), RATE_HZ, channel=1))[0].channel == 1


def test_errors_keep_their_places_among_the_recordings(tiny: Transcriber, call: Path, tmp_path: Path) -> None:
    closed = io.BytesIO(b"")
    closed.close()
    sources = [tmp_path / "missing.wav", call, tmp_path, closed]
    given, results = zip(*transcribe_channels(tiny, sources, SHORT), strict=True)
    assert list(given) == sources
    assert [type(result) for result in results] == [AudioError, Transcript, AudioError, AudioError]


def test_segments_are_merged_by_their_start_and_speakers_of_the_model_are_kept() -> None:
    warning = TranscriptWarning("cut", "the reply was cut", 0.0, 9.0)
    left = Transcript((Segment("a", 0.0, 1.0), Segment("c", 4.0, 5.0)), 9.0, "en", warnings=(warning,))
    right = Transcript((Segment("b", 2.0, 3.0, (Word("b", 2.0, 3.0),), "Speaker 1"),), 8.0, "en")
    result = merged([left, right])
    assert [(s.text, s.speaker) for s in result.segments] == [
        ("a", "channel 1"),
        ("b", "channel 2, Speaker 1"),
        ("c", "channel 1"),
    ]
    assert result.words[0].speaker == "channel 2, Speaker 1"
    assert (result.duration_s, result.warnings[0].message) == (9.0, "channel 1: the reply was cut")
