"""Tags of plus models, well formed and not: every branch of the parser, and random streams of tags."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from lithophone.text.prompts import SpeakerTurns, Transcribe, WordTimes, parse_reply
from lithophone.text.replies import ParsedReply, Turn, parse_turns, parse_word_times
from lithophone.text.tags import SPEAKER_TAG, TIME_TAG, TagFaults, without_tags
from lithophone.transcript import Word


def times(reply: ParsedReply) -> list[tuple[str, float, float]]:
    return [(word.text, round(word.start_s, 2), round(word.end_s, 2)) for word in reply.words]


@pytest.mark.parametrize(
    ("text", "words", "faults"),
    [
        ("if[T:12]you[T:30]_[T:95]can[T:120]", "if you can", TagFaults()),
        ("one [t:5] two [ T : 10 ]", "one two", TagFaults()),
        ("one [T:] two [T:10]", "one two", TagFaults(unreadable=1, untagged=1)),
        ("one [T:1x0] two [T:10]", "one two", TagFaults(unreadable=1, untagged=1)),
        ("one [T:1234] two [T:10]", "one two", TagFaults(unreadable=1, untagged=1)),
        ("one [T:-5] two [T:10]", "one two", TagFaults(unreadable=1, untagged=1)),
        ("one [T: 4 5] two [T:10]", "one two", TagFaults(unreadable=1, untagged=1)),
        ("one [T:5two[T:10]", "one two", TagFaults(unreadable=1, untagged=1)),
        ("one [T two [T:10]", "one two", TagFaults(unreadable=1, untagged=1)),
        ("one T:5] two [T:10]", "one two", TagFaults(unreadable=1, untagged=1)),
        ("one [T:5] two [T:1", "one two", TagFaults(unreadable=1, untagged=1)),
        ("one [T:5] two", "one two", TagFaults(untagged=1)),
        ("one two three [T:9]", "one two three", TagFaults(untagged=2)),
        ("one [T:5] [T:7] two [T:10]", "one two", TagFaults(stray=1)),
        ("[T:5]", "", TagFaults(stray=1)),
        ("[Speaker 1]: one [T:5] [Speaker 2]: two [T:10]", "one two", TagFaults(stray=2)),
        ("one [T:90] two [T:60] three [T:120]", "one two three", TagFaults(backward=1, untagged=1)),
        ("one [T:90] two [T:400] three [T:120]", "one two three", TagFaults(beyond=1, untagged=1)),
        ("one [T:290] two [T:340]", "one two", TagFaults()),
        ("see [Table] and hat:45] [T:90]", "see [Table] and hat:45]", TagFaults(untagged=3)),
        ("_ [T:90] _", "", TagFaults()),
        ("", "", TagFaults()),
    ],
)
def test_every_fault_of_a_time_tag_is_counted_and_no_word_is_lost(text: str, words: str, faults: TagFaults) -> None:
    reply = parse_word_times(text, 3.0)
    assert (reply.text, reply.faults) == (words, faults)
    assert [word.text for word in reply.words] == words.split()


def test_a_tag_that_goes_back_shares_the_time_up_to_the_next() -> None:
    assert times(parse_word_times("one [T:90] two [T:60] three [T:170] four [T:200]")) == [
        ("one", 0.0, 0.9), ("two", 0.9, 1.2), ("three", 1.2, 1.7), ("four", 1.7, 2.0),
    ]  # fmt: skip


def test_a_silence_may_last_longer_than_a_word() -> None:
    """The pseudo-word of training has steps of up to 9.99 s."""
    assert times(parse_word_times("one [T:90] _ [T:89] two [T:120]")) == [("one", 0.0, 0.9), ("two", 10.89, 11.2)]


def test_times_do_not_pass_the_end_of_the_window() -> None:
    reply = parse_word_times("one [T:280] two [T:345] three [T:350]", 3.0)
    assert times(reply) == [("one", 0.0, 2.8), ("two", 2.8, 3.0), ("three", 3.0, 3.0)]
    assert (reply.faults, reply.last_tag_s) == (TagFaults(), 3.5)
    assert parse_word_times("one [T:900]", 3.0).last_tag_s is None


@pytest.mark.parametrize(
    ("text", "turns", "faults"),
    [
        ("[Speaker 1]: a [Speaker 2]: b", [("1", "a"), ("2", "b")], TagFaults()),
        ("[Speaker 1]:a[Speaker 2]:b", [("1", "a"), ("2", "b")], TagFaults()),
        ("[speaker 01] a [Speaker_2]: b", [("1", "a"), ("2", "b")], TagFaults()),
        ("[Speaker 1 cluster 42]: a", [("1", "a")], TagFaults()),
        ("[Speaker 1]: a [Speaker 1]: b", [("1", "a b")], TagFaults()),
        ("a [Speaker 2]: b", [(None, "a"), ("2", "b")], TagFaults()),
        ("[Speaker 1]: a [Speaker X]: b", [("1", "a b")], TagFaults(unreadable=1)),
        ("[Speaker 1]: a [Speaker X: b", [("1", "a b")], TagFaults(unreadable=1)),
        ("[Speaker 1]: a [Speaker]: b", [("1", "a b")], TagFaults(unreadable=1)),
        ("[Speaker 1]: a [Speaker one two]: b", [("1", "a b")], TagFaults(unreadable=1)),
        ("[Speaker 1]: a [Speaker 1234]: b", [("1", "a b")], TagFaults(unreadable=1)),
        ("[Speaker 1]: a [Speaker 2 b", [("1", "a"), ("2", "b")], TagFaults(unreadable=1)),
        ("[Speaker 1]: a [Speaker2: b: c", [("1", "a"), ("2", "b: c")], TagFaults(unreadable=1)),
        ("[Speaker 1]: a Speaker 2]: b", [("1", "a"), ("2", "b")], TagFaults(unreadable=1)),
        ("[Speaker 1]: a [Speaker", [("1", "a")], TagFaults(unreadable=1)),
        ("[Speaker 1]: a [T:45] b [T:80]", [("1", "a b")], TagFaults(stray=2)),
        ("[Speakers]: a", [(None, "[Speakers]: a")], TagFaults()),
        ("[Speaker 1]:", [], TagFaults()),
    ],
)
def test_every_fault_of_a_speaker_tag_is_counted_and_no_word_is_lost(
    text: str, turns: list[tuple[str | None, str]], faults: TagFaults
) -> None:
    reply = parse_reply(SpeakerTurns(), text)
    assert (reply.turns, reply.faults) == (tuple(Turn(*turn) for turn in turns), faults)


def test_tags_that_the_task_did_not_ask_for_are_removed_from_plus_models_alone() -> None:
    task, text = Transcribe(punctuate=False), "so [T:12] [Speaker 1]: it goes"
    plus = parse_reply(task, text, variant="granite_speech_plus")
    assert (plus.text, plus.faults) == ("so it goes", TagFaults(stray=2))
    assert parse_reply(task, text).text == text


def test_faults_are_named() -> None:
    faults = TagFaults(unreadable=2, beyond=1)
    assert (str(faults), faults.total, str(TagFaults())) == ("2 unreadable, 1 beyond the window", 3, "")
    assert str(TagFaults(1, 2, 3, 4, 5)) == (
        "1 unreadable, 2 out of place, 3 missing, 4 back in time, 5 beyond the window"
    )


PARTS = (
    "one", "two", "_", "ü", "[T:", "[T:12]", "[T:5", "T:7]", "[T:1x0]", "[T:99999999999]", "[t]", "[", "]", ":",
    "[[T:3]]", "[Speaker 1]:", "[Speaker 2]", "[Speaker ", "Speaker 3]:", "[Speaker X]:",
    "[Speaker 99999999999999999999]:", "[Speaker 1 cluster 7]:", "[T:٣]", "[Speaker ٣]:", "\n", "\u00a0", "12",
)  # fmt: skip


def random_stream(rng: random.Random) -> str:
    """Parts of tags in any order, with and without spaces, and tags of any number."""
    some = [rng.choice((*PARTS, f"[T:{rng.randrange(1000)}]", "word ")) for _ in range(rng.randrange(40))]
    return "".join(part + rng.choice(("", " ")) for part in some)


def is_in_order(words: tuple[Word, ...], end_s: float) -> bool:
    edges = [0.0, *(edge for word in words for edge in (word.start_s, word.end_s)), end_s]
    return all(first <= second for first, second in pairwise(edges))


@pytest.mark.parametrize("seed", range(8))
def test_any_stream_of_tags_gives_times_in_order_within_the_window(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(250):
        text, duration_s = random_stream(rng), rng.choice((0.0, 0.37, 9.99, 10.0, 31.4, 210.0))
        reply = parse_reply(WordTimes(), text, duration_s)
        assert is_in_order(reply.words, duration_s), text
        assert [word.text for word in reply.words] == reply.text.split()
        open_end = parse_reply(WordTimes(), text)
        assert is_in_order(open_end.words, float("inf")), text


@pytest.mark.parametrize("seed", range(8))
def test_any_stream_of_tags_gives_turns_that_differ_and_no_tag(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(250):
        text = random_stream(rng)
        reply = parse_turns(text)
        assert all(first.speaker != second.speaker for first, second in pairwise(reply.turns)), text
        assert " ".join(turn.text for turn in reply.turns) == reply.text
        assert not SPEAKER_TAG.search(reply.text), text
        words = parse_word_times(text, 30.0).words
        assert not any(TIME_TAG.search(word.text) or SPEAKER_TAG.search(word.text) for word in words), text


@pytest.mark.parametrize("seed", range(4))
def test_words_between_tags_are_all_kept(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        words = [f"w{i}" for i in range(rng.randrange(1, 20))]
        tags = [rng.choice(("[T:12]", "[T:7", "[T:", "[T:1234]", "[Speaker 1]:", "[Speaker ", "")) for _ in words]
        text = " ".join(f"{word} {tag}" for word, tag in zip(words, tags, strict=True))
        assert parse_word_times(text, 30.0).text.split() == words
        assert parse_turns(text).text.split() == words


def test_removed_tags_leave_a_space() -> None:
    assert without_tags("a[T:5]b", TIME_TAG) == ("a b", 1)
    assert without_tags("a  b", TIME_TAG) == ("a  b", 0)
