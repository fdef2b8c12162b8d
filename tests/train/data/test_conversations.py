"""Rows of several clips: where words come to lie, who speaks after whom, and what is target; the clips are tones."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lithophone.audio.features import RATE_HZ
from lithophone.data.manifest import read_entries
from lithophone.errors import OptionError
from lithophone.text.prompts import SpeakerTurns, Transcribe, WordTimes
from lithophone.text.replies import parse_turns, parse_word_times
from lithophone.train.data.augment import Augment, Samples, seeded
from lithophone.train.data.batches import MixtureOptions
from lithophone.train.data.clips import DecodedCorpus
from lithophone.train.data.conversations import (
    ConversationOptions,
    SpeakerClip,
    TimedSource,
    edge_silence,
    neighbours,
    overlap_add,
    shifted,
    simulate_conversation,
    speaker_clip,
)
from lithophone.train.data.keyword_lists import KeywordLists
from lithophone.train.data.plus_batches import PlusMix, PlusMixture
from lithophone.train.targets.plus_tags import ClusteredSpeakerTurns
from lithophone.transcript import Word
from tests.sounds import silence, tone

SPEAKERS = ("ann", "ann", "ben", "cid", "ben", "ann")
ORDINALS = ("one", "two", "three", "four", "five", "six")
EDGE_S = 0.2
PLAIN = Augment.none()


def clip_samples(i: int) -> Samples:
    """A silent edge, two tones of the clip's own pitch, a silent edge: 1.4 s, and more for every further clip."""
    sound = tone(0.4 + 0.1 * i, frequency_hz=300.0 + 100.0 * i)
    return np.concatenate([silence(EDGE_S), sound, silence(0.2), sound, silence(EDGE_S)])


def clip_words(i: int) -> tuple[Word, ...]:
    length = 0.4 + 0.1 * i
    second = EDGE_S + length + 0.2
    return (Word("say", EDGE_S, EDGE_S + length), Word(ORDINALS[i], second, second + length))


@pytest.fixture
def source(tmp_path: Path) -> TimedSource:
    lines = []
    for i, speaker in enumerate(SPEAKERS):
        soundfile.write(tmp_path / f"{i}.wav", clip_samples(i), RATE_HZ)
        text = f"Say {ORDINALS[i].capitalize()}."
        lines.append(json.dumps({"audio": f"{i}.wav", "text": text, "lang": "en", "speaker": speaker}))
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    corpus = DecodedCorpus(read_entries(tmp_path / "m.jsonl"), tmp_path / "cache")
    return TimedSource(corpus, 1.0, [clip_words(i) for i in range(len(SPEAKERS))], {"ann": 3, "ben": 1, "cid": 2})


def mixture(source: TimedSource, mix: PlusMix, augment: Augment = PLAIN, **options: object) -> PlusMixture:
    settings = {"seconds": 24.0, "row_frames": (300,), "seed": 1} | options
    keywords = settings.pop("keywords", None)
    return PlusMixture([source], MixtureOptions(augment=augment, **settings), mix, keywords=keywords)  # type: ignore[arg-type]


def only(**shares: float) -> PlusMix:
    """These tasks; `raw` is drawn once in a million."""
    return PlusMix(**{"raw": 1e-6, "times": 0.0, "speakers": 0.0, "keywords": 0.0} | shares)


def loud(samples: Samples, start_s: float, end_s: float) -> bool:
    """Whether the middle of this stretch sounds and what lies right before and behind it does not."""
    first, last = round(start_s * RATE_HZ), round(end_s * RATE_HZ)
    edge = RATE_HZ // 50
    inside = np.abs(samples[first + edge : last - edge]).max()
    around = np.abs(np.concatenate([samples[max(0, first - 2 * edge) : first - edge], samples[last + edge :][:edge]]))
    return bool(inside > 0.1 and around.max(initial=0.0) < 0.01)


@pytest.mark.parametrize("pause_s", [0.0, 0.7, -0.1, -5.0])
def test_words_are_where_they_sound(source: TimedSource, pause_s: float) -> None:
    """However far clips are to overlap, what overlaps is silence."""
    said = [speaker_clip(source, i) for i in range(3)]
    samples, words = overlap_add(said, [pause_s, pause_s])
    assert [word.text for word in words] == ["say", "one", "say", "two", "say", "three"]
    whole = sum(len(one.samples) for one in said)
    assert len(samples) == whole + 2 * round(max(pause_s, -2 * EDGE_S) * RATE_HZ)
    if pause_s > -1.0:
        assert all(loud(samples, word.start_s, word.end_s) for word in words)
    for before, behind in pairwise(words):
        assert behind.start_s >= before.end_s - 0.011


def test_silence_at_the_edges() -> None:
    assert edge_silence(clip_samples(0)) == (3200, 3200)
    assert edge_silence(tone(0.5)) == (0, 0)
    assert edge_silence(silence(0.5)) == (8000, 8000)
    assert edge_silence(np.zeros(3, np.float32)) == (3, 3)


def test_a_long_overlap_stays_within_the_shorter_clip() -> None:
    short, long = SpeakerClip(silence(0.1), "", "a"), SpeakerClip(silence(2.0), "", "b")
    samples, _ = overlap_add([long, short, long], [-9.0, -9.0])
    assert len(samples) == 2 * RATE_HZ + 2 * RATE_HZ - 1600


def test_shifted_words() -> None:
    (word,) = shifted([Word("a", 1.0, 2.0, confidence=0.5)], offset_s=10.0, scale=0.5)
    assert (word.start_s, word.end_s, word.confidence) == (10.5, 11.0, 0.5)


def test_levels_change_and_nothing_is_cut(source: TimedSource) -> None:
    soft, as_is, much = (speaker_clip(source, 0, gain_db).samples for gain_db in (-6.0, 0.0, 60.0))
    assert np.abs(soft).max() / np.abs(as_is).max() == pytest.approx(10 ** (-6 / 20), rel=1e-3)
    assert np.abs(much).max() == pytest.approx(1.0)


def test_neighbours_are_clips_that_follow_each_other(source: TimedSource) -> None:
    seen = set()
    for seed in range(30):
        said = neighbours(source, range(6), 5 * RATE_HZ, 3, seeded(seed))
        numbers = [ORDINALS.index(one.words[1].text) for one in said]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert sum(len(one.samples) for one in said) <= 5 * RATE_HZ
        seen.add(len(numbers))
    assert seen == {1, 2, 3}
    assert {len(neighbours(source, [0, 2, 4], 9 * RATE_HZ, 3, seeded(seed))) for seed in range(9)} == {1}
    assert len(neighbours(source, range(6), 10, 3, seeded(0))) == 1


def test_in_conversations_the_speaker_changes_at_every_clip(source: TimedSource) -> None:
    talk = ConversationOptions(speakers=(2, 3), max_clips=5)
    sizes, crowds = set(), set()
    for seed in range(40):
        said, pauses_s = simulate_conversation(source, 12 * RATE_HZ, talk, seeded(seed))
        assert all(before.speaker != behind.speaker for before, behind in pairwise(said))
        assert len(overlap_add(said, pauses_s)[0]) <= 12 * RATE_HZ
        assert all(-0.3 <= pause_s <= 1.0 for pause_s in pauses_s)
        sizes.add(len(said))
        crowds.add(len({one.speaker for one in said}))
        levels = {(one.speaker, round(float(np.abs(one.samples).max()), 3)) for one in said}
        assert len(levels) == len({one.speaker for one in said})
    assert max(sizes) == 5
    assert crowds == {2, 3}
    assert len(simulate_conversation(source, 100, talk, seeded(1))[0]) == 2


@pytest.mark.parametrize("speed", [None, 0.8])
def test_rows_with_times_say_when_the_words_end(source: TimedSource, speed: float | None) -> None:
    augment = PLAIN if speed is None else Augment(
        speed_p=1.0, speed_range=(speed, speed), room_p=0, noise_p=0, babble_p=0, codec_p=0, gain_db=(0, 0), spec_p=0
    )  # fmt: skip
    factor = speed or 1.0
    batch = mixture(source, only(times=1.0), augment).batch(0)
    assert batch.frames.shape == (4, 300, 160)
    durations = {clip: words for clip, words in zip(ORDINALS, source.words, strict=True)}
    for target in batch.targets:
        assert isinstance(target.task, WordTimes)
        parsed = parse_word_times(target.reply)
        assert parsed.malformed == 0
        offset = 0.0
        for say, name in zip(parsed.words[::2], parsed.words[1::2], strict=True):
            expected = shifted(durations[name.text], offset, 1.0 / factor)
            assert say.end_s == pytest.approx(expected[0].end_s, abs=0.011)
            assert name.end_s == pytest.approx(expected[1].end_s, abs=0.011)
            offset = name.end_s + EDGE_S / factor


def test_raw_rows_and_rows_with_keywords(source: TimedSource) -> None:
    lists = {"en": KeywordLists([clip.text for clip in source.corpus.clips], "en", 3)}
    rows = [
        target
        for step in range(4)
        for target in mixture(source, only(raw=0.5, keywords=0.5), keywords=lists).batch(step).targets
    ]
    assert {bool(row.task.keywords) for row in rows} == {True, False}
    for row in rows:
        assert isinstance(row.task, Transcribe)
        assert not row.task.punctuate
        assert re.fullmatch(r"(say (one|two|three|four|five|six) ?)+", row.reply)


def test_rows_with_turns(source: TimedSource) -> None:
    mix = only(speakers=1.0, clustered=0.5, alone=0.3)
    rows = [target for step in range(40) for target in mixture(source, mix).batch(step).targets]
    assert all(isinstance(row.task, SpeakerTurns) for row in rows)
    clustered = {isinstance(row.task, ClusteredSpeakerTurns): row for row in rows}
    assert set(clustered) == {True, False}
    assert all(("cluster" in row.reply) == isinstance(row.task, ClusteredSpeakerTurns) for row in rows)
    crowds = {
        len({turn.speaker for turn in parse_turns(row.reply).turns}) for row in rows if type(row.task) is SpeakerTurns
    }
    assert crowds == {1, 2, 3}
    tags = {tag for row in rows for tag in re.findall(r"cluster (\d+)", row.reply)}
    assert tags == {"1", "2", "3"}


def test_a_source_is_asked_for_what_it_has(source: TimedSource) -> None:
    bare = TimedSource(source.corpus, 1.0, [()] * len(SPEAKERS))
    bare.corpus.clips = [clip for clip in bare.corpus.clips if clip.speaker == "ann"]
    bare = TimedSource(bare.corpus, 1.0, [()] * 3)
    rows = [target for step in range(5) for target in mixture(bare, PlusMix()).batch(step).targets]
    assert {type(row.task) for row in rows} == {Transcribe}


def test_a_batch_is_a_function_of_seed_step_and_rank(source: TimedSource) -> None:
    first, again = (mixture(source, PlusMix(), Augment()).batch(3) for _ in range(2))
    assert torch.equal(first.frames, again.frames)
    assert first.targets == again.targets
    assert first.seconds == pytest.approx(float(first.lengths.sum()) / 50)
    ranks = [mixture(source, PlusMix(), Augment(), rank=rank, world=2) for rank in (0, 1)]
    assert not torch.equal(ranks[0].batch(0).frames, ranks[1].batch(0).frames)
    assert torch.equal(
        next(iter(mixture(source, PlusMix(), start=3))).frames, mixture(source, PlusMix()).batch(3).frames
    )


def test_shares_are_read_and_checked() -> None:
    assert PlusMix.parse(["times=0.5", "alone=0"]) == PlusMix(times=0.5, alone=0.0)
    for items, match in ((["times=x"], "NAME=SHARE"), (["words=1"], "no share words"), (["raw=0"], "raw above 0")):
        with pytest.raises(OptionError, match=match):
            PlusMix.parse(items)
    with pytest.raises(OptionError, match="0 to 1"):
        PlusMix(alone=1.5)
    with pytest.raises(OptionError, match="2 speakers and 2 clips"):
        ConversationOptions(speakers=(1, 2))
