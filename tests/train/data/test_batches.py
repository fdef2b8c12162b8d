"""Batches: a pure function of seed and step, shapes, texts and teacher states that belong to the samples."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lithophone.audio.features import RATE_HZ, frame_count, log_mel_frames
from lithophone.audio.reader import load_audio
from lithophone.data.manifest import read_entries
from lithophone.train.data import batches as data
from lithophone.train.data.augment import Augment
from lithophone.train.data.batches import Corpus, Mixture, Source, Teacher


def write_corpus(folder: Path, seconds: list[float]) -> Path:
    rows = []
    for i, length in enumerate(seconds):
        tone = 0.3 * np.sin(np.arange(int(length * RATE_HZ)) * (0.05 + 0.02 * i))
        soundfile.write(folder / f"{i}.wav", tone, RATE_HZ, subtype="FLOAT")
        rows.append({"audio": f"{i}.wav", "text": f"clip {i}", "lang": "en", "speaker": "s"})
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def corpus_of(folder: Path, seconds: list[float]) -> Corpus:
    return Corpus(read_entries(write_corpus(folder, seconds)), folder / "cache")


def mixture(source: Source, **changes: object) -> Mixture:
    options = {"seconds": 8.0, "row_frames": (100, 200), "augment": Augment(), "seed": 3} | changes
    return Mixture([source], **options)  # type: ignore[arg-type]


def test_samples_are_decoded_once_and_kept(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [0.5, 1.0])
    assert corpus.hours == pytest.approx(1.5 / 3600)
    (tmp_path / "0.wav").write_bytes(b"gone")
    again = Corpus(read_entries(tmp_path / "manifest.jsonl"), tmp_path / "cache")
    np.testing.assert_array_equal(again.samples(again.clips[1]), corpus.samples(corpus.clips[1]))
    wanted, _ = soundfile.read(tmp_path / "1.wav", dtype="float32")
    np.testing.assert_allclose(corpus.samples(corpus.clips[1]), wanted, atol=1e-4)


def test_processes_that_decode_at_once_each_find_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is in the middle of its work when another begins, and ends, the same."""
    entries, cache = read_entries(write_corpus(tmp_path, [0.5, 1.0])), tmp_path / "cache"
    others: list[Corpus] = []

    def load_late(path: Path) -> object:
        if path.name == "1.wav" and not others:
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr(os, "getpid", lambda: -1)
                elsewhere.setattr(data, "load_audio", load_audio)
                others.append(Corpus(entries, cache))
        return load_audio(path)

    monkeypatch.setattr(data, "load_audio", load_late)
    one, (other,) = Corpus(entries, cache), others
    for corpus in (one, other):
        wanted = [load_audio(tmp_path / clip.name) for clip in corpus.clips]
        found = [corpus.samples(clip) for clip in corpus.clips]
        for samples, exact in zip(found, wanted, strict=True):
            np.testing.assert_allclose(samples, exact, atol=1e-4)
    assert not list(cache.glob("*.part"))


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_corpus(tmp_path, [0.5, 0.5])
    (tmp_path / "0.wav").write_text("no sound")
    corpus = Corpus(read_entries(path), tmp_path / "cache")
    assert [clip.name for clip in corpus.clips] == ["1.wav"]
    assert "0.wav" in caplog.text


def test_a_batch_is_a_function_of_seed_and_step(tmp_path: Path) -> None:
    source = Source(corpus_of(tmp_path, [0.4, 0.7, 1.1]), 1.0)
    once, again = mixture(source).batch(5), mixture(source).batch(5)
    assert torch.equal(once.frames, again.frames)
    assert once.texts == again.texts
    assert not torch.equal(once.frames, mixture(source, seed=4).batch(5).frames)


def test_a_resumed_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    source = Source(corpus_of(tmp_path, [0.4, 0.7, 1.1]), 1.0)
    stream = iter(mixture(source))
    batches = [next(stream) for _ in range(4)]
    resumed = next(iter(mixture(source, start=3)))
    assert torch.equal(resumed.frames, batches[3].frames)


def test_ranks_see_different_batches(tmp_path: Path) -> None:
    source = Source(corpus_of(tmp_path, [0.4, 0.7, 1.1]), 1.0)
    ranks = [mixture(source, rank=rank, world=2).batch(0) for rank in (0, 1)]
    assert not torch.equal(ranks[0].frames, ranks[1].frames)


def test_rows_have_the_lengths_asked_for(tmp_path: Path) -> None:
    source = Source(corpus_of(tmp_path, [0.3, 0.4, 0.6]), 1.0)
    batches = [mixture(source).batch(step) for step in range(12)]
    assert {batch.frames.shape[:2] for batch in batches} == {(4, 100), (2, 200)} or {
        batch.frames.shape[1] for batch in batches
    } == {100, 200}
    assert all(0 < n <= batch.frames.shape[1] for batch in batches for n in batch.lengths.tolist())


def test_texts_are_those_of_the_samples(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [0.4, 0.7, 1.1])
    batch = mixture(Source(corpus, 1.0), augment=Augment.none()).batch(0)
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
    source = Source(corpus, 1.0, Teacher(tmp_path / "teacher"), joins=1)
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
    short = Source(corpus_of(tmp_path / "short", [0.3, 0.7, 1.1, 1.9]), 1.0)
    long = Source(corpus_of(tmp_path / "long", [3.0]), 0.25)
    stream = Mixture([short, long], seconds=8.0, row_frames=(100,), augment=Augment.none(), seed=3)
    batches = [stream.batch(step) for step in range(20)]
    assert sum(batch.frames.shape[1] == 100 for batch in batches) >= 19
    lengths = torch.cat([batch.lengths for batch in batches])
    assert lengths.float().mean() > 95


def test_a_clip_that_the_teacher_did_not_hear_leaves_the_others_theirs(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [1.0, 1.0])
    heard = corpus.clips[0]
    np.save(tmp_path / "teacher.npy", np.random.default_rng(0).normal(size=(50, 3)).astype(np.float16))
    (tmp_path / "teacher.json").write_text(json.dumps({heard.name: [0, 50]}))
    batch = mixture(Source(corpus, 1.0, Teacher(tmp_path / "teacher"), joins=2), augment=Augment.none()).batch(0)
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
    corpus = Corpus(read_entries(path), tmp_path / "cache")
    whole, _ = soundfile.read(tmp_path / "0.wav", dtype="float32")
    np.testing.assert_allclose(corpus.samples(corpus.clips[0]), whole[8_000:20_000], atol=1e-4)
    write_row(tmp_path, start=1.0, end=1.25)
    assert Corpus(read_entries(path), tmp_path / "cache").clips[0].length == 4_000


def test_translations_of_all_clips_are_those_of_the_row(tmp_path: Path) -> None:
    write_corpus(tmp_path, [0.5, 0.5])
    rows = [
        {"audio": "0.wav", "text": "one", "lang": "en", "translations": {"fr": "un", "de": "eins", "ja": "一。"}},
        {"audio": "1.wav", "text": "two", "lang": "en", "translations": {"fr": "deux", "ja": "二。"}},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = Source(Corpus(read_entries(tmp_path / "manifest.jsonl"), tmp_path / "cache"), 1.0)
    found = {
        (text, *sorted(meanings.items()))
        for step in range(40)
        for batch in [mixture(source, row_frames=(50,), seconds=2.0).batch(step)]
        for text, meanings in zip(batch.texts, batch.translations, strict=True)
    }
    assert ("one two", ("fr", "un deux"), ("ja", "一。二。")) in found
    assert ("one one", ("de", "eins eins"), ("fr", "un un"), ("ja", "一。一。")) in found


def test_japanese_sentences_are_joined_without_a_space(tmp_path: Path) -> None:
    corpus = Corpus(read_entries(write_row(tmp_path, text="一。", lang="ja", end=0.4, start=0.0)), tmp_path / "cache")
    batch = mixture(Source(corpus, 1.0), row_frames=(50,), seconds=1.0, augment=Augment.none()).batch(0)
    assert set(batch.texts) == {"一。一。"}


def test_babble_is_made_of_the_clips_at_the_ratio_asked_for(tmp_path: Path) -> None:
    source = Source(corpus_of(tmp_path, [0.5, 0.8, 1.0]), 1.0)
    quiet = replace(Augment.none(), babble_p=0.0)
    loud = replace(quiet, babble_p=1.0, babble_snr_db=(0.0, 0.0))
    babble = mixture(source, augment=loud)._babble(16_000, np.random.default_rng(1))
    assert babble.shape == (16_000,)
    assert float(np.mean(babble**2)) + 1.0 >= 3.0
    clean, noisy = (mixture(source, augment=a, row_frames=(100,)).batch(3).frames for a in (quiet, loud))
    assert clean.shape == noisy.shape
    assert not torch.allclose(clean, noisy, atol=0.05)
