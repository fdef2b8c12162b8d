"""Statistics of Whisper's states: targets without positions, their scale, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lithophone.errors import CheckpointError, OptionError
from lithophone.train.transplant.statistics import Statistics, measure
from lithophone.train.transplant.whisper import WINDOW_FRAMES, WINDOW_SAMPLES, WhisperEncoder
from tests.train.transplant.tiny_whisper import SIZE, noise_windows


def test_contributions_of_positions_are_not_part_of_a_target(teacher: WhisperEncoder) -> None:
    """Of a constant tone all differences between positions are theirs."""
    tone = torch.sin(torch.arange(WINDOW_SAMPLES) * 0.3)
    statistics = measure(teacher, [tone] * 2)
    with torch.no_grad():
        streams = teacher.streams(tone[None])
    inner = slice(50, WINDOW_FRAMES - 50)
    target, with_positions = statistics.targets(streams)[1][0, inner], streams[1][0, inner] / statistics.scale[1]
    assert target.var(0).mean() < 0.1 * with_positions.var(0).mean()


def test_the_mean_target_has_a_loss_of_about_one(statistics: Statistics) -> None:
    valid = torch.ones(1, 400, dtype=torch.bool)
    mean, deviation = statistics.mean[1], statistics.deviation[1]
    target = mean + deviation * torch.randn(1, 400, SIZE, generator=torch.Generator().manual_seed(6))
    loss = statistics.distance(1, mean.expand_as(target), target, valid)
    assert loss.mean == pytest.approx(1.0, abs=0.05)
    assert statistics.distance(1, target, target, valid).mean == 0.0
    target[0, 0, 0] += 100.0 * deviation[0]
    assert statistics.distance(1, mean.expand_as(target), target, valid).mean < loss.mean + 0.1, "an outlier"
    valid[0, 200:] = False
    assert statistics.distance(1, target, target, valid).count == 200


def test_too_few_windows_are_refused(teacher: WhisperEncoder) -> None:
    with pytest.raises(OptionError, match="statistics of 1 windows: at least 2 needed"):
        measure(teacher, noise_windows(1))


def test_a_file_has_all_statistics(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics.save(path)
    for name, value in vars(Statistics.read(path).to("cpu")).items():
        assert torch.equal(value, getattr(statistics, name)), name


def test_a_file_of_other_statistics_is_refused(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics.save(path)
    save_file({name: tensor for name, tensor in load_file(path).items() if name != "scale"}, path)
    with pytest.raises(CheckpointError, match="delete it to measure again"):
        Statistics.read(path)
