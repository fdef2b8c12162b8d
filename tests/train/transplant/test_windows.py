"""Rows tile the teacher's windows: the same audio, clean for the teacher, augmented for the student."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lithophone.audio.features import log_mel_frames
from lithophone.errors import OptionError
from lithophone.train.data.augment import Augment
from lithophone.train.data.batches import MixtureOptions, MixtureSource
from lithophone.train.data.corpora import as_sources, read_parts
from lithophone.train.transplant.whisper import WINDOW_FRAMES, WINDOW_SAMPLES
from lithophone.train.transplant.windows import Windows
from tests.recipes.spoken import SENTENCES, write_songs

CLEAN = MixtureOptions(30.0, (500,), Augment.none(), seed=1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[MixtureSource]:
    folder = tmp_path_factory.mktemp("songs")
    write_songs(folder, [{"text": text, "lang": "en"} for text in SENTENCES])
    return as_sources(read_parts(str(folder / "manifest.jsonl"), 30.0, folder / "cache"), 0.6)


@pytest.mark.parametrize("size", [250, 1500])
def test_rows_tile_the_windows_in_order(sources: list[MixtureSource], size: int) -> None:
    batch = Windows(sources, replace(CLEAN, seconds=60.0, row_frames=(size,))).batch(3)
    assert batch.clean.shape == (2, WINDOW_SAMPLES)
    assert batch.frames.shape == (2 * WINDOW_FRAMES // size, size, 160)
    for row, samples in enumerate(batch.clean.view(len(batch.frames), -1)):
        length = int(batch.lengths[row])
        inner = slice(0, length - 3)  # the zeros behind a row reach into its last frames
        torch.testing.assert_close(batch.frames[row, inner], log_mel_frames(samples)[inner], rtol=0, atol=1e-4)
        assert not samples[length * 320 :].any()
        assert not batch.frames[row, length:].any()
    assert batch.seconds == pytest.approx(float(batch.valid.sum()) / 50)
    assert all(set(text.split()) <= set(" ".join(SENTENCES).split()) for text in batch.texts)
    assert batch.langs == ["en"] * len(batch.frames)


def test_augmentation_is_for_the_student_only(sources: list[MixtureSource]) -> None:
    noise = Augment(speed_p=0.0, noise_p=1.0, noise_snr_db=(0.0, 1.0))
    clean, noisy = (Windows(sources, replace(CLEAN, augment=augment)).batch(0) for augment in (CLEAN.augment, noise))
    assert (clean.frames - noisy.frames).abs().mean() > 0.05
    peaks = [float(batch.clean.abs().max()) for batch in (clean, noisy)]
    assert peaks[0] == pytest.approx(peaks[1], abs=0.01)


def test_a_batch_is_a_function_of_seed_step_and_rank(sources: list[MixtureSource]) -> None:
    options = replace(CLEAN, augment=Augment(), seed=4, world=2)
    first, again = Windows(sources, options), Windows(sources, replace(options, start=5))
    for batch in (again.batch(5), next(iter(again))):
        assert torch.equal(first.batch(5).clean, batch.clean)
        assert torch.equal(first.batch(5).frames, batch.frames)
    for changed in (replace(options, rank=1), replace(options, seed=5)):
        other = Windows(sources, changed).batch(5)
        assert other.clean.shape == first.batch(5).clean.shape
        assert not torch.equal(other.clean, first.batch(5).clean)


def test_a_truncated_row_has_no_text(sources: list[MixtureSource]) -> None:
    batch = Windows(sources, replace(CLEAN, row_frames=(25,))).batch(0)
    assert any(not text for text in batch.texts)
    assert batch.lengths.max() == 25


def test_rows_must_divide_a_window(sources: list[MixtureSource]) -> None:
    with pytest.raises(OptionError, match=r"row_frames are \[400\]: they must divide the 1500 frames"):
        Windows(sources, replace(CLEAN, row_frames=(250, 400)))
