"""Tasks of plus models over recordings: prompts, joined windows, scripted replies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lithophone.pipeline import engine
from lithophone.pipeline.transcriber import Transcriber
from lithophone.text.prompts import PLUS_SYSTEM, RAW, SPEAKERS, WORD_TIMES
from lithophone.transcript import Transcript
from tests.detectors import by_loudness
from tests.pipeline.scripted import scripted_replies, seen_prompts
from tests.pipeline.voices import posteriors
from tests.sounds import silence, tone
from tests.tiny_checkpoint import spelling_plus, tiny_checkpoint

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def plus() -> Transcriber:
    return Transcriber(spelling_plus(), detector=by_loudness())


@pytest.fixture
def script(plus: Transcriber, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replies of the language model, in order; "[cut]" behind one leaves it unfinished."""
    return scripted_replies(plus.checkpoint.tokenizer, monkeypatch)


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the character head says in all windows, 60 ms a character from the start; "" for its own output."""
    said = [""]
    found = engine.with_words

    def with_words(result: Any, log_probs: Any, *rest: Any, **more: Any) -> Any:
        return found(result, posteriors(said[0]) if said[0] else log_probs, *rest, **more)

    monkeypatch.setattr(engine, "with_words", with_words)
    return said


def transcribed(plus: Transcriber, samples: np.ndarray, task: str, **options: Any) -> Transcript:
    return plus.transcribe(samples, RATE_HZ, task=task, batch_size=1, **options)


def codes(transcript: Transcript) -> list[str]:
    return [warning.code for warning in transcript.warnings if warning.code in ("malformed", "time_tags", "cut")]


def spans(transcript: Transcript) -> list[tuple[str, float, float]]:
    return [(word.text, round(word.start_s, 2), round(word.end_s, 2)) for word in transcript.words]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, RAW),
        ({"keywords": ("granite",)}, f"{RAW} Keywords: granite"),
        ({"task": "speakers"}, SPEAKERS),
        ({"task": "speakers", "keywords": ("kw1", "kw2")}, f"{SPEAKERS} Keywords: kw1, kw2"),
        ({"task": "word-times", "language": "de"}, WORD_TIMES),
    ],
)
def test_the_language_model_gets_the_exact_prompt(
    plus: Transcriber, options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = seen_prompts(monkeypatch)
    plus.transcribe(tone(1.0), RATE_HZ, max_new_tokens=1, **options)
    tokenizer = plus.checkpoint.tokenizer
    n_audio = seen[0].count(tokenizer.audio_id)
    assert n_audio >= 9
    expected = (
        f"<|start_of_role|>system<|end_of_role|>{PLUS_SYSTEM}<|end_of_text|>\n"
        f"<|start_of_role|>user<|end_of_role|>{'<|audio|>' * n_audio} {words}<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>"
    )
    assert seen[0] == tokenizer.encode(expected)


TALK = np.concatenate([silence(2.0), tone(1.0), silence(25.0), tone(1.0), silence(60.0), tone(1.0)])
"""Speech at 2, 28 and 89 s."""


def test_silences_are_left_out_of_the_window_and_put_back(
    plus: Transcriber, script: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One window: 3 s of speech with pauses of 0.8 s between, however long the silences are."""
    monkeypatch.setattr(engine, "with_words", _tags_alone)
    script.append("ab [T:140] _ [T:220] cd [T:320] _ [T:400] ef [T:490]")
    found = transcribed(plus, TALK, "word-times")
    # Speech is padded by 0.4 s: the window starts at 1.6 s, its stretches at 27.6 and 88.6 s.
    expected = [("ab", 1.6, 3.0), ("cd", 28.0, 29.0), ("ef", 89.0, 89.9)]
    for (text, start_s, end_s), (word, first_s, last_s) in zip(spans(found), expected, strict=True):
        assert text == word
        assert (start_s, end_s) == (pytest.approx(first_s, abs=0.1), pytest.approx(last_s, abs=0.1))
    assert [(s.text, s.words) for s in found.segments] == [(w.text, (w,)) for w in found.words]
    assert [(s.start_s, s.end_s) for s in found.segments] == [(w.start_s, w.end_s) for w in found.words]


def _tags_alone(result: Any, log_probs: Any, *rest: Any, **more: Any) -> Any:
    from lithophone.pipeline.word_times import with_words

    return with_words(result, log_probs[:1], *rest, **more)


def test_without_an_alignment_the_tags_count_and_the_result_says_so(script: list[str]) -> None:
    transcriber = Transcriber(tiny_checkpoint("plus"), detector=by_loudness())
    script.append("ab [T:60] cd [T:120]")
    found = transcriber.transcribe(tone(1.4), RATE_HZ, task="word-times")
    assert [word.end_s for word in found.words] == [0.6, 1.2]
    [warning] = [one for one in found.warnings if one.code == "time_tags"]
    assert "those of the tags alone" in warning.message


def test_alignment_decides_and_the_result_says_so(plus: Transcriber, script: list[str], spoken: list[str]) -> None:
    spoken[0] = "ab cd ef"
    script.append("ab [T:12] cd [T:23] ef [T:190]")
    found = transcribed(plus, tone(2.0), "word-times")
    [warning] = [one for one in found.warnings if one.code == "time_tags"]
    assert warning.message.startswith("1 of 3 words have the times of the alignment")
    assert (warning.start_s, warning.end_s) == (found.words[2].start_s, found.words[2].end_s)
    assert spans(found)[:2] == [("ab", 0.0, 0.12), ("cd", 0.12, 0.23)]
    assert found.words[2].end_s == pytest.approx(0.5, abs=0.1)
    script.append("ab [T:12] cd [T:23] ef [T:190]")
    aligned = transcribed(plus, tone(2.0), "word-times", timestamps="aligned")
    assert "time_tags" not in codes(aligned)
    assert aligned.words[2] == found.words[2]
    assert aligned.words[:2] != found.words[:2]


def test_faults_of_tags_and_an_early_last_tag_are_warnings(
    plus: Transcriber, script: list[str], spoken: list[str]
) -> None:
    spoken[0] = "ab cd"
    script.append("ab [T:10] cd [T:22")
    found = transcribed(plus, tone(6.0), "word-times")
    messages = [w.message for w in found.warnings if w.code in ("malformed", "time_tags")]
    assert messages[0] == "tags of the reply: 1 unreadable, 1 missing"
    assert messages[-1].startswith("the last time tag is 5.9 s before the end of the window")


def test_speakers_keep_their_numbers_through_long_silences(
    plus: Transcriber, script: list[str], spoken: list[str]
) -> None:
    spoken[0] = "ab cd" + " " * 40 + "ef"
    script.append("[Speaker 1]: ab [Speaker 2]: cd [Speaker 1]: ef")
    found = transcribed(plus, TALK, "speakers")
    assert [(segment.speaker, segment.text) for segment in found.segments] == [("1", "ab"), ("2", "cd"), ("1", "ef")]
    starts = [segment.start_s for segment in found.segments]
    assert starts[:2] == [pytest.approx(1.6, abs=0.1), pytest.approx(1.75, abs=0.1)]
    assert starts[2] > 27.0
    assert [word.speaker for word in found.words] == ["1", "2", "1"]


def test_one_turn_is_two_segments_where_a_long_silence_was(
    plus: Transcriber, script: list[str], spoken: list[str]
) -> None:
    spoken[0] = "ab" + " " * 45 + "cd"
    script.append("[Speaker 1]: ab cd")
    found = transcribed(plus, TALK, "speakers")
    assert [(segment.speaker, segment.text) for segment in found.segments] == [("1", "ab"), ("1", "cd")]
    assert found.text == "ab cd"
    assert found.segments[0].end_s < 3.5
    assert found.segments[1].start_s > 27.5


def test_tags_in_a_plain_transcript_are_removed_and_counted(plus: Transcriber, script: list[str]) -> None:
    script.append("so [T:12] it [Speaker 1]: goes")
    found = transcribed(plus, tone(1.0), "transcribe")
    assert found.text == "so it goes"
    assert "malformed" in codes(found)


def test_a_reply_cut_at_the_default_budget_is_decoded_once_more(plus: Transcriber, script: list[str]) -> None:
    script += ["[Speaker 1]: ab[cut]", "[Speaker 1]: ab cd"]
    assert transcribed(plus, tone(1.0), "speakers").text == "ab cd"
    script += ["[Speaker 1]: ab[cut]", "[Speaker 1]: ab cd[cut]"]
    assert "cut" in codes(transcribed(plus, tone(1.0), "speakers"))
    assert script == []
    script.append("[Speaker 1]: ab[cut]")
    assert "cut" in codes(transcribed(plus, tone(1.0), "speakers", max_new_tokens=3))
    assert script == []
