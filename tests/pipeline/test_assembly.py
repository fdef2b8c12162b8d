"""Results -> events and transcripts: times of the recording, warnings, and nothing that overlaps an end."""

from __future__ import annotations

import pytest

from lithophone.audio.reader import RATE_HZ
from lithophone.checkpoint import Checkpoint
from lithophone.decode.reply import Reply
from lithophone.errors import AudioError
from lithophone.pipeline.assembly import Assembly, RecordingDone, WindowDone, results_of, shift
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.request import resolve_request
from lithophone.pipeline.utterance import WindowResult
from lithophone.text.replies import ParsedReply
from lithophone.transcript import Segment, Transcript, Word
from tests.tiny_checkpoint import tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint()


def result(text: str, start_s: float, end_s: float, *words: Word, finished: bool = True) -> WindowResult:
    return WindowResult(start_s, end_s, Reply((1,), finished, (0.0,)), ParsedReply(text, words), has_speech=True)


def test_times_of_a_window_become_those_of_the_recording() -> None:
    word = Word("one", 0.0, 0.5, 0.9, "1")
    moved = shift(Segment("one", 0.0, 1.0, (word,), "1"), result("one", 30.0, 31.0))
    assert moved == Segment("one", 30.0, 31.0, (Word("one", 30.0, 30.5, 0.9, "1"),), "1")


def test_no_time_lies_behind_the_end_of_its_window() -> None:
    start_s, end_s = 1 / 3, 48_160 / RATE_HZ
    word = Word("last", 1.0, end_s - start_s + 1e-15)
    moved = shift(Segment("last", 0.0, 3.0, (word, Word("late", 4.0, 5.0))), result("last", start_s, end_s))
    assert moved.end_s == end_s
    assert [w.end_s for w in moved.words] == [end_s, end_s]
    assert moved.words[1].start_s == end_s


def test_windows_are_folded_into_their_recording(checkpoint: Checkpoint) -> None:
    request = resolve_request(checkpoint, TranscribeOptions(language="de"))
    assembly = Assembly("a.wav", request)
    events = [
        assembly.add(result("eins", 1.0, 2.0), None),
        assembly.add(result("", 3.0, 4.0), None),
        assembly.add(result("zwei", 5.0, 6.5, finished=False), 9.0),
        assembly.finish(9.0, ["3 packets were left out"]),
    ]
    first, empty, last, done = events
    assert isinstance(first, WindowDone)
    assert isinstance(last, WindowDone)
    assert isinstance(done, RecordingDone)
    assert (first.segments, first.end_s, first.duration_s) == ((Segment("eins", 1.0, 2.0),), 2.0, None)
    assert (last.end_s, last.duration_s) == (6.5, 9.0)
    assert [warning.code for warning in empty.warnings] == ["speech_without_text"]
    transcript = done.result
    assert isinstance(transcript, Transcript)
    assert (transcript.text, transcript.duration_s, transcript.language) == ("eins zwei", 9.0, "de")
    assert [w.code for w in transcript.warnings] == ["damaged", "speech_without_text", "cut"]
    assert (transcript.warnings[0].start_s, transcript.warnings[0].end_s) == (0.0, 9.0)
    assert list(results_of(events)) == [("a.wav", transcript)]


def test_a_recording_without_windows_has_no_speech(checkpoint: Checkpoint) -> None:
    done = Assembly("a.wav", resolve_request(checkpoint, TranscribeOptions())).finish(2.0)
    assert isinstance(done.result, Transcript)
    assert [(w.code, w.start_s, w.end_s) for w in done.result.warnings] == [("no_speech", 0.0, 2.0)]
    assert done.warnings == done.result.warnings


def test_an_error_is_a_result() -> None:
    error = AudioError("broken")
    assert list(results_of([RecordingDone("a.wav", error)])) == [("a.wav", error)]


def test_the_task_is_that_of_the_request(checkpoint: Checkpoint) -> None:
    request = resolve_request(checkpoint, TranscribeOptions(task="translate", to="ja"))
    transcript = Assembly("a.wav", request).finish(1.0).result
    assert isinstance(transcript, Transcript)
    assert (transcript.task, transcript.language) == ("translate", "ja")
