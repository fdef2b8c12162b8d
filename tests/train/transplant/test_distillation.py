"""Losses of the phases: which blocks they compare, which parameters they train, and that they fall."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

from lithophone.model.gradient_checkpointing import recompute_layers
from lithophone.train.data.augment import Augment
from lithophone.train.data.batches import MixtureOptions
from lithophone.train.data.corpora import as_sources, read_parts
from lithophone.train.run.loop import cast_for_compute
from lithophone.train.targets.losses import Loss
from lithophone.train.transplant.distillation import Distillation, StudentTask
from lithophone.train.transplant.statistics import Statistics
from lithophone.train.transplant.weights import conformer_blocks, distillation_config, student_config, transplant
from lithophone.train.transplant.whisper import WhisperEncoder
from lithophone.train.transplant.whisper_decoder import TextTeacher
from lithophone.train.transplant.windows import WindowBatch, Windows
from tests.recipes.spoken import SENTENCES, write_songs
from tests.tiny_tokenizer import tiny_tokenizer

PHASES: dict[str, tuple[Callable[[Distillation, WindowBatch, int], Mapping[str, Loss]], set[str]]] = {
    "stem": (Distillation.stem, {"block_1"}),
    "second": (Distillation.second, {"block_2"}),
    "whole encoder": (
        Distillation.whole_encoder,
        {"ctc", "ctc_mid", "ctc_bpe", "block_1", "block_3", "text", "teacher_text"},
    ),
}


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> WindowBatch:
    folder = tmp_path_factory.mktemp("songs")
    write_songs(folder, [{"text": text, "lang": "en"} for text in SENTENCES])
    sources = as_sources(read_parts(str(folder / "manifest.jsonl"), 30.0, folder / "cache"), 0.6)
    return Windows(sources, MixtureOptions(30.0, (250,), Augment.none(), seed=1)).batch(0)


@pytest.fixture
def student(teacher: WhisperEncoder, statistics: Statistics, text_teacher: TextTeacher) -> Distillation:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    task = StudentTask(distillation_config(student_config(teacher)), len(tokenizer), teacher, statistics)
    transplant(teacher, task.encoder, statistics)
    return Distillation(task, teacher, statistics, tokenizer, text_teacher)


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_has_the_losses_of_its_blocks(student: Distillation, batch: WindowBatch, phase: str) -> None:
    losses, names = PHASES[phase]
    found = losses(student, batch, 0)
    assert found.keys() == names
    frames = int(batch.lengths.sum())
    assert all(loss.count == frames for name, loss in found.items() if name.startswith("block_"))
    assert all(0.0 < loss.mean < 200.0 for loss in found.values())


@pytest.mark.parametrize("phase", PHASES)
def test_bfloat16_and_recomputed_layers_give_the_same_losses(
    student: Distillation, batch: WindowBatch, phase: str
) -> None:
    losses, _ = PHASES[phase]
    student.task.eval()
    expected = losses(student, batch, 0)
    recompute_layers(student.task)
    for name, loss in losses(student, batch, 0).items():
        assert loss.mean == expected[name].mean
    cast_for_compute(student.task, torch.bfloat16)
    for name, loss in losses(student, batch, 0).items():
        assert loss.mean == pytest.approx(expected[name].mean, rel=0.05)


def test_constant_feed_forwards_are_not_trained(student: Distillation, batch: WindowBatch) -> None:
    """They are what a feed-forward with their weights computes."""
    first = conformer_blocks(student.task.encoder)[1].ff1
    sum(loss.total for loss in student.whole_encoder(batch, 0).values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in first.parameters())
    x = torch.randn(1, 5, first.pre_norm.weight.shape[0])
    found = first(x)
    first.constant = False
    torch.testing.assert_close(first(x), found.expand_as(x))


@pytest.mark.parametrize(("phase", "rate"), [("stem", 5e-3), ("second", 1e-3), ("whole encoder", 1e-3)])
def test_a_few_steps_lower_the_distances(student: Distillation, batch: WindowBatch, phase: str, rate: float) -> None:
    losses, _ = PHASES[phase]
    optimizer = torch.optim.Adam(student.task.parameters(), rate)
    means = []
    for step in range(5):
        found = losses(student, batch, step)
        means.append(sum(loss.mean for loss in found.values()))
        optimizer.zero_grad()
        sum(loss.total / loss.count for loss in found.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert means[-1] < 0.95 * means[0]


def test_frozen_batch_normalisation_keeps_its_statistics(student: Distillation, batch: WindowBatch) -> None:
    frozen, trained = (conformer_blocks(student.task.encoder)[n].conv.batch_norm for n in (0, 1))
    frozen.requires_grad_(False)
    student.task.train()
    student.whole_encoder(batch, 0)
    assert not frozen.running_mean.any()
    assert trained.running_mean.any()
