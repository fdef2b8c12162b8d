"""Manifests through a transcriber, and hypotheses of others: what is scored, kept, and taken up again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lithophone.checkpoint import Checkpoint
from lithophone.data.manifest import Entry
from lithophone.errors import ManifestError, OptionError
from lithophone.evaluation import evaluate
from lithophone.evaluation.hypotheses import Hypothesis, read_hypotheses
from lithophone.evaluation.run import from_hypotheses, run_model
from lithophone.evaluation.saved import Answer, SavedAnswers
from lithophone.evaluation.sound import clip_samples, snr_db
from lithophone.metrics.counts import ErrorCounts
from lithophone.pipeline.encoding import EncodedBatch
from lithophone.pipeline.engine import Engine, Pending
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.sources import AudioSource
from lithophone.pipeline.transcriber import Transcriber
from lithophone.pipeline.utterance import Utterance
from lithophone.transcript import Segment, Word
from tests.sounds import silence, tone

pytestmark = pytest.mark.usefixtures("tones_are_speech")
OPTIONS = TranscribeOptions(max_new_tokens=4)
ROWS = (("a", "en", "red stone"), ("a", "fr", "un deux"), ("b", "ja", "今日は"), ("a", "en", "sings"))


@pytest.fixture
def clips(tmp_path: Path) -> list[Entry]:
    """Four clips of two corpora in three languages."""
    found = []
    for i, (corpus, lang, text) in enumerate(ROWS):
        soundfile.write(tmp_path / f"{i}.wav", tone(0.5 + 0.1 * i), 16_000)
        found.append(Entry(tmp_path / f"{i}.wav", text, lang, 0.5 + 0.1 * i, corpus, name=f"{i}.wav"))
    return found


def test_scores_by_corpus_and_language(tiny: Transcriber, clips: list[Entry]) -> None:
    evaluation = evaluate(tiny, clips, OPTIONS)
    assert [(s.corpus, s.lang, s.measure, s.clips) for s in evaluation.scores] == [
        ("a", "en", "WER", 2), ("a", "fr", "WER", 1), ("b", "ja", "CER", 1),
    ]  # fmt: skip
    assert [s.counts.reference_length for s in evaluation.scores] == [3, 2, 3]
    assert evaluation.audio_s == pytest.approx(2.6)
    assert evaluation.processing_s is not None
    assert evaluation.rtfx == pytest.approx(2.6 / evaluation.processing_s)
    assert evaluation.failed == 0


def test_a_failed_clip_counts_as_empty(tiny: Transcriber, clips: list[Entry], caplog: pytest.LogCaptureFixture) -> None:
    clips[0].audio.write_bytes(b"broken")
    system = run_model("x", tiny, clips[:2], OPTIONS)
    assert system.clips[0].tally.counts == ErrorCounts(deletions=2)
    assert system.without_hypothesis == ("0.wav",)
    assert system.clips[0].tally.audio_s == 0.5
    assert "counted as empty" in caplog.text


def test_two_clips_of_one_name_are_refused(tiny: Transcriber, clips: list[Entry]) -> None:
    with pytest.raises(ManifestError, match="twice"):
        run_model("x", tiny, [clips[0], clips[0]], OPTIONS)


def test_a_run_goes_on_where_it_was(
    tiny: Transcriber, clips: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = SavedAnswers(tmp_path / "deep" / "saved.jsonl", "tiny")
    whole = run_model("x", tiny, clips, OPTIONS)
    run_model("x", tiny, clips[:2], OPTIONS, saved=saved)
    with saved.path.open("a") as file:
        file.write('{"audio": "2.wa')  # the run was stopped here
    asked: list[Path] = []
    events = Transcriber.events

    def spied(self: Transcriber, sources: list[AudioSource], **options: object) -> object:
        asked.extend(source.file for source in sources)
        return events(self, sources, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Transcriber, "events", spied)
    resumed = run_model("x", tiny, clips, OPTIONS, saved=saved)
    assert asked == [clip.audio for clip in clips[2:]]
    assert resumed.clips == whole.clips
    assert sorted(read_hypotheses(saved.path)) == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert from_hypotheses("x", clips, read_hypotheses(saved.path)).clips == resumed.clips


def test_a_replaced_recording_is_transcribed_again(tiny: Transcriber, clips: list[Entry], tmp_path: Path) -> None:
    """Faults, F16: its saved answer is of the samples of before."""
    saved = SavedAnswers(tmp_path / "saved.jsonl", "tiny")
    run_model("x", tiny, clips, OPTIONS, saved=saved)
    before = saved.read()
    soundfile.write(clips[1].audio, tone(2.5, frequency_hz=900), 16_000)
    run_model("x", tiny, clips, OPTIONS, saved=saved)
    after = saved.read()
    assert (before["1.wav"].audio_s, after["1.wav"].audio_s) == (0.6, 2.5)
    assert [after[name] == before[name] for name in ("0.wav", "1.wav", "2.wav", "3.wav")] == [True, False, True, True]
    assert sorted(read_hypotheses(saved.path)) == ["0.wav", "1.wav", "2.wav", "3.wav"]


def test_another_stretch_and_another_folder_of_one_name_are_transcribed_again(
    tiny: Transcriber, clips: list[Entry], tmp_path: Path
) -> None:
    saved = SavedAnswers(tmp_path / "saved.jsonl", "tiny")
    run_model("x", tiny, clips[:2], OPTIONS, saved=saved)
    stretch = replace(clips[0], start_s=0.1, end_s=0.4)
    soundfile.write(tmp_path / "elsewhere.wav", tone(1.75), 16_000)
    elsewhere = replace(clips[1], audio=tmp_path / "elsewhere.wav")
    run_model("x", tiny, [stretch, elsewhere], OPTIONS, saved=saved)
    assert [saved.read()[name].audio_s for name in ("0.wav", "1.wav")] == pytest.approx([0.3, 1.75])


def test_answers_without_a_state_and_of_files_out_of_reach_are_kept(clips: list[Entry], tmp_path: Path) -> None:
    saved = SavedAnswers(tmp_path / "saved.jsonl", "tiny")
    saved.append(Answer(Hypothesis(clips[0].id, "of an older version"), 0.5, 2.0))
    saved.append(Answer(Hypothesis(clips[1].id, "moved since"), 0.5, 2.0, clips[1].state))
    moved = replace(clips[1], audio=tmp_path / "nowhere.wav")
    assert set(saved.of([clips[0], moved])) == {clips[0].id, clips[1].id}


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    words = (Word("red", 0.0, 0.5), Word("stone", 0.5, 1.0, speaker="1"))
    hypothesis = Hypothesis("a", "red stöne", words, (Segment("red", 0.0, 0.5, speaker="1"),))
    saved = SavedAnswers(tmp_path / "saved.jsonl", "tiny")
    assert saved.read() == {}
    saved.append(Answer(hypothesis, 0.25, 1.5))
    assert saved.read() == {"a": Answer(hypothesis, 0.25, 1.5)}
    assert read_hypotheses(saved.path)["a"] == hypothesis


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    SavedAnswers(tmp_path / "saved.jsonl", "tiny").append(Answer(Hypothesis("a", "red"), 0.1, 1.0))
    with pytest.raises(OptionError, match="was made by 'tiny', this run is 'large'"):
        SavedAnswers(tmp_path / "saved.jsonl", "large").read()
    (tmp_path / "other.jsonl").write_text('{"audio": "a", "hyp": "red"}\n')
    with pytest.raises(ManifestError, match="line 1: not a line that was saved"):
        SavedAnswers(tmp_path / "other.jsonl", "tiny").read()


def test_words_are_timed_where_the_references_are(tiny: Transcriber, clips: list[Entry]) -> None:
    timed = [replace(clips[0], words=(Word("red", 0.0, 0.2), Word("stone", 0.2, 0.5)))]
    times = run_model("x", tiny, timed, OPTIONS).clips[0].tally.times
    assert (times.outputs, times.malformed) == (1, 1)  # a random model's words do not fit what it spells
    assert run_model("x", tiny, clips[:1], OPTIONS).clips[0].tally.times.outputs == 0


def test_keywords_of_a_clip_reach_its_prompt(
    tiny: Transcriber, clips: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [replace(clip, keywords=(("Ada",), ("Ada",), ("Eve", "Max"))[i]) for i, clip in enumerate(clips[:3])]
    prompts: list[str] = []
    submit = Engine.submit

    def spied(self: Engine, utterance: Utterance) -> Pending:
        prompts.append(self.checkpoint.tokenizer.decode(utterance.request.behind))
        return submit(self, utterance)

    monkeypatch.setattr(Engine, "submit", spied)
    run_model("x", tiny, listed, OPTIONS, biased=True)
    assert [prompt.rpartition("Keywords: ")[2].split("\n")[0] for prompt in prompts] == ["Ada", "Ada", "Eve, Max"]
    prompts.clear()
    run_model("x", tiny, listed, OPTIONS)
    assert not any("Keywords" in prompt for prompt in prompts)


def test_clips_of_different_keywords_share_a_batch(
    tiny: Transcriber, clips: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [replace(clip, keywords=(f"name{i}",)) for i, clip in enumerate(clips)]
    sizes: list[int] = []

    class Spied(EncodedBatch):
        def __init__(self, checkpoint: Checkpoint, utterances: Sequence[Utterance]) -> None:
            sizes.append(len(utterances))
            super().__init__(checkpoint, utterances)

    monkeypatch.setattr("lithophone.pipeline.engine.EncodedBatch", Spied)
    together = run_model("x", tiny, listed, OPTIONS, biased=True)
    assert max(sizes) > 1
    alone = [run_model("x", tiny, [clip], OPTIONS, biased=True).clips[0].text for clip in listed]
    assert [clip.text for clip in together.clips] == alone


def test_keywords_that_no_decoder_takes_are_an_error(tiny: Transcriber, clips: list[Entry]) -> None:
    listed = [replace(clip, keywords=("a, b",)) for clip in clips]
    with pytest.raises(OptionError, match="comma"):
        run_model("x", tiny, listed, OPTIONS, biased=True)


def test_single_clips_have_latencies(tiny: Transcriber, clips: list[Entry]) -> None:
    alone = run_model("x", tiny, clips[:2], replace(OPTIONS, batch_size=1))
    assert alone.latency is not None
    assert 0 < alone.latency.p50_s <= alone.latency.p99_s
    assert run_model("x", tiny, clips[:2], OPTIONS).latency is None


def test_hypotheses_and_references_that_do_not_match_are_listed(clips: list[Entry]) -> None:
    heard = {name: Hypothesis(name, "red stone") for name in ("0.wav", "9.wav")}
    system = from_hypotheses("x", clips, heard)
    assert system.without_hypothesis == ("1.wav", "2.wav", "3.wav")
    assert system.without_reference == ("9.wav",)
    assert system.clips[0].tally.counts == ErrorCounts(hits=2)
    with pytest.raises(OptionError, match=r"none of the 1 hypotheses of x \(9.wav\) belongs to one of the 4 clips"):
        from_hypotheses("x", clips, {"9.wav": heard["9.wav"]})


def test_processes_count_what_one_counts(clips: list[Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    heard = {clip.name: Hypothesis(clip.name, "red stones") for clip in clips}
    alone = from_hypotheses("x", clips, heard)
    monkeypatch.setattr("lithophone.evaluation.run.WORTH_A_PROCESS", 1)
    monkeypatch.setattr("lithophone.evaluation.run.PART", 1)
    assert from_hypotheses("x", clips, heard, workers=2) == alone


def test_a_stretch_of_a_recording_is_a_clip(tiny: Transcriber, tmp_path: Path) -> None:
    sound = np.concatenate([tone(1.0), silence(0.5), tone(0.7, frequency_hz=300)])
    for name in ("long.wav", "long.flac"):
        soundfile.write(tmp_path / name, sound, 16_000)
        second = Entry(tmp_path / name, "red", "en", None, name=name, start_s=1.5, end_s=2.2)
        assert clip_samples(second) == pytest.approx(tone(0.7, frequency_hz=300), abs=1e-3)
        assert run_model("x", tiny, [second], OPTIONS).clips[0].tally.audio_s == pytest.approx(0.7)


def test_a_stretch_beyond_the_recording_fails_alone(tiny: Transcriber, clips: list[Entry]) -> None:
    beyond = replace(clips[0], start_s=9.0, end_s=10.0)
    system = run_model("x", tiny, [beyond, clips[1]], OPTIONS)
    assert system.without_hypothesis == ("0.wav",)


def test_noise_lowers_the_estimated_snr() -> None:
    noise = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    speech = np.concatenate([tone(1.0), silence(1.0)])
    values = [snr_db((speech + gain * noise).astype(np.float32)) for gain in (0.0, 0.001, 0.01, 0.1)]
    assert values[0] == 60
    assert values == sorted(values, key=lambda v: -(v or 0))
    power = float(np.mean(tone(1.0).astype(np.float64) ** 2))
    assert values[2] == pytest.approx(10 * np.log10(power / 1e-4), abs=1.5)
    assert snr_db(tone(0.3)) is None
    assert snr_db(silence(1.0)) is None


def test_scoring_needs_no_torch() -> None:
    code = (
        "import sys, lithophone.evaluation, lithophone.evaluation.report, lithophone.evaluation.tables\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_saved_line_tells_all_that_is_needed(tmp_path: Path) -> None:
    saved = SavedAnswers(tmp_path / "saved.jsonl", "tiny")
    saved.append(Answer(Hypothesis("a", "今日"), 0.5, 2.0))
    line = saved.path.read_text(encoding="utf-8")
    assert json.loads(line) == {"audio": "a", "hyp": "今日", "seconds": 0.5, "duration": 2.0, "made_by": "tiny"}
    assert "今日" in line
