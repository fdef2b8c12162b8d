"""Statistics of Whisper's states: targets without positions, their scale, the order of units, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lithophone.errors import CheckpointError, OptionError
from lithophone.train.transplant.statistics import Statistics, measure, normalised, reorder_units
from lithophone.train.transplant.whisper import WINDOW_FRAMES, WINDOW_SAMPLES, WhisperEncoder
from tests.train.transplant.tiny_whisper import LAYERS, SIZE, UNITS, noise_windows


@torch.no_grad()
def test_the_order_is_applied_to_another_teacher(
    whisper_folder: Path, teacher: WhisperEncoder, statistics: Statistics
) -> None:
    assert statistics.unit_order.sort(-1).values.tolist() == [list(range(UNITS))] * LAYERS
    other = WhisperEncoder.from_folder(whisper_folder)
    assert not torch.equal(other.layers[0].up.weight, teacher.layers[0].up.weight)
    reorder_units(other, statistics.unit_order)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, teacher.state_dict()[name]), name


@torch.no_grad()
def test_units_that_depend_on_the_audio_come_first(teacher: WhisperEncoder) -> None:
    """A constant unit is last, however large its output is; the unit with the largest output is first."""
    layer = teacher.layers[0]
    layer.up.weight[5] = 0.0
    layer.up.bias[5] = 9.0
    layer.down.weight[:, 5] = 9.0
    layer.down.weight[:, 7] = 9.0
    order = measure(teacher, noise_windows(5), order_windows=2).unit_order[0]
    assert (int(order[0]), int(order[-1])) == (7, 5)


def test_contributions_of_positions_are_not_part_of_a_target(teacher: WhisperEncoder) -> None:
    """Of a constant tone all differences between positions are theirs."""
    tone = torch.sin(torch.arange(WINDOW_SAMPLES) * 0.3)
    statistics = measure(teacher, [tone] * 3, order_windows=1)
    with torch.no_grad():
        taps = teacher.taps(tone[None])
    inner = slice(50, WINDOW_FRAMES - 50)
    target, with_positions = statistics.targets(taps)[1][0, inner], normalised(taps[1])[0, inner]
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
    with pytest.raises(OptionError, match="statistics of 3 windows: at least 4 needed"):
        measure(teacher, noise_windows(3), order_windows=2)


def test_a_file_has_all_statistics(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics.save(path)
    for name, value in vars(Statistics.read(path).to("cpu")).items():
        assert torch.equal(value, getattr(statistics, name)), name


def test_names_in_files_do_not_change(statistics: Statistics, tmp_path: Path) -> None:
    """A run resumes with the statistics that it began with."""
    path = tmp_path / "statistics.safetensors"
    statistics.save(path)
    names = "order offset spread mean deviation attention_gain mlp_gain reach level sway"
    assert load_file(path).keys() == set(names.split())
    save_file({name: tensor for name, tensor in load_file(path).items() if name != "reach"}, path)
    with pytest.raises(CheckpointError, match="delete it to measure again"):
        Statistics.read(path)
