"""Clock: sample n of the output was recorded n / rate seconds after the clock's zero."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from lithophone.audio.clock import MAX_PAUSE_S, Clock, Frame, SeekMissedError

RATE = 1_000


def frame(value: float, time_s: float | None, n: int = 100, lost_s: float = 0.0, rate_hz: int = RATE) -> Frame:
    return Frame(rate_hz, np.full((n, 1), value, np.float32), ("FC",), time_s, lost_s, lost_s > 0)


def placed(
    frames: Iterable[Frame], length_s: float | None = 100.0, jumps: bool = False
) -> tuple[list[float], list[str]]:
    """Values of all samples, and the warnings."""
    warnings: list[str] = []
    blocks = list(Clock(length_s, jumps, warnings.append).blocks(frames))
    return [float(v) for block in blocks for v in block.table[:, 0]], warnings


def test_frames_that_follow_each_other_are_joined() -> None:
    assert placed([frame(1, 0.0), frame(2, 0.1)]) == ([1.0] * 100 + [2.0] * 100, [])


@pytest.mark.parametrize("late_s", [0.003, 0.05, 4.0, 60.0])
def test_a_late_start_is_silence(late_s: float) -> None:
    assert placed([frame(1, late_s)]) == ([0.0] * round(late_s * RATE) + [1.0] * 100, [])


def test_a_start_shortly_before_zero_is_kept() -> None:
    assert placed([frame(1, -0.02)]) == ([1.0] * 100, [])


def test_a_pause_is_silence() -> None:
    assert placed([frame(1, 0.0), frame(2, 0.3)])[0] == [1.0] * 100 + [0.0] * 200 + [2.0] * 100


@pytest.mark.parametrize("rounding_s", [-0.1, -0.02, 0.001, 0.1])
def test_rounding_and_drift_move_nothing(rounding_s: float) -> None:
    assert placed([frame(1, 0.0, 200), frame(2, 0.2 + rounding_s)])[0] == [1.0] * 200 + [2.0] * 100


def test_a_lost_packet_is_silence_of_its_length_to_the_sample() -> None:
    values, _ = placed([frame(1, 0.0), frame(2, 0.12, lost_s=0.02)])
    assert values == [1.0] * 100 + [0.0] * 20 + [2.0] * 100


def test_a_lost_packet_without_timestamps_counts_by_its_length() -> None:
    values, _ = placed([frame(1, None), frame(2, None, lost_s=0.02), frame(3, None, n=0, lost_s=0.01)])
    assert values == [1.0] * 100 + [0.0] * 20 + [2.0] * 100 + [0.0] * 10


def test_an_overlap_is_cut() -> None:
    assert placed([frame(1, 0.0, 300), frame(2, 0.1, 300)])[0] == [1.0] * 300 + [2.0] * 100


def test_frames_of_another_rate_keep_the_clock() -> None:
    values, _ = placed([frame(1, 0.0), frame(2, 0.4, rate_hz=2 * RATE)])
    assert values == [1.0] * 100 + [0.0] * 600 + [2.0] * 100


@pytest.mark.parametrize("length_s", [None, 20.0])
def test_a_jump_beyond_the_length_of_the_file_is_skipped_and_said(length_s: float | None) -> None:
    values, (warning,) = placed([frame(1, 0.0), frame(2, 90.0), frame(3, 90.1)], length_s)
    assert values == [1.0] * 100 + [2.0] * 100 + [3.0] * 100
    assert "jump by 89.9 s at 0.1 s" in warning


def test_a_jump_within_the_length_of_the_file_is_a_pause() -> None:
    assert len(placed([frame(1, 0.0), frame(2, 90.0)], 100.0)[0]) == 90_100


def test_no_pause_is_longer_than_the_bound() -> None:
    values, warnings = placed([frame(1, 0.0), frame(2, MAX_PAUSE_S + 60)], 2 * MAX_PAUSE_S)
    assert (len(values), len(warnings)) == (200, 1)


def test_timestamps_that_start_anew_are_read_on() -> None:
    """Ogg files behind each other, transport streams after a cut."""
    assert (
        placed([frame(1, 0.0), frame(2, 0.1), frame(3, 0.0)], jumps=True)[0] == [1.0] * 100 + [2.0] * 100 + [3.0] * 100
    )
    assert placed([frame(1, 0.0), frame(2, 50.0), frame(3, 50.1)], jumps=True)[1] == []


def test_a_sought_position_is_met_to_the_sample() -> None:
    clock = Clock(None, False, pytest.fail, 2.0)
    (block,) = clock.blocks([frame(1, 1.8), frame(2, 1.95)])
    assert (block.table[:, 0].tolist(), clock.end_s) == ([2.0] * 50, 2.05)


def test_a_seek_that_went_too_far_is_noticed() -> None:
    with pytest.raises(SeekMissedError):
        list(Clock(None, False, pytest.fail, 2.0).blocks([frame(1, 2.1)]))
