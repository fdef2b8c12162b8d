"""`language="auto"`: a recording's language is detected from its first speech, and then is as if it had been given."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lithophone.checkpoint import Checkpoint
from lithophone.decode.options import CTC
from lithophone.errors import AudioError, CancelledError, OptionError, PromptError
from lithophone.languages import SOURCE_LANGUAGES
from lithophone.pipeline import spoken_language
from lithophone.pipeline.assembly import Event, RecordingDone, WindowDone
from lithophone.pipeline.captions import Captions
from lithophone.pipeline.channels import transcribe_channels
from lithophone.pipeline.engine import Engine, Pending
from lithophone.pipeline.journal import Journal
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.sources import AudioSource
from lithophone.pipeline.spoken_language import SPEECH_S, guess_of, guess_of_both, languages_of
from lithophone.pipeline.transcriber import Transcriber
from lithophone.pipeline.utterance import Utterance
from lithophone.transcript import LanguageGuess, Transcript
from tests.detectors import by_loudness
from tests.sounds import silence, tone
from tests.tiny_checkpoint import spelling_checkpoint, spelling_plus, tiny_checkpoint, tiny_nar_checkpoint

RATE_HZ = 16_000
SHORT: dict[str, Any] = {"decode": "greedy", "max_new_tokens": 12}
SPELLED: dict[str, Any] = {"decode": "ctc", "ctc_head": "characters"}


class WatchedEngine(Engine):
    """Keeps what is submitted, and in which batches it is encoded."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.submitted: list[Pending] = []
        self.steps: list[int] = []
        """Submitted utterances at every step."""

    def submit(self, utterance: Utterance) -> Pending:
        self.submitted.append(super().submit(utterance))
        return self.submitted[-1]

    def step(self) -> None:
        self.steps.append(len(self.submitted))
        super().step()

    @property
    def searched(self) -> list[Utterance]:
        """Utterances of first speech."""
        return [one.utterance for one in self.submitted if one.utterance.recording is None]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return spelling_checkpoint()


@pytest.fixture
def transcriber(checkpoint: Checkpoint) -> Transcriber:
    return Transcriber(checkpoint, detector=by_loudness(), engine=WatchedEngine(checkpoint))


def watched(transcriber: Transcriber) -> WatchedEngine:
    assert isinstance(transcriber.engine, WatchedEngine)
    return transcriber.engine


def talk(*lengths_s: float, first_hz: float = 300.0) -> np.ndarray:
    parts = [(silence(1.2), tone(s, frequency_hz=first_hz + 70 * i)) for i, s in enumerate(lengths_s)]
    return np.concatenate([part for pair in parts for part in pair])


TALKS = [talk(1.0, 2.0), talk(0.6, first_hz=700.0), talk(1.5, 0.5, first_hz=1100.0)]


@pytest.fixture
def detects(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has recordings be detected as these languages, in order and over again, with a probability of 0.9."""

    def detect(*codes: str) -> None:
        left: list[str] = []

        def guess(text: str, languages: tuple[str, ...]) -> LanguageGuess:
            left.extend([] if left else codes)
            first = left.pop(0)
            others = [code for code in languages if code != first]
            return LanguageGuess({first: 0.9, **dict.fromkeys(others, 0.1 / len(others))})

        monkeypatch.setattr(spoken_language, "guess_of", guess)

    return detect


def transcripts(events: Iterator[Event]) -> list[Transcript]:
    results = [event.result for event in events if isinstance(event, RecordingDone)]
    found = [result for result in results if isinstance(result, Transcript)]
    assert len(found) == len(results), results
    return found


def given(transcript: Transcript) -> Transcript:
    """As if the language had been given."""
    return replace(transcript, language_guess=None)


# --- as if it had been given


@pytest.mark.parametrize(
    "options",
    [
        SHORT,
        {**SHORT, "word_timestamps": True},
        SPELLED,
        {**SHORT, "decode": "beam", "num_beams": 2, "ctc_weight": 0.3},
    ],
)
def test_words_are_those_of_the_language_given(
    transcriber: Transcriber, detects: Callable[..., None], options: dict[str, Any]
) -> None:
    expected = {code: transcriber.transcribe(TALKS[0], RATE_HZ, language=code, **options) for code in ("en", "ja")}
    assert expected["en"].text != expected["ja"].text
    for code, one in expected.items():
        detects(code)
        found = transcriber.transcribe(TALKS[0], RATE_HZ, language="auto", **options)
        assert given(found) == one
        assert (found.language, found.language_probability) == (code, 0.9)


def test_every_recording_has_its_own_language(transcriber: Transcriber, detects: Callable[..., None]) -> None:
    detects("ja", "de", "en")
    found = transcripts(transcriber.events(TALKS, RATE_HZ, language="auto", **SHORT))
    assert [one.language for one in found] == ["ja", "de", "en"]
    for one, samples in zip(found, TALKS, strict=True):
        assert given(one) == transcriber.transcribe(samples, RATE_HZ, language=one.language, **SHORT)


def test_windows_have_the_language_of_their_recording(transcriber: Transcriber, detects: Callable[..., None]) -> None:
    detects("ja", "de")
    events = list(transcriber.events(TALKS[:2], RATE_HZ, language="auto", **SHORT))
    assert [event.language for event in events if isinstance(event, WindowDone)] == ["ja", "ja", "de"]


def test_a_source_may_ask_for_it_alone(transcriber: Transcriber, detects: Callable[..., None]) -> None:
    detects("fr")
    own = TranscribeOptions(language="auto", **SHORT)
    sources = [TALKS[0], AudioSource(TALKS[1], RATE_HZ, options=own), TALKS[2]]
    found = transcripts(transcriber.events(sources, RATE_HZ, language="de", **SHORT))
    assert [(one.language, one.language_probability) for one in found] == [("de", None), ("fr", 0.9), ("de", None)]


def test_the_name_may_be_in_capitals() -> None:
    assert TranscribeOptions(language=" Auto ") == TranscribeOptions(language="auto")


@pytest.mark.parametrize(
    ("made", "options"),
    [(tiny_nar_checkpoint("G1"), {}), (tiny_nar_checkpoint("G2"), {}), (spelling_plus(), {"max_new_tokens": 8}),
     (spelling_plus(), {"max_new_tokens": 8, "task": "speakers"})],
)  # fmt: skip
def test_other_models_detect_it_too(made: Checkpoint, options: dict[str, Any], detects: Callable[..., None]) -> None:
    detects("fr")
    one = Transcriber(made, detector=by_loudness())
    found = one.transcribe(TALKS[0], RATE_HZ, language="auto", **options)
    assert given(found) == one.transcribe(TALKS[0], RATE_HZ, language="fr", **options)
    assert found.language == "fr"


# --- what is listened to


@pytest.fixture
def guesses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Has texts be guessed as these, in order and the last one from then on; gives the texts."""

    def guess(*found: LanguageGuess) -> list[str]:
        texts: list[str] = []

        def of(text: str, languages: tuple[str, ...]) -> LanguageGuess:
            texts.append(text)
            return found[min(len(texts), len(found)) - 1]

        monkeypatch.setattr(spoken_language, "guess_of", of)
        return texts

    return guess


def greedy_text(transcriber: Transcriber, samples: np.ndarray) -> str:
    return transcriber.transcribe(samples, RATE_HZ, decode="greedy", punctuate=False).text


def test_a_sure_guess_is_that_of_the_encoders_text_without_a_language(
    transcriber: Transcriber, guesses: Callable[..., list[str]]
) -> None:
    sure = LanguageGuess({"fr": 0.8, "en": 0.2})
    texts = guesses(sure)
    assert transcriber.detect_language(TALKS[0], RATE_HZ) == sure
    assert texts == [transcriber.transcribe(TALKS[0], RATE_HZ, **SPELLED).text]
    assert transcriber.transcribe(TALKS[0], RATE_HZ, language="auto", **SHORT).language_guess == sure


def test_where_it_is_not_sure_the_language_model_is_asked(
    transcriber: Transcriber, guesses: Callable[..., list[str]]
) -> None:
    unsure, second = LanguageGuess({"fr": 0.6, "ja": 0.4}), LanguageGuess({"ja": 0.9, "fr": 0.1})
    both = LanguageGuess({"ja": pytest.approx(0.65), "fr": pytest.approx(0.35)})
    texts = guesses(unsure, second)
    assert transcriber.detect_language(TALKS[0], RATE_HZ) == both
    spelled = transcriber.transcribe(TALKS[0], RATE_HZ, **SPELLED).text
    assert texts == [spelled, greedy_text(transcriber, TALKS[0])]
    spelled_of, decoded_of = np.split(np.array([one.start for one in watched(transcriber).searched[:4]]), 2)
    assert spelled_of.tolist() == decoded_of.tolist()
    guesses(unsure, second)
    found = transcriber.transcribe(TALKS[0], RATE_HZ, language="auto", **SHORT)
    assert found.segments == transcriber.transcribe(TALKS[0], RATE_HZ, language="ja", **SHORT).segments
    assert found.language_guess == both


def test_a_reply_without_letters_leaves_the_guess_as_it_was(
    transcriber: Transcriber, guesses: Callable[..., list[str]]
) -> None:
    first = LanguageGuess({"fr": 0.5, "en": 0.5})
    texts = guesses(first, LanguageGuess({}))
    assert transcriber.detect_language(TALKS[0], RATE_HZ) == first
    assert len(texts) == 2


def test_where_the_prompt_does_not_fit_the_guess_stays_and_no_recording_is_lost(
    checkpoint: Checkpoint, guesses: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(self: Engine, utterance: Utterance) -> Pending:
        if utterance.recording is None and not isinstance(utterance.request.decoder, CTC):
            raise PromptError("no room")
        return plain(self, utterance)

    plain = Engine.submit
    monkeypatch.setattr(Engine, "submit", submit)
    guesses(LanguageGuess({"fr": 0.5, "en": 0.5}))
    one = Transcriber(checkpoint, detector=by_loudness())
    assert one.detect_language(TALKS[0], RATE_HZ).language == "fr"
    assert len(transcripts(one.events(TALKS, RATE_HZ, language="auto", **SHORT))) == len(TALKS)


def test_texts_that_exclude_each_other_leave_it_doubtful() -> None:
    first, second = LanguageGuess({"fr": 0.7, "en": 0.3, "ja": 0.0}), LanguageGuess({"ja": 1.0, "fr": 0.0, "en": 0.0})
    assert guess_of_both(first, second) == LanguageGuess({"ja": 0.5, "fr": 0.35, "en": 0.15})


def test_a_model_without_a_language_model_is_asked_once(guesses: Callable[..., list[str]]) -> None:
    first = LanguageGuess({"fr": 0.5, "en": 0.5})
    texts = guesses(first, LanguageGuess({"ja": 1.0}))
    one = Transcriber(tiny_nar_checkpoint("G1"), detector=by_loudness())
    assert one.detect_language(TALKS[0], RATE_HZ) == first
    assert len(texts) == 1


def test_probabilities_are_those_of_all_languages_that_the_model_understands(transcriber: Transcriber) -> None:
    guess = transcriber.detect_language(TALKS[0], RATE_HZ)
    assert sorted(guess.probabilities) == sorted(SOURCE_LANGUAGES)
    assert sum(guess.probabilities.values()) == pytest.approx(1.0)


def test_only_the_first_speech_is_listened_to(transcriber: Transcriber, detects: Callable[..., None]) -> None:
    detects("fr")
    long = talk(*[3.0] * 12)
    guess, engine = transcriber.detect_language(long, RATE_HZ), watched(transcriber)
    assert sum(one.duration_s for one in engine.searched) == pytest.approx(SPEECH_S, abs=0.01)
    assert guess == transcriber.detect_language(long[: round(40 * RATE_HZ)], RATE_HZ)
    found = transcriber.transcribe(long, RATE_HZ, language="auto", **SHORT)
    assert found.language_guess == guess
    assert found.segments == transcriber.transcribe(long, RATE_HZ, language=guess.language, **SHORT).segments


def test_a_long_window_is_listened_to_in_part(transcriber: Transcriber, detects: Callable[..., None]) -> None:
    detects("fr")
    transcriber.detect_language(tone(28.0), RATE_HZ)
    [one] = watched(transcriber).searched
    assert one.duration_s == pytest.approx(SPEECH_S)


def test_a_recording_without_speech_has_no_language(transcriber: Transcriber) -> None:
    found = transcriber.transcribe(silence(2.0), RATE_HZ, language="auto", **SHORT)
    assert (found.language, found.language_probability, found.language_guess) == (None, None, None)
    assert [warning.code for warning in found.warnings] == ["no_speech"]
    assert given(found) == transcriber.transcribe(silence(2.0), RATE_HZ, **SHORT)
    guess = transcriber.detect_language(silence(2.0), RATE_HZ)
    assert (guess.language, guess.probability, dict(guess.probabilities)) == (None, None, {})


@pytest.mark.parametrize("text", ["", " ", "'"])
def test_a_text_without_letters_has_no_language(text: str) -> None:
    assert guess_of(text, SOURCE_LANGUAGES) == LanguageGuess({})


@pytest.mark.parametrize(("probability", "codes"), [(0.79, ["unsure_language"]), (0.81, [])])
def test_a_doubtful_language_is_a_warning(
    transcriber: Transcriber, guesses: Callable[..., list[str]], probability: float, codes: list[str]
) -> None:
    guesses(LanguageGuess({"en": probability, "fr": 1 - probability}), LanguageGuess({}))
    found = transcriber.transcribe(TALKS[1], RATE_HZ, language="auto", **SHORT)
    assert [warning.code for warning in found.warnings if warning.code == "unsure_language"] == codes


def test_plus_models_understand_five_languages(checkpoint: Checkpoint) -> None:
    assert languages_of(checkpoint) == SOURCE_LANGUAGES
    assert languages_of(spelling_plus()) == tuple(code for code in SOURCE_LANGUAGES if code != "ja")


# --- many recordings


def test_short_recordings_are_listened_to_together(transcriber: Transcriber) -> None:
    list(transcriber.events(TALKS, RATE_HZ, language="auto", **SHORT))
    assert watched(transcriber).steps[0] == 5


def test_a_long_recording_does_not_wait_for_those_behind_it(transcriber: Transcriber, tmp_path: Path) -> None:
    """What is read ahead has a bound, which the long one fills."""
    files = [tmp_path / f"{i}.wav" for i in range(3)]
    for file, samples in zip(files, [TALKS[0], talk(*[2.0] * 30), TALKS[1]], strict=True):
        soundfile.write(file, samples, RATE_HZ, subtype="FLOAT")
    options = {**SHORT, "max_new_tokens": 1, "batch_size": 4, "limit_s": 3.0}
    found: list[Transcript] = []
    worker = threading.Thread(
        target=lambda: found.extend(transcripts(transcriber.events(files, language="auto", **options))), daemon=True
    )
    worker.start()
    worker.join(60)
    assert [one.duration_s for one in found] == pytest.approx([5.4, 96.0, 1.8])


def test_a_recording_that_fails_keeps_its_error_and_its_windows(
    transcriber: Transcriber, checkpoint: Checkpoint
) -> None:
    def events(**options: Any) -> list[Event]:
        one = Transcriber(checkpoint, detector=by_loudness())
        bad = np.concatenate([TALKS[0], silence(1.5)]).astype("float32")
        bad[-1] = np.nan
        return list(one.events([bad, TALKS[1]], RATE_HZ, **SHORT, **options))

    auto, without = events(language="auto"), events()
    assert [type(event) for event in auto] == [type(event) for event in without]
    [first, second] = [event.result for event in auto if isinstance(event, RecordingDone)]
    assert isinstance(first, AudioError)
    assert isinstance(second, Transcript)
    assert second.language in SOURCE_LANGUAGES
    with pytest.raises(AudioError):
        transcriber.detect_language(np.full(RATE_HZ, np.nan, "float32"), RATE_HZ)


def test_closed_events_leave_nothing_behind(transcriber: Transcriber) -> None:
    events = transcriber.events(TALKS, RATE_HZ, language="auto", batch_size=2, **SHORT)
    next(events)
    events.close()
    transcriber.engine.step()
    assert not transcriber.engine.busy


def test_another_thread_may_cancel_it(transcriber: Transcriber) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(CancelledError):
        transcriber.detect_language(TALKS[0], RATE_HZ, cancelled=cancelled)
    with pytest.raises(CancelledError):
        list(transcriber.events(TALKS, RATE_HZ, language="auto", cancelled=cancelled, **SHORT))
    submitted = watched(transcriber).submitted
    assert len(submitted) == 2 + 5
    assert all(pending.cancelled for pending in submitted)
    transcriber.engine.step()
    assert not transcriber.engine.busy


def test_a_channel_that_is_silent_has_no_say_in_the_language(
    transcriber: Transcriber, detects: Callable[..., None], tmp_path: Path
) -> None:
    file = tmp_path / "call.wav"
    spoken = talk(1.0)
    soundfile.write(file, np.stack([np.zeros_like(spoken), spoken], 1), RATE_HZ, subtype="FLOAT")
    detects("fr")
    [(_, found)] = transcribe_channels(transcriber, [file], TranscribeOptions(language="auto", **SHORT))
    assert isinstance(found, Transcript)
    assert (found.language, found.language_probability) == ("fr", 0.9)


# --- what is refused


def test_without_a_ctc_head_it_is_refused_at_once() -> None:
    one = Transcriber(tiny_checkpoint(), detector=by_loudness())
    with pytest.raises(OptionError, match="language='auto' needs a CTC head"):
        one.events(TALKS, RATE_HZ, language="auto")
    with pytest.raises(OptionError, match="name the language"):
        one.detect_language(TALKS[0], RATE_HZ)


def test_a_translation_into_the_language_spoken_is_an_error_of_its_recording(
    transcriber: Transcriber, detects: Callable[..., None]
) -> None:
    detects("en", "fr")
    options = {"task": "translate", "to": "en", **SHORT}
    results = [result for _, result in transcriber.transcribe_many(TALKS[:2], RATE_HZ, language="auto", **options)]
    assert isinstance(results[0], OptionError)
    assert "the speech is English, by language='auto' with probability 0.90: no translation" in str(results[0])
    assert isinstance(results[1], Transcript)
    assert given(results[1]) == transcriber.transcribe(TALKS[1], RATE_HZ, language="fr", **options)
    assert (results[1].language, results[1].language_guess and results[1].language_guess.language) == ("en", "fr")


def test_live_captions_name_the_language(transcriber: Transcriber) -> None:
    with pytest.raises(OptionError, match="name the language of live speech"):
        Captions(transcriber, language="auto")


# --- as documents


def test_a_document_has_the_probabilities(transcriber: Transcriber, detects: Callable[..., None]) -> None:
    detects("pt")
    found = transcriber.transcribe(TALKS[0], RATE_HZ, language="auto", **SHORT)
    document = json.loads(json.dumps(found.to_dict()))
    assert (document["language"], document["language_probability"]) == ("pt", 0.9)
    assert next(iter(document["language_probabilities"])) == "pt"
    assert Transcript.from_dict(document) == found
    assert hash(found) == hash(Transcript.from_dict(document))
    assert not {"language_probability", "language_probabilities"} & set(given(found).to_dict())


# --- journals


def test_a_resumed_run_keeps_the_languages(
    checkpoint: Checkpoint, detects: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lithophone.pipeline.groups.GROUP", 1)
    files = [tmp_path / f"{i}.wav" for i in range(3)]
    for file, samples in zip(files, [talk(*[0.7] * 5), silence(1.0), talk(0.5, 0.9, first_hz=800.0)], strict=True):
        soundfile.write(file, samples, RATE_HZ, subtype="FLOAT")
    options: dict[str, Any] = {"language": "auto", "batch_size": 2, "word_timestamps": True, **SHORT}

    def run(name: str, n: int | None = None) -> tuple[list[str], int]:
        one = Transcriber(checkpoint, detector=by_loudness(), engine=WatchedEngine(checkpoint))
        with Journal(tmp_path / name) as journal:
            events = one.events(files, journal=journal, **options)
            found = [event for event, _ in zip(events, range(n or 99), strict=False)]
            events.close()
        results = [event.result for event in found if isinstance(event, RecordingDone)]
        texts = [json.dumps(result.to_dict()) for result in results if isinstance(result, Transcript)]
        return texts, len(watched(one).submitted)

    detects("fr")
    unbroken, n_all = run("whole")
    for n in (1, 3, 5, 6, 8, 9):
        name = f"cut at {n}"
        run(name, n)
        assert run(name)[0] == unbroken
    assert n_all == 7 + 7
    detects("ja")  # nothing is listened to again
    finished, n_again = run("whole")
    assert (finished, n_again) == (unbroken, 0)


def test_a_recording_under_way_is_not_listened_to_again(
    checkpoint: Checkpoint, detects: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lithophone.pipeline.groups.GROUP", 1)
    soundfile.write(tmp_path / "a.wav", talk(*[0.7] * 6), RATE_HZ, subtype="FLOAT")
    options: dict[str, Any] = {"language": "auto", "batch_size": 2, **SHORT}
    one = Transcriber(checkpoint, detector=by_loudness())
    detects("de")
    with Journal(tmp_path / "journal") as journal:
        events = one.events([tmp_path / "a.wav"], journal=journal, **options)
        for _ in range(3):
            next(events)
        events.close()
    detects("ja")
    with Journal(tmp_path / "journal") as journal:
        [found] = transcripts(one.events([tmp_path / "a.wav"], journal=journal, **options))
    assert given(found) == one.transcribe(tmp_path / "a.wav", language="de", **SHORT)
