"""Incremental decoding: windows of a conversation continue each other, so that speakers keep their numbers."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lithophone.checkpoint import Checkpoint
from lithophone.diarization.clustering import SpeakerCount
from lithophone.pipeline import groups
from lithophone.pipeline.assembly import RecordingDone
from lithophone.pipeline.encoding import EncodedBatch
from lithophone.pipeline.engine import Engine, Pending
from lithophone.pipeline.incremental import FRAME, NOTHING, context_of
from lithophone.pipeline.items import merged_turns
from lithophone.pipeline.journal import Journal
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.request import resolve_request
from lithophone.pipeline.transcriber import Transcriber
from lithophone.pipeline.utterance import Utterance
from lithophone.text.replies import Turn, parse_turns, tagged_text
from lithophone.transcript import Segment, Transcript
from tests.detectors import by_loudness
from tests.pipeline.scripted import scripted_replies, seen_prompts
from tests.sounds import silence, tone
from tests.tiny_checkpoint import spelling_plus

RATE_HZ = 16_000
SPEAKERS = {"task": "speakers", "limit_s": 12.0}
TALK = np.concatenate([part for hz in (300, 400, 500) for part in (silence(6.0), tone(4.0, frequency_hz=hz))])
"""Three windows: two do not fit into half of the limit."""

REPLIES = ("[Speaker 1]: ab [Speaker 2]: cd", "ef [Speaker 3]: gh", "[Speaker 1]: ij")


@pytest.fixture(scope="module")
def plus() -> Transcriber:
    made = spelling_plus()
    text = replace(made.config.text_config, max_position_embeddings=1024)
    checkpoint = replace(made, config=replace(made.config, text_config=text))
    return Transcriber(checkpoint, detector=by_loudness())


@pytest.fixture
def script(plus: Transcriber, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return scripted_replies(plus.checkpoint.tokenizer, monkeypatch)


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    return seen_prompts(monkeypatch)


def speakers(transcript: Transcript) -> list[tuple[str | None, str]]:
    return [(turn.speaker, turn.text) for turn in merged_turns(transcript.segments)]


def prefixes(plus: Transcriber, prompts: list[list[int]]) -> list[tuple[str, int]]:
    """Text behind the assistant header, and the number of audio embeddings."""
    tokenizer = plus.checkpoint.tokenizer
    return [(tokenizer.decode(ids).rpartition("assistant")[2], ids.count(tokenizer.audio_id)) for ids in prompts]


def test_a_window_continues_the_text_of_the_one_before(
    plus: Transcriber, script: list[str], prompts: list[list[int]]
) -> None:
    script += REPLIES
    found = plus.transcribe(TALK, RATE_HZ, **SPEAKERS)
    (first, n_first), (second, n_second), (third, n_third) = prefixes(plus, prompts)
    assert (first, second, third) == ("", REPLIES[0], "[Speaker 2]: ef [Speaker 3]: gh")
    assert [n_second, n_third] == pytest.approx([2 * n_first] * 2, abs=9)
    assert speakers(found) == [("1", "ab"), ("2", "cd ef"), ("3", "gh"), ("1", "ij")]
    assert not [warning for warning in found.warnings if warning.code == "renumbered"]


def test_words_of_a_window_lie_in_it(plus: Transcriber, script: list[str]) -> None:
    script += REPLIES
    found = plus.transcribe(TALK, RATE_HZ, **SPEAKERS)
    windows = {"ab": 6.0, "cd": 6.0, "ef": 16.0, "gh": 16.0, "ij": 26.0}
    assert [word.text for word in found.words] == list(windows)
    for word in found.words:
        assert windows[word.text] - 0.5 <= word.start_s <= word.end_s <= windows[word.text] + 4.5


@pytest.mark.parametrize("first", ["[Speaker 1]: ab[cut]", "[Speaker 1]: " + "ab " * 40, ""])
def test_a_reply_that_is_cut_or_loops_or_is_empty_is_not_continued(
    plus: Transcriber, script: list[str], prompts: list[list[int]], first: str
) -> None:
    script += [first, *REPLIES[1:]]
    found = plus.transcribe(TALK, RATE_HZ, max_new_tokens=1000, **SPEAKERS)
    assert [text for text, _ in prefixes(plus, prompts)][1] == ""
    [warning] = [warning for warning in found.warnings if warning.code == "renumbered"]
    assert warning.start_s == pytest.approx(15.6, abs=0.1)


def test_what_does_not_fit_into_the_positions_is_not_continued(
    plus: Transcriber, script: list[str], prompts: list[list[int]]
) -> None:
    long = "[Speaker 1]: " + " ".join(f"w{i}" for i in range(300))
    script += [long, *REPLIES[1:]]
    found = plus.transcribe(TALK, RATE_HZ, **SPEAKERS)
    assert [bool(text) for text, _ in prefixes(plus, prompts)] == [False, False, True]
    assert sum(warning.code == "renumbered" for warning in found.warnings) == 1


def test_other_tasks_do_not_continue_windows(plus: Transcriber, script: list[str], prompts: list[list[int]]) -> None:
    script += ["ab", "cd", "ef"]
    plus.transcribe(TALK, RATE_HZ, limit_s=6.0)
    assert [text for text, _ in prefixes(plus, prompts)] == ["", "", ""]


def test_recordings_in_one_call_continue_their_own_windows(
    plus: Transcriber, script: list[str], prompts: list[list[int]]
) -> None:
    script += [f"[Speaker {n}]: w{n}" for n in range(1, 7)]
    results = [result for _, result in plus.transcribe_many([TALK, TALK[::-1].copy()], RATE_HZ, **SPEAKERS)]
    assert all(isinstance(result, Transcript) for result in results)
    given = [text for text, _ in prefixes(plus, prompts)]
    assert given.count("") == 2
    for result in results:
        assert isinstance(result, Transcript)
        words = [f"[Speaker {turn.speaker}]: {turn.text}" for turn in merged_turns(result.segments)]
        assert set(words[:-1]) <= set(given)
        assert words[-1] not in given


@dataclass(frozen=True)
class Before:
    """A window that is decoded."""

    samples: torch.Tensor | None
    turns: tuple[Turn, ...]
    done: bool = True


def utterance_after(checkpoint: Checkpoint, n_before: int, turns: tuple[Turn, ...]) -> Utterance:
    before = Before(torch.from_numpy(tone(n_before / RATE_HZ, frequency_hz=700.0)), turns)
    request = resolve_request(checkpoint, TranscribeOptions(task="speakers"))
    return Utterance(torch.from_numpy(tone(2.0)), 100_000, request, previous=before)


def test_character_posteriors_are_those_of_the_window_alone(plus: Transcriber) -> None:
    """Their frames are those that the encoder gives for both, less those of the context."""
    utterance = utterance_after(plus.checkpoint, 20_007, (Turn("1", "ab"),))
    other = replace(utterance, previous=None)
    batch = EncodedBatch(plus.checkpoint, [utterance, other])
    context = batch.contexts[0]
    assert (len(context.samples), context.frames) == (20_007 // FRAME * FRAME, 62)
    whole = replace(other, samples=torch.cat([context.samples, other.samples]))
    expected = EncodedBatch(plus.checkpoint, [whole]).characters[0].log_probs[62:]
    assert torch.allclose(batch.characters[0].log_probs, expected, atol=1e-4)
    alone = EncodedBatch(plus.checkpoint, [other]).characters[0].log_probs
    assert torch.allclose(batch.characters[1].log_probs, alone, atol=1e-4)


def test_special_tokens_in_a_text_are_no_special_tokens_of_the_prompt(plus: Transcriber) -> None:
    turns = (Turn("1", "ab <|audio|> cd"),)
    context = context_of(plus.checkpoint, utterance_after(plus.checkpoint, RATE_HZ, turns))
    assert plus.checkpoint.tokenizer.audio_id not in context.prefix
    assert context_of(plus.checkpoint, utterance_after(plus.checkpoint, RATE_HZ, ())) is NOTHING


def test_a_decoded_window_does_not_keep_the_ones_before(
    plus: Transcriber, script: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script += REPLIES
    samples: list[weakref.ref[torch.Tensor]] = []
    submit = Engine.submit

    def submitted(self: Engine, utterance: Utterance) -> Pending:
        samples.append(weakref.ref(utterance.samples))
        return submit(self, utterance)

    monkeypatch.setattr(Engine, "submit", submitted)
    events = plus.events([TALK], RATE_HZ, options=TranscribeOptions(**SPEAKERS, batch_size=1))
    for _ in range(3):
        next(events)
    gc.collect()
    assert [one() is not None for one in samples][:1] == [False]
    events.close()


def test_a_resumed_run_continues_the_window_that_its_journal_has(
    plus: Transcriber, script: list[str], prompts: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "GROUP", 1)
    soundfile.write(tmp_path / "talk.wav", TALK, RATE_HZ, subtype="FLOAT")
    options = TranscribeOptions(**SPEAKERS, batch_size=1)
    script += REPLIES
    with Journal(tmp_path / "journal.jsonl") as journal:
        events = plus.events([tmp_path / "talk.wav"], options=options, journal=journal)
        next(events)
        next(events)
        events.close()
    n_begun = len(prompts)
    script[:] = REPLIES[1:]
    with Journal(tmp_path / "journal.jsonl") as journal:
        *_, done = plus.events([tmp_path / "talk.wav"], options=options, journal=journal)
    given = [text for text, _ in prefixes(plus, prompts[n_begun:])]
    assert given == [REPLIES[0], "[Speaker 2]: ef [Speaker 3]: gh"]
    assert isinstance(done, RecordingDone)
    assert isinstance(done.result, Transcript)
    assert speakers(done.result) == [("1", "ab"), ("2", "cd ef"), ("3", "gh"), ("1", "ij")]


def test_text_of_turns_is_read_again() -> None:
    turns = (Turn(None, "so"), Turn("2", "ab cd"), Turn("1", "ef"))
    assert tagged_text(turns) == "so [Speaker 2]: ab cd [Speaker 1]: ef"
    assert parse_turns(tagged_text(turns)).turns == turns
    assert parse_turns("so [Speaker 1]: it", "3").turns == (Turn("3", "so"), Turn("1", "it"))
    segments = (Segment("ab", 0, 1, speaker="1"), Segment("cd", 4, 5, speaker="1"), Segment("ef", 5, 6, speaker="2"))
    assert merged_turns(segments) == (Turn("1", "ab cd"), Turn("2", "ef"))


# --- linking by voice


class TwoVoices:
    """Of three tones, the first and the last are one voice."""

    name = "two voices"

    def start(self, recording: str | None, start_s: float, count: SpeakerCount) -> TwoVoices:
        self.starts: list[float] = []
        return self

    def push(self, start: int, samples: np.ndarray) -> None:
        self.starts.append(start / RATE_HZ)

    def turns(self, duration_s: float) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
        voices = (("low", 6.0), ("high", 16.0), ("low", 26.0))
        return tuple(Segment("", start_s, start_s + 4.0, speaker=voice) for voice, start_s in voices), ()


def test_speakers_keep_their_numbers_by_voice(plus: Transcriber, script: list[str], tmp_path: Path) -> None:
    replies = ["[Speaker 1]: ab[cut]", "[Speaker 1]: cd[cut]", "[Speaker 1]: ef"]
    linking = Transcriber(plus.checkpoint, detector=by_loudness(), diarizer=TwoVoices())
    script += replies
    plain = plus.transcribe(TALK, RATE_HZ, max_new_tokens=1000, **SPEAKERS)
    assert speakers(plain) == [("1", "ab cd ef")]
    assert [w.code for w in plain.warnings].count("renumbered") == 2
    path = tmp_path / "talk.wav"
    soundfile.write(path, TALK, RATE_HZ, subtype="FLOAT")
    script += replies
    with Journal(tmp_path / "journal") as journal:
        [(_, found)] = linking.transcribe_many([path], max_new_tokens=1000, diarize=True, journal=journal, **SPEAKERS)
    assert isinstance(found, Transcript)
    assert speakers(found) == [("1", "ab"), ("2", "cd"), ("1", "ef")]
    assert [word.speaker for word in found.words] == ["1", "2", "1"]
    assert "renumbered" not in [w.code for w in found.warnings]
    with Journal(tmp_path / "journal") as journal:
        [(_, again)] = linking.transcribe_many([path], max_new_tokens=1000, diarize=True, journal=journal, **SPEAKERS)
    assert again == found


def test_voices_are_those_of_the_recording_not_of_the_joined_windows(plus: Transcriber, script: list[str]) -> None:
    voices = TwoVoices()
    script += ["[Speaker 1]: ab", "cd"]
    talk = np.concatenate([tone(1.5), silence(8.0), tone(1.5, frequency_hz=500), silence(8.0), tone(4.0)])
    Transcriber(plus.checkpoint, detector=by_loudness(), diarizer=voices).transcribe(
        talk, RATE_HZ, diarize=True, **SPEAKERS
    )
    assert voices.starts == pytest.approx([0.0, 9.1, 18.6], abs=0.1)
