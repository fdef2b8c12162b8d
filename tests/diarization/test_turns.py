"""Turns: the best sequence of speakers, and words that belong to them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lithophone.audio.vad import CHUNK
from lithophone.diarization.embeddings import LEAST, PADDING, PART, PAUSE, parts_of, speech_regions
from lithophone.diarization.linking import with_speakers
from lithophone.diarization.turns import Region, best_path, speaker_turns
from lithophone.transcript import Segment, Word

A, B = np.eye(2, dtype=np.float32)
SPEAKERS = np.stack([A, B])


@pytest.mark.parametrize("seed", range(20))
def test_the_path_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, costs = rng.normal(size=(6, 3)), rng.uniform(0, 2, 6)

    def total(path: tuple[int, ...]) -> float:
        changes = sum(costs[t] for t in range(1, 6) if path[t] != path[t - 1])
        return float(sum(scores[t, k] for t, k in enumerate(path)) - changes)

    best = max(itertools.product(range(3), repeat=6), key=total)
    assert total(tuple(best_path(scores, costs).tolist())) == pytest.approx(total(best))


def region(start_s: float, *vectors: np.ndarray, hop_s: float = 0.75) -> Region:
    centres = 16_000 * (start_s + hop_s * (np.arange(len(vectors)) + 1))
    return Region(
        round(start_s * 16_000), round((start_s + hop_s * (len(vectors) + 1)) * 16_000), centres, np.stack(vectors)
    )


def spans(turns: tuple[Segment, ...]) -> list[tuple[str | None, float, float]]:
    return [(turn.speaker, round(turn.start_s, 2), round(turn.end_s, 2)) for turn in turns]


def test_turns_end_with_their_region_and_begin_with_the_next() -> None:
    found = speaker_turns([region(1.0, B, B, B), region(4.3, A, A), region(10.0, B)], SPEAKERS)
    assert spans(found) == [("1", 1.0, 4.0), ("2", 4.3, 6.55), ("1", 10.0, 11.5)]


def test_short_pauses_do_not_end_a_turn() -> None:
    assert spans(speaker_turns([region(0.0, A), region(1.9, A)], SPEAKERS)) == [("1", 0.0, 3.4)]
    assert len(speaker_turns([region(0.0, A), region(2.1, A)], SPEAKERS)) == 2


def test_speakers_change_between_two_parts() -> None:
    [first, second] = speaker_turns([region(0.0, *[A] * 8, *[B] * 8)], SPEAKERS)
    assert (first.speaker, second.speaker) == ("1", "2")
    assert first.end_s == second.start_s == pytest.approx(6.4, abs=0.1)


def test_one_part_of_another_voice_is_no_turn() -> None:
    mixed = (A + 1.1 * B) / np.linalg.norm(A + 1.1 * B)
    assert len(speaker_turns([region(0.0, A, A, A, mixed, A, A, A)], SPEAKERS)) == 1


# --- regions and parts


def test_regions_are_apart_by_a_pause() -> None:
    speech = np.zeros(100, np.float32)
    speech[10:30] = speech[30 + PAUSE - 1 : 50] = speech[50 + PAUSE : 70] = 0.9
    assert speech_regions(speech) == [(10 - PADDING, 50 + PADDING), (50 + PAUSE - PADDING, 70 + PADDING)]


@pytest.mark.parametrize(("level", "found"), [(0.9, True), (0.4, False)])
def test_a_region_reaches_the_upper_threshold(level: float, found: bool) -> None:
    speech = np.zeros(60, np.float32)
    speech[20:40] = 0.4
    speech[30] = level
    assert bool(speech_regions(speech)) is found


def test_clicks_are_no_region() -> None:
    assert speech_regions(np.array([0.9, *[0.0] * 20], np.float32)) == []
    assert LEAST > 1 + PADDING


@pytest.mark.parametrize("length", [1, PART - 1, PART, PART + 1, PART + PART // 2, 3 * PART, 5 * PART + 777])
def test_parts_cover_a_region(length: int) -> None:
    parts = parts_of(1000, 1000 + length)
    assert parts[0][0] == 1000
    assert parts[-1][1] == 1000 + length
    assert all(end - start == min(length, PART) for start, end in parts)
    assert all(0 < b[0] - a[0] <= PART // 2 for a, b in itertools.pairwise(parts))


def test_regions_of_speech_throughout() -> None:
    assert speech_regions(np.full(50, 0.8, np.float32)) == [(0, 50)]
    assert speech_regions(np.zeros(0, np.float32)) == []
    assert CHUNK * 31 < 16_000 < CHUNK * 32


# --- words


def turn(speaker: str, start_s: float, end_s: float) -> Segment:
    return Segment("", start_s, end_s, speaker=speaker)


def said(*words: tuple[str, float, float]) -> Segment:
    timed = tuple(Word(*word) for word in words)
    return Segment(" ".join(word.text for word in timed) + ".", timed[0].start_s - 0.3, timed[-1].end_s + 0.3, timed)


def test_segments_are_cut_where_the_speaker_changes() -> None:
    segment = said(("one", 1.0, 1.4), ("two", 1.5, 2.0), ("three", 2.2, 2.6))
    found = list(with_speakers([segment], [turn("1", 0.9, 2.05), turn("2", 2.1, 3.0)]))
    assert [(s.text, s.speaker, s.start_s, s.end_s) for s in found] == [
        ("one two", "1", 1.0, 2.0),
        ("three.", "2", 2.2, 2.6),
    ]
    assert [word.speaker for s in found for word in s.words] == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("start_s", "end_s", "speaker"),
    [(1.0, 3.0, "1"), (1.8, 3.0, "2"), (4.4, 4.6, "2"), (4.9, 5.1, "3"), (0.0, 0.5, "1"), (90.0, 91.0, "3")],
)
def test_a_word_is_of_the_turn_it_shares_the_most_time_with_or_the_nearest(
    start_s: float, end_s: float, speaker: str
) -> None:
    turns = [turn("1", 0.9, 2.2), turn("2", 2.2, 4.0), turn("3", 5.5, 6.0)]
    [found] = with_speakers([said(("word", start_s, end_s))], turns)
    assert found.speaker == speaker


def test_a_turn_that_began_long_before_is_found() -> None:
    turns = [turn("1", 0.0, 60.0), *(turn("2", 10.0 + i, 10.2 + i) for i in range(20))]
    [found] = with_speakers([said(("word", 45.0, 45.5))], turns)
    assert found.speaker == "1"


def test_segments_without_words_have_one_speaker() -> None:
    [found] = with_speakers([Segment("text", 0.0, 10.0)], [turn("1", 0.0, 3.0), turn("2", 3.0, 10.0)])
    assert (found.speaker, found.text, found.start_s, found.end_s) == ("2", "text", 0.0, 10.0)


def test_without_turns_nothing_changes() -> None:
    segment = said(("word", 0.5, 1.0))
    assert list(with_speakers([segment], [])) == [segment]
