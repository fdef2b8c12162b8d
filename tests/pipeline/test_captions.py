"""Live captions: events, their order, and that final text is that of the same windows offline."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lithophone.audio.detection import RECORDINGS, Detection
from lithophone.audio.reader import load_audio
from lithophone.errors import AudioError, OptionError, PromptError
from lithophone.hub import DEFAULT_MODEL, bundled_models
from lithophone.pipeline.captions import (
    CaptionEvent,
    Captions,
    Committed,
    Final,
    Partial,
    SpeechStarted,
    SpeechStopped,
)
from lithophone.pipeline.engine import Engine
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.request import resolve_request
from lithophone.pipeline.transcriber import Transcriber, load
from lithophone.pipeline.utterance import Utterance
from tests.conftest import DEMO
from tests.detectors import by_loudness
from tests.sounds import noise, silence, tone
from tests.tiny_checkpoint import tiny_checkpoint, tiny_nar_checkpoint

RATE_HZ = 16_000
SHORT = {"max_new_tokens": 8}
Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def wide() -> Transcriber:
    """A random model with the labels of the family, which takes tones for speech."""
    return Transcriber(tiny_checkpoint("wide"), detector=by_loudness())


@pytest.fixture(scope="module")
def bundled() -> Transcriber:
    if DEFAULT_MODEL not in bundled_models():
        pytest.skip(f"the bundled model {DEFAULT_MODEL} is not there")
    return load(dtype="float32", device="cpu")


def talk(*lengths_s: float, pause_s: float = 1.5) -> Samples:
    parts = [(silence(pause_s), tone(s, frequency_hz=300 + 170 * i)) for i, s in enumerate(lengths_s)]
    return np.concatenate([*(part for pair in parts for part in pair), silence(pause_s)])


def events_of(captions: Captions, samples: Samples, size: int = 1_600) -> list[CaptionEvent]:
    pushed = [e for first in range(0, len(samples), size) for e in captions.push(samples[first : first + size])]
    return pushed + captions.flush()


def of_kind(events: Sequence[CaptionEvent], *kinds: type[CaptionEvent]) -> list[CaptionEvent]:
    return [event for event in events if isinstance(event, kinds)]


def finals(events: Sequence[CaptionEvent]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


# --- events


class Key:
    """Of a recording."""


def test_windows_do_not_wait_for_a_long_recording(wide: Transcriber) -> None:
    engine, request = (
        Engine(wide.checkpoint),
        resolve_request(wide.checkpoint, TranscribeOptions(**SHORT, batch_size=1)),
    )
    captions = Captions(Transcriber(wide.checkpoint, detector=by_loudness(), engine=engine), **SHORT, batch_size=1)
    key, second = Key(), torch.from_numpy(tone(1.0))
    long = [engine.submit(Utterance(second, n, request, key)) for n in range(20)]
    events = events_of(captions, talk(0.8, 0.8, 0.8))
    assert len(finals(events)) == 3
    # One for each that was under way, and those of the pushes without speech.
    assert not all(pending.done for pending in long)
    for pending in long:
        engine.cancel(pending)


def test_an_item_starts_is_partial_stops_and_is_final(wide: Transcriber) -> None:
    events = events_of(Captions(wide, **SHORT), talk(1.5))
    names = [type(event).__name__ for event in events]
    assert names[0] == "SpeechStarted"
    assert names[-3:] == ["SpeechStopped", "Committed", "Final"]
    assert set(names[1:-3]) == {"Partial"}
    started, stopped, final = events[0], events[-3], events[-1]
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert isinstance(final, Final)
    assert started.start_s == final.start_s == pytest.approx(1.1, abs=0.04)
    assert stopped.end_s == final.end_s == pytest.approx(3.4, abs=0.04)
    assert final.text == final.segments[0].text != ""


def test_every_item_has_each_event_once_and_finals_are_in_order(wide: Transcriber) -> None:
    events = events_of(Captions(wide, **SHORT), talk(1.0, 3.0, 0.6, 2.2, 1.7))
    for kind in (SpeechStarted, SpeechStopped, Committed, Final):
        assert [event.item for event in of_kind(events, kind)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("samples", [silence(5.0), noise(5.0), silence(0.0)])
def test_silence_gives_no_event(wide: Transcriber, samples: Samples) -> None:
    assert events_of(Captions(wide), samples) == []


@pytest.mark.parametrize("size", [511, 200_000])
def test_final_text_is_that_of_the_recording_at_every_chunk_size(wide: Transcriber, size: int) -> None:
    """With the settings of recordings the windows are the same."""
    samples = talk(1.0, 3.0, 0.6, 2.2)
    transcript = wide.transcribe(samples, RATE_HZ, **SHORT)
    found = finals(events_of(Captions(wide, detection=RECORDINGS, **SHORT), samples, size))
    assert tuple(segment for final in found for segment in final.segments) == transcript.segments
    assert len(found) == 4


def test_options_are_those_of_an_offline_call(wide: Transcriber) -> None:
    samples = talk(1.2)
    for options in (
        TranscribeOptions(language="fr", word_timestamps=True, max_new_tokens=8),
        TranscribeOptions(decode="ctc"),
        TranscribeOptions(keywords=("Norland",), punctuate=False, decode="beam", num_beams=2, max_new_tokens=8),
    ):
        (final,) = finals(events_of(Captions(wide, options, RECORDINGS), samples))
        transcript = wide.transcribe(samples, RATE_HZ, options=options)
        assert final.segments == transcript.segments
        assert final.warnings == transcript.warnings


def test_speech_beyond_the_limit_is_cut_as_in_a_recording(wide: Transcriber) -> None:
    samples = np.concatenate([talk(7.0, 6.0, pause_s=0.3), silence(1.0)])
    transcript = wide.transcribe(samples, RATE_HZ, limit_s=4.0, **SHORT)
    events = events_of(Captions(wide, detection=RECORDINGS, limit_s=4.0, **SHORT), samples)
    assert len(transcript.segments) >= 4
    assert tuple(segment for final in finals(events) for segment in final.segments) == transcript.segments
    assert len(of_kind(events, SpeechStarted)) == len(of_kind(events, SpeechStopped)) == len(finals(events))


# --- partial text


@pytest.fixture
def on_any_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes do not depend on the time they take."""
    monkeypatch.setattr("lithophone.pipeline.captions.SHARE", 1e9)


@pytest.fixture(scope="module")
def speech(bundled: Transcriber) -> tuple[Samples, str]:
    """A sentence, and its text offline."""
    samples = np.concatenate([load_audio(DEMO), silence(1.0)])
    return samples, bundled.transcribe(samples, RATE_HZ, language="en", decode="greedy").text


@pytest.mark.usefixtures("on_any_computer")
@pytest.mark.parametrize("size", [160, 1_600, 16_000])
def test_stable_text_is_never_rewritten_and_final_text_is_that_of_the_recording(
    bundled: Transcriber, speech: tuple[Samples, str], size: int
) -> None:
    samples, expected = speech
    events = events_of(Captions(bundled, language="en", decode="greedy"), samples, size)
    stable = ""
    for event in events:
        if isinstance(event, Partial):
            assert event.stable == stable + event.delta
            assert event.text == event.stable + event.unstable != ""
            stable = event.stable
    assert len(of_kind(events, Partial)) >= 5
    assert len(stable.split()) > 8
    assert [final.text for final in finals(events)] == [expected]


@pytest.mark.usefixtures("on_any_computer")
def test_partial_text_comes_every_few_tenths_of_a_second(bundled: Transcriber) -> None:
    partials = of_kind(events_of(Captions(bundled, decode="ctc"), load_audio(DEMO)[: 3 * RATE_HZ], 800), Partial)
    times = [partial.end_s for partial in partials if isinstance(partial, Partial)]
    assert len(times) >= 5
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([0.4] * (len(times) - 1))


def test_a_translation_has_no_partial_text(wide: Transcriber) -> None:
    events = events_of(Captions(wide, task="translate", to="fr", **SHORT), talk(1.5))
    assert of_kind(events, Partial) == []
    assert len(finals(events)) == 1


def test_models_without_the_labels_of_the_family_have_no_partial_text(tiny: Transcriber) -> None:
    events = events_of(Captions(tiny, **SHORT), talk(1.5))
    assert of_kind(events, Partial) == []
    assert len(finals(events)) == 1


def test_models_that_edit_give_captions() -> None:
    nar = Transcriber(tiny_nar_checkpoint("G2"), detector=by_loudness())
    samples = talk(1.5)
    (final,) = finals(events_of(Captions(nar, detection=RECORDINGS, limit_s=5.0), samples))
    assert final.segments == nar.transcribe(samples, RATE_HZ).segments


# --- commit, clear, change


def test_without_detection_windows_end_at_commits(wide: Transcriber) -> None:
    captions, samples = Captions(wide, detection=None, **SHORT), talk(1.0, 1.0)
    assert of_kind(captions.push(samples[:20_000]), SpeechStarted, Final) == []
    events = captions.commit()
    assert events == [Committed(0, 0.0, 1.25)]
    events = captions.push(samples[20_000:]) + captions.flush()
    assert [(f.start_s, f.end_s) for f in finals(events)] == [(0.0, 1.25), (1.25, len(samples) / RATE_HZ)]
    assert of_kind(events, SpeechStarted, SpeechStopped) == []


def test_a_commit_ends_speech_at_once(wide: Transcriber) -> None:
    captions = Captions(wide, **SHORT)
    captions.push(talk(3.0)[: 2 * RATE_HZ])
    stopped, committed = captions.commit()
    assert isinstance(stopped, SpeechStopped)
    assert isinstance(committed, Committed)
    assert committed.end_s == stopped.end_s == 2.0
    assert [final.item for final in finals(captions.flush())] == [0]


@pytest.mark.parametrize("detection", [None, Detection()])
def test_a_commit_of_nothing_is_an_error_and_the_stream_goes_on(wide: Transcriber, detection: Detection | None) -> None:
    captions, samples = Captions(wide, detection=detection, **SHORT), talk(1.0)
    with pytest.raises(AudioError, match="0 ms are not committed yet: a commit needs 100 ms"):
        captions.commit()
    captions.push(samples[:1_500])
    with pytest.raises(AudioError, match="a commit needs 100 ms"):
        captions.commit()
    assert len(finals(captions.push(samples[1_500:]) + captions.flush())) == 1


@pytest.mark.parametrize("detection", [None, Detection()])
def test_what_is_cleared_is_never_final(wide: Transcriber, detection: Detection | None) -> None:
    captions, samples = Captions(wide, detection=detection, **SHORT), talk(1.5, 1.5)
    captions.push(samples[:40_000])
    assert captions.buffered_s > 1.0
    captions.clear()
    assert captions.buffered_s == 0.0
    found = finals(captions.push(samples[4 * RATE_HZ :]) + captions.flush())
    assert [final.start_s >= 2.0 for final in found] == [True]


def test_settings_change_within_a_stream(wide: Transcriber) -> None:
    captions, samples = Captions(wide, detection=None, **SHORT), talk(1.0, 1.0)
    events = captions.push(samples[:20_000]) + captions.commit()
    captions.change(TranscribeOptions(decode="ctc"), Detection())
    events += captions.push(samples[20_000:]) + captions.flush()
    assert len(of_kind(events, SpeechStarted)) == len(of_kind(events, SpeechStopped)) == len(finals(events)) - 1
    with pytest.raises(OptionError):
        captions.change(TranscribeOptions(decode="edit"), None)
    assert captions.detects


# --- odd input


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([0.1, float("nan")], r"sample 1 .* pushed at 1\.000 s is nan"),
        ([float("inf")], "must be finite"),
        (np.full(5, 5_000.0), "floats belong in -1..1"),
        (np.zeros((100, 2)), "2 channels"),
        (np.zeros((2, 3, 4)), "shape"),
        (b"\x00\x01\x02", "has type"),
        ("speech", "has type"),
        (None, "no recording"),
        ([1, 2, 3], "has type int64"),
    ],
)
def test_odd_samples_are_refused_and_none_is_taken(wide: Transcriber, samples: object, message: str) -> None:
    captions, good = Captions(wide, detection=None, **SHORT), talk(1.0)
    captions.push(good[:RATE_HZ])
    with pytest.raises(AudioError, match=message):
        captions.push(samples)
    assert captions.time_s == 1.0
    (final,) = finals(captions.push(good[RATE_HZ:]) + captions.flush())
    assert (final.start_s, final.end_s) == (0.0, len(good) / RATE_HZ)


@pytest.mark.parametrize("samples", [np.zeros(0), [], torch.zeros(0), np.zeros(0, np.int16)])
def test_a_push_of_nothing_is_allowed(wide: Transcriber, samples: object) -> None:
    assert Captions(wide).push(samples) == []


def test_samples_may_be_of_any_kind_that_recordings_are(wide: Transcriber) -> None:
    samples = talk(1.0)
    expected = finals(events_of(Captions(wide, **SHORT), samples))
    integers = (samples * 32768).round().astype(np.int16)
    for given in (samples.astype(np.float64), torch.from_numpy(samples), samples[None], samples.tolist()):
        captions = Captions(wide, **SHORT)
        assert finals(captions.push(given) + captions.flush()) == expected
    captions = Captions(wide, **SHORT)
    assert finals(captions.push(integers) + captions.flush())[0].end_s == expected[0].end_s


def test_fewer_samples_than_a_frame_have_no_text(wide: Transcriber) -> None:
    captions = Captions(wide, detection=None)
    captions.push(np.zeros(100, np.float32))
    (committed, final) = captions.flush()
    assert isinstance(committed, Committed)
    assert final == Final(0, 0.0, 100 / RATE_HZ, "")


def test_an_ended_stream_takes_no_samples(wide: Transcriber) -> None:
    captions = Captions(wide)
    assert captions.flush() == captions.flush() == []
    for call in (lambda: captions.push(silence(1.0)), captions.commit):
        with pytest.raises(AudioError, match="the stream has ended"):
            call()


def test_impossible_options_are_refused_at_once(wide: Transcriber) -> None:
    with pytest.raises(OptionError, match="unknown option"):
        Captions(wide, volume=3)
    with pytest.raises(PromptError, match="lower limit_s"):
        Captions(wide, limit_s=600.0)


# --- decoding


def test_a_push_does_not_wait_for_the_language_model(wide: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lithophone.pipeline.captions.SHARE", 0.0)
    captions = Captions(wide, decode="greedy", max_new_tokens=100)
    events = captions.push(talk(0.5))
    assert len(of_kind(events, Committed)) == 1
    assert finals(events) == []
    while captions.busy:
        events += captions.step()
    assert len(finals(events)) == 1
    assert captions.flush() == []


def test_few_windows_wait_at_a_time(wide: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lithophone.pipeline.captions.SHARE", 0.0)
    monkeypatch.setattr(Captions, "_read_partial", lambda self: None)
    captions, most = Captions(wide, decode="greedy", max_new_tokens=20, batch_size=1), 0
    for _ in range(8):
        captions.push(talk(0.2, pause_s=0.6))
        most = max(most, len(captions._waiting))
    assert 1 < most <= 4


def test_closed_captions_leave_nothing_in_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lithophone.pipeline.captions.SHARE", 0.0)
    checkpoint = tiny_checkpoint("wide")
    transcriber = Transcriber(checkpoint, detector=by_loudness(), engine=Engine(checkpoint))
    with Captions(transcriber, decode="greedy", max_new_tokens=100) as captions:
        captions.push(talk(0.5))
        assert captions.busy
    assert not captions.busy
    transcriber.engine.step()
    assert not transcriber.engine.busy


def test_events_before_an_error_of_the_model_come_with_the_next_call(
    wide: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = Captions(wide, **SHORT)

    def fail() -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(captions.engine, "step", fail)
        with pytest.raises(MemoryError):
            captions.push(talk(1.0))
    events = captions.flush()
    assert len(of_kind(events, SpeechStarted)) == len(finals(events)) == 1


def test_two_streams_share_an_engine(wide: Transcriber) -> None:
    first, second = Captions(wide, **SHORT), Captions(wide, language="de", **SHORT)
    a, b = talk(1.0, 2.0), talk(2.0, 1.0)
    found: tuple[list[CaptionEvent], list[CaptionEvent]] = ([], [])
    for at in range(0, max(len(a), len(b)), 3_200):
        found[0].extend(first.push(a[at : at + 3_200]))
        found[1].extend(second.push(b[at : at + 3_200]))
    found[0].extend(first.flush())
    found[1].extend(second.flush())
    assert finals(found[0]) == finals(events_of(Captions(wide, **SHORT), a))
    assert finals(found[1]) == finals(events_of(Captions(wide, language="de", **SHORT), b))


def test_memory_does_not_grow_with_the_stream(wide: Transcriber) -> None:
    captions = Captions(wide, decode="ctc", limit_s=2.0)
    block = np.concatenate([silence(9.0), noise(1.0, peak=0.3)])
    for _ in range(3):
        captions.push(block)
    tracemalloc.start()
    for _ in range(6):
        captions.push(block)
    middle = tracemalloc.get_traced_memory()[0]
    for _ in range(12):
        captions.push(block)
    end = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert end - middle < 300_000
