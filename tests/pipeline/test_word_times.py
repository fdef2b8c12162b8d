"""Words of a reply: times, confidence, speakers, and why there may be none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lithophone.audio.cuts import Cut
from lithophone.audio.reader import RATE_HZ
from lithophone.ctc.word_alignment import timed_words
from lithophone.decode.reply import Reply
from lithophone.pipeline.quality import segments_of
from lithophone.pipeline.utterance import WindowResult
from lithophone.pipeline.word_times import TAG_TOLERANCE_S, check_tags, with_words
from lithophone.text import japanese
from lithophone.text.replies import ParsedReply, parse_turns, parse_word_times
from lithophone.transcript import Word
from tests.pipeline.voices import posteriors

PIECES = ("ab", " c", "d")
IDS, LOGPROBS = (0, 1, 2), (np.log(0.5), np.log(0.2), np.log(0.8))


def times(words: Sequence[Word]) -> list[tuple[float, float]]:
    return [(round(word.start_s, 3), round(word.end_s, 3)) for word in words]


def decode(ids: list[int]) -> str:
    return "".join(PIECES[i] for i in ids)


def result_of(
    parsed: ParsedReply,
    ids: tuple[int, ...] = IDS,
    logprobs: tuple[float, ...] = LOGPROBS,
    duration_s: float = 5.0,
) -> WindowResult:
    return WindowResult(0.0, duration_s, Reply(ids, True, logprobs), parsed, has_speech=True)


def test_confidence_is_that_of_encoder_and_decoder() -> None:
    result = with_words(result_of(ParsedReply("ab cd")), posteriors("ab cd"), decode)
    assert [word.confidence for word in result.aligned] == pytest.approx([0.99, 0.99], abs=0.01)
    assert [word.confidence for word in result.parsed.words] == pytest.approx(
        [np.sqrt(0.99 * 0.5), np.sqrt(0.99 * 0.4)], abs=0.01
    )
    assert times(result.parsed.words) == times(timed_words("ab cd", posteriors("ab cd"), 5.0))
    assert result.untimed == ""


def test_a_ctc_reply_has_the_confidence_of_the_encoder_alone() -> None:
    result = with_words(result_of(ParsedReply("ab cd"), (), ()), posteriors("ab cd"), decode)
    assert result.parsed.words == result.aligned


def test_times_of_the_reply_itself_are_kept() -> None:
    parsed = parse_word_times("ab [T:7] cd [T:21]")
    result = with_words(result_of(parsed, (), ()), posteriors("ab cd"), decode)
    assert times(result.parsed.words) == [(0.0, 0.07), (0.07, 0.21)]
    assert [word.confidence for word in result.parsed.words] == pytest.approx([0.99, 0.99], abs=0.01)
    unfit = with_words(result_of(parsed, (), ()), posteriors("a")[:1], decode)
    assert unfit.parsed.words == parsed.words
    assert unfit.untimed == ""


@pytest.mark.parametrize("cut_s", [0.01, 0.03, 0.055])
def test_no_aligned_word_ends_behind_a_window_of_broken_frames(cut_s: float) -> None:
    log_probs = posteriors("ab cd")
    duration_s = len(log_probs) * 0.02 - cut_s
    result = with_words(result_of(ParsedReply("ab cd"), duration_s=duration_s), log_probs, decode)
    assert result.parsed.words[-1].end_s == result.aligned[-1].end_s == duration_s


def test_times_that_a_reply_states_behind_its_window_end_with_it() -> None:
    parsed = parse_word_times("ab [T:7] cd [T:80] ef [T:95]")
    result = with_words(result_of(parsed, (), (), 0.5), posteriors("a")[:1], decode)
    assert times(result.parsed.words) == [(0.0, 0.07), (0.07, 0.5), (0.5, 0.5)]
    assert "cannot align" in result.unchecked


def test_alignment_decides_where_a_tag_differs_from_it() -> None:
    said = "ab cd ef gh"
    aligned = timed_words(said, posteriors(said), 5.0)
    tags = parse_word_times("ab [T:10] cd [T:150] ef [T:160] gh [T:290]")
    result = with_words(result_of(tags, (), ()), posteriors(said), decode)
    assert times(result.parsed.words) == [(0.0, 0.1), *times(aligned[1:])]
    assert result.retimed == aligned[1:]
    assert result.largest_shift_s == pytest.approx(2.9 - aligned[-1].end_s)
    assert result.unchecked == ""


def test_a_single_wrong_tag_does_not_change_words_far_from_it() -> None:
    said = "ab cd ef gh ij kl"
    aligned = timed_words(said, posteriors(said), 5.0)
    ends = [round(100 * word.end_s) for word in aligned]
    ends[3] = ends[4] = ends[4] + 60
    tags = parse_word_times(" ".join(f"{w.text} [T:{end}]" for w, end in zip(aligned, ends, strict=True)))
    checked = check_tags(tags.words, aligned)
    assert checked.retimed == aligned[3:]
    assert times(checked.words[:3]) == times(tags.words[:3])
    assert times(checked.words[3:]) == times(aligned[3:])


@pytest.mark.parametrize("seed", range(20))
def test_words_of_tags_and_of_the_alignment_stay_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = [np.sort(rng.uniform(0, 6, 41)) for _ in range(2)]
    # Tags that agree for a while, and then do not.
    edges[0][:20] = edges[1][:20] + rng.uniform(-0.1, 0.1)
    edges[0] = np.maximum.accumulate(np.maximum(edges[0], 0))
    tagged, aligned = (tuple(Word(f"w{i}", row[i], row[i + 1], 0.5) for i in range(40)) for row in edges)
    words = check_tags(tagged, aligned).words
    flat = [edge for word in words for edge in (word.start_s, word.end_s)]
    assert flat == sorted(flat)
    for word, tag, ours in zip(words, tagged, aligned, strict=True):
        assert word == ours or max(abs(tag.start_s - ours.start_s), abs(tag.end_s - ours.end_s)) <= TAG_TOLERANCE_S


def test_aligned_times_are_those_of_the_alignment_without_a_warning() -> None:
    parsed = parse_word_times("ab [T:7] cd [T:900]")
    result = with_words(result_of(parsed, (), ()), posteriors("ab cd"), decode, timestamps="aligned")
    assert times(result.parsed.words) == times(timed_words("ab cd", posteriors("ab cd"), 5.0))
    assert (result.retimed, result.unchecked) == ((), "")
    unfit = with_words(result_of(parsed, (), ()), posteriors("a")[:1], decode, timestamps="aligned")
    assert times(unfit.parsed.words) == [(0.0, 0.07), (0.07, 5.0)]
    assert "those of the tags alone" in unfit.unchecked


def test_no_word_goes_on_through_a_silence_that_was_left_out() -> None:
    parsed = parse_word_times("ab [T:7] cd [T:21]")
    cut = Cut(int(0.12 * RATE_HZ), 8 * RATE_HZ)
    result = with_words(replace(result_of(parsed, (), (), 8.5), cuts=(cut,)), posteriors("a")[:1], decode)
    assert times(result.parsed.words) == [(0.0, 0.07), (0.12, 0.21)]


def test_turns_within_a_window_end_with_it() -> None:
    parsed = parse_turns("[Speaker 1]: ab [Speaker 2]: cd")
    log_probs = posteriors("ab cd")
    duration_s = len(log_probs) * 0.02 - 0.03
    timed = with_words(result_of(parsed, (), (), duration_s), log_probs, decode).parsed
    assert segments_of(timed, duration_s)[-1].end_s == duration_s


def test_turns_of_speakers_have_the_times_of_their_words() -> None:
    parsed = parse_turns("[Speaker 1]: ab [Speaker 2]: cd ef")
    result = with_words(result_of(parsed, (), ()), posteriors("ab cd ef"), decode).parsed
    assert [(word.text, word.speaker) for word in result.words] == [("ab", "1"), ("cd", "2"), ("ef", "2")]
    first, second = segments_of(result, 5.0)
    assert (first.words, second.words) == (result.words[:1], result.words[1:])
    assert (second.start_s, second.end_s) == (result.words[1].start_s, result.words[2].end_s)


@pytest.mark.parametrize(("text", "why"), [("漢字漢字", "cannot align"), ("今日は", r"lithophone\[ja\]"), ("", "^$")])
def test_words_without_times_have_a_reason(text: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(japanese, "can_read", lambda: False)
    result = with_words(result_of(ParsedReply(text), (), ()), posteriors("ab"), decode)
    assert result.parsed.words == ()
    assert re.search(why, result.untimed)
