"""Batches: a pure function of seed and step, shapes, texts and teacher states that belong to the samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lithophone.audio.features import RATE_HZ, frame_count, log_mel_frames
from lithophone.data.manifest import read_entries
from lithophone.train.data.augment import Augment
from lithophone.train.data.batches import MixtureOptions, MixtureSource, SpeechMixture
from lithophone.train.data.clips import DecodedCorpus, TeacherStates


def write_corpus(folder: Path, seconds: list[float]) -> Path:
    rows = []
    for i, length in enumerate(seconds):
        tone = 0.3 * np.sin(np.arange(int(length * RATE_HZ)) * (0.05 + 0.02 * i))
        soundfile.write(folder / f"{i}.wav", tone, RATE_HZ, subtype="FLOAT")
        rows.append({"audio": f"{i}.wav", "text": f"clip {i}", "lang": "en", "speaker": "s"})
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def corpus_of(folder: Path, seconds: list[float]) -> DecodedCorpus:
    return DecodedCorpus(read_entries(write_corpus(folder, seconds)), folder / "cache")


def mixture(source: MixtureSource, **changes: object) -> SpeechMixture:
    options = {"seconds": 8.0, "row_frames": (100, 200), "augment": Augment(), "seed": 3} | changes
    return SpeechMixture([source], MixtureOptions(**options))  # type: ignore[arg-type]


def test_a_batch_is_a_function_of_seed_and_step(tmp_path: Path) -> None:
    source = MixtureSource(corpus_of(tmp_path, [0.4, 0.7, 1.1]), 1.0)
    once, again = mixture(source).batch(5), mixture(source).batch(5)
    assert torch.equal(once.frames, again.frames)
    assert once.texts == again.texts
    assert not torch.equal(once.frames, mixture(source, seed=4).batch(5).frames)


def test_a_resumed_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    source = MixtureSource(corpus_of(tmp_path, [0.4, 0.7, 1.1]), 1.0)
    stream = iter(mixture(source))
    batches = [next(stream) for _ in range(4)]
    resumed = next(iter(mixture(source, start=3)))
    assert torch.equal(resumed.frames, batches[3].frames)


def test_ranks_see_different_batches(tmp_path: Path) -> None:
    source = MixtureSource(corpus_of(tmp_path, [0.4, 0.7, 1.1]), 1.0)
    ranks = [mixture(source, rank=rank, world=2).batch(0) for rank in (0, 1)]
    assert not torch.equal(ranks[0].frames, ranks[1].frames)


def test_rows_have_the_lengths_asked_for(tmp_path: Path) -> None:
    source = MixtureSource(corpus_of(tmp_path, [0.3, 0.4, 0.6]), 1.0)
    batches = [mixture(source).batch(step) for step in range(12)]
    assert {batch.frames.shape[:2] for batch in batches} == {(4, 100), (2, 200)} or {
        batch.frames.shape[1] for batch in batches
    } == {100, 200}
    assert all(0 < n <= batch.frames.shape[1] for batch in batches for n in batch.lengths.tolist())


def test_texts_are_those_of_the_samples(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [0.4, 0.7, 1.1])
    batch = mixture(MixtureSource(corpus, 1.0), augment=Augment.none()).batch(0)
    clips = {clip.text: clip for clip in corpus.clips}
    for frames, length, text in zip(batch.frames, batch.lengths.tolist(), batch.texts, strict=True):
        names = [f"clip {i}" for i in text.split()[1::2]]
        parts = [corpus.samples(clips[name]) for name in names]
        joined = np.concatenate([part[: len(part) // 320 * 320] for part in parts])
        torch.testing.assert_close(frames[:length], log_mel_frames(torch.from_numpy(joined)))


@pytest.mark.parametrize("speed", [1.0, 0.9])
def test_teacher_states_follow_their_samples(tmp_path: Path, speed: float) -> None:
    """The teacher says the time in seconds: at any speed the state of a frame must be the time it was taken from."""
    corpus = corpus_of(tmp_path, [1.0, 1.0])
    counts = [frame_count(clip.length) for clip in corpus.clips]
    states = np.concatenate([np.arange(n)[:, None] * 0.02 + np.zeros((n, 3)) for n in counts]).astype(np.float16)
    np.save(tmp_path / "teacher.npy", states)
    index = {clip.name: [sum(counts[:i]), counts[i]] for i, clip in enumerate(corpus.clips)}
    (tmp_path / "teacher.json").write_text(json.dumps(index))
    source = MixtureSource(corpus, 1.0, TeacherStates(tmp_path / "teacher"), joins=1)
    plain = mixture(source, augment=Augment(0.0 if speed == 1 else 1.0, (speed, speed), 0, noise_p=0, gain_db=(0, 0)))
    batch = plain.batch(0)
    assert batch.teacher is not None
    assert batch.teacher_valid is not None
    mean, deviation = plain.teacher_scale
    seconds = batch.teacher[0].numpy() * deviation + mean
    heard = np.arange(int(batch.lengths[0])) * 0.02 * speed
    np.testing.assert_allclose(seconds[: len(heard), 0], heard, atol=0.03)
    assert batch.teacher_valid[0].sum() == batch.lengths[0]


def test_rows_are_filled_and_a_clip_that_is_too_long_for_them_stays_away(tmp_path: Path) -> None:
    (tmp_path / "short").mkdir()
    (tmp_path / "long").mkdir()
    short = MixtureSource(corpus_of(tmp_path / "short", [0.3, 0.7, 1.1, 1.9]), 1.0)
    long = MixtureSource(corpus_of(tmp_path / "long", [3.0]), 0.25)
    stream = SpeechMixture([short, long], MixtureOptions(8.0, (100,), Augment.none(), seed=3))
    batches = [stream.batch(step) for step in range(20)]
    assert sum(batch.frames.shape[1] == 100 for batch in batches) >= 19
    lengths = torch.cat([batch.lengths for batch in batches])
    assert lengths.float().mean() > 95


def test_a_clip_that_the_teacher_did_not_hear_leaves_the_others_theirs(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [1.0, 1.0])
    heard = corpus.clips[0]
    np.save(tmp_path / "teacher.npy", np.random.default_rng(0).normal(size=(50, 3)).astype(np.float16))
    (tmp_path / "teacher.json").write_text(json.dumps({heard.name: [0, 50]}))
    batch = mixture(
        MixtureSource(corpus, 1.0, TeacherStates(tmp_path / "teacher"), joins=2), augment=Augment.none()
    ).batch(0)
    assert batch.teacher is not None
    assert batch.teacher_valid is not None
    assert batch.teacher.isfinite().all()
    both = [row for row, text in enumerate(batch.texts) if {"0", "1"} <= set(text.split())]
    for row in both:
        assert batch.teacher_valid[row].sum() == 50
        assert batch.lengths[row] == 100
        assert batch.teacher[row][~batch.teacher_valid[row]].abs().sum() == 0
    assert both


def write_row(folder: Path, **values: object) -> Path:
    write_corpus(folder, [2.0])
    row = {"audio": "0.wav", "text": "one", "lang": "en"} | values
    (folder / "manifest.jsonl").write_text(json.dumps(row))
    return folder / "manifest.jsonl"


def test_a_stretch_of_a_recording_is_all_that_is_heard(tmp_path: Path) -> None:
    path = write_row(tmp_path, start=0.5, end=1.25)
    corpus = DecodedCorpus(read_entries(path), tmp_path / "cache")
    whole, _ = soundfile.read(tmp_path / "0.wav", dtype="float32")
    np.testing.assert_allclose(corpus.samples(corpus.clips[0]), whole[8_000:20_000], atol=1e-4)
    write_row(tmp_path, start=1.0, end=1.25)
    assert DecodedCorpus(read_entries(path), tmp_path / "cache").clips[0].length == 4_000


def test_translations_of_all_clips_are_those_of_the_row(tmp_path: Path) -> None:
    write_corpus(tmp_path, [0.5, 0.5])
    rows = [
        {"audio": "0.wav", "text": "one", "lang": "en", "translations": {"fr": "un", "de": "eins", "ja": "一。"}},
        {"audio": "1.wav", "text": "two", "lang": "en", "translations": {"fr": "deux", "ja": "二。"}},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = MixtureSource(DecodedCorpus(read_entries(tmp_path / "manifest.jsonl"), tmp_path / "cache"), 1.0)
    found = {
        (text, *sorted(meanings.items()))
        for step in range(40)
        for batch in [mixture(source, row_frames=(50,), seconds=2.0).batch(step)]
        for text, meanings in ((source.text, source.translations) for source in batch.sources)
    }
    assert ("one two", ("fr", "un deux"), ("ja", "一。二。")) in found
    assert ("one one", ("de", "eins eins"), ("fr", "un un"), ("ja", "一。一。")) in found


def test_japanese_sentences_are_joined_without_a_space(tmp_path: Path) -> None:
    corpus = DecodedCorpus(
        read_entries(write_row(tmp_path, text="一。", lang="ja", end=0.4, start=0.0)), tmp_path / "cache"
    )
    batch = mixture(MixtureSource(corpus, 1.0), row_frames=(50,), seconds=1.0, augment=Augment.none()).batch(0)
    assert set(batch.texts) == {"一。一。"}


def test_babble_is_made_of_the_clips_at_the_ratio_asked_for(tmp_path: Path) -> None:
    source = MixtureSource(corpus_of(tmp_path, [0.5, 0.8, 1.0]), 1.0)
    quiet = replace(Augment.none(), babble_p=0.0)
    loud = replace(quiet, babble_p=1.0, babble_snr_db=(0.0, 0.0))
    babble = mixture(source, augment=loud)._babble(16_000, np.random.default_rng(1))
    assert babble.shape == (16_000,)
    assert float(np.mean(babble**2)) + 1.0 >= 3.0
    clean, noisy = (mixture(source, augment=a, row_frames=(100,)).batch(3).frames for a in (quiet, loud))
    assert clean.shape == noisy.shape
    assert not torch.allclose(clean, noisy, atol=0.05)
