"""Replies of a plus model: what is written is what is read, turns are numbered as they come, clusters are asked for."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lithophone.errors import ManifestError
from lithophone.text.prompts import SPEAKERS, SpeakerTurns, Transcribe, WordTimes, build_prompt
from lithophone.text.replies import SPEAKER_TAG, Turn, parse_turns, parse_word_times
from lithophone.train.targets.plus_tags import (
    CLUSTERS,
    MODEL_TYPE,
    ClusteredSpeakerTurns,
    plus_example,
    raw_words,
    speaker_reply,
    time_tag,
    word_time_reply,
)
from lithophone.train.targets.prompt_reply import TaskTarget
from lithophone.transcript import Word
from tests.tiny_tokenizer import PLUS_TEMPLATE, tiny_tokenizer

CENTISECOND_S = 0.01


def words_at(*times: tuple[str, float, float]) -> tuple[Word, ...]:
    return tuple(Word(*time) for time in times)


def test_the_card_s_own_example() -> None:
    words = words_at(("hello", 0.0, 0.45), ("world", 0.6, 0.82))
    assert word_time_reply(words) == "hello [T:45] _ [T:60] world [T:82]"
    assert word_time_reply(words, silence_s=0.2) == "hello [T:45] world [T:82]"
    assert word_time_reply(()) == ""


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_read_again(seed: int) -> None:
    """Beyond 10 s too, and through silences of any length; shorter gaps belong to the word behind them."""
    rng = np.random.default_rng(seed)
    gaps = rng.choice([0.0, 0.02, 0.3, 2.0, 9.99, 10.0, 12.5, 25.0], 30)
    lengths = rng.uniform(0.02, 3.0, 30)
    ends = np.cumsum(gaps + lengths)
    words = words_at(*((f"w{i}", float(e - n), float(e)) for i, (e, n) in enumerate(zip(ends, lengths, strict=True))))
    parsed = parse_word_times(word_time_reply(words))
    assert parsed.malformed == 0
    assert [word.text for word in parsed.words] == [word.text for word in words]
    assert parsed.words[-1].end_s > 100.0
    for read, word, gap in zip(parsed.words, words, gaps, strict=True):
        assert read.end_s == pytest.approx(word.end_s, abs=CENTISECOND_S)
        if gap >= 0.3:
            assert read.start_s == pytest.approx(word.start_s, abs=CENTISECOND_S)


def test_times_that_fall_are_held() -> None:
    """A tag below the one before it would be read as 10 s later."""
    parsed = parse_word_times(word_time_reply(words_at(("a", 0.0, 0.5), ("b", 0.3, 0.4), ("c", 0.4, 0.9))))
    assert [word.end_s for word in parsed.words] == [0.5, 0.5, 0.9]


def test_words_that_no_tag_can_hold_are_refused() -> None:
    with pytest.raises(ManifestError, match=r"'long' takes 10\.00 s"):
        word_time_reply(words_at(("long", 0.0, 10.0)))
    for text in ("two words", "_", ""):
        with pytest.raises(ManifestError, match="no single word"):
            word_time_reply(words_at((text, 0.0, 1.0)))


def test_written_words_become_raw_ones() -> None:
    words = raw_words(words_at(("Well-known,", 1.0, 2.0), ("—", 2.0, 2.1), ("Ann's", 2.1, 2.5)))
    assert [(word.text, word.start_s, word.end_s) for word in words] == [
        ("well", 1.0, pytest.approx(1 + 4 / 9)), ("known", pytest.approx(1 + 4 / 9), 2.0), ("ann's", 2.1, 2.5),
    ]  # fmt: skip
    assert time_tag(1045) == time_tag(45) == "[T:45]"


def test_turns_are_numbered_as_they_are_first_heard() -> None:
    turns = [Turn("zoe", "Good day!"), Turn("zoe", "How are you?"), Turn("adam", "Fine."), Turn("zoe", "Good.")]
    reply = speaker_reply(turns)
    assert reply == "[Speaker 1]: good day how are you [Speaker 2]: fine [Speaker 1]: good"
    assert parse_turns(reply).turns == (Turn("1", "good day how are you"), Turn("2", "fine"), Turn("1", "good"))


def test_clusters_are_in_the_tags_of_those_who_have_one() -> None:
    turns = [Turn("zoe", "a"), Turn("adam", "b"), Turn("zoe", "c")]
    reply = speaker_reply(turns, {"zoe": 42})
    assert reply == "[Speaker 1 cluster 42]: a [Speaker 2]: b [Speaker 1 cluster 42]: c"
    assert re.sub(r" cluster \d+", "", reply) == speaker_reply(turns)


@pytest.mark.parametrize("task", [SpeakerTurns(), WordTimes(), Transcribe(punctuate=False, keywords=("granite",))])
def test_a_pair_is_the_prompt_of_inference(task: SpeakerTurns | WordTimes | Transcribe) -> None:
    tokenizer = tiny_tokenizer(PLUS_TEMPLATE)
    pair = plus_example(TaskTarget(task, "hello"), tokenizer, 3)
    assert pair.prompt == build_prompt(task, tokenizer, MODEL_TYPE, 3)
    assert tokenizer.decode(pair.reply[:-1]) == " hello"
    assert pair.reply[-1] == tokenizer.eos_id


def test_clusters_are_asked_for_as_no_task_of_inference_asks() -> None:
    tokenizer = tiny_tokenizer(PLUS_TEMPLATE)
    reply = "[Speaker 1 cluster 42]: hello"
    pair = plus_example(TaskTarget(ClusteredSpeakerTurns(), reply), tokenizer, 3)
    plain = plus_example(TaskTarget(SpeakerTurns(), reply), tokenizer, 3)
    assert pair.reply == plain.reply
    assert pair.prompt.count(tokenizer.audio_id) == 3
    text = tokenizer.decode(plain.prompt)
    assert "cluster" not in text
    assert tokenizer.decode(pair.prompt) == text.replace(SPEAKERS, CLUSTERS) != text
    assert SPEAKER_TAG.search(SPEAKERS)


def test_a_cluster_that_is_named_after_all_says_nothing() -> None:
    parsed = parse_turns("[Speaker 1 cluster 42]: hello there [Speaker 2 cluster 7]: hi")
    assert parsed.turns == (Turn("1", "hello there"), Turn("2", "hi"))
    assert parsed.malformed == 0
