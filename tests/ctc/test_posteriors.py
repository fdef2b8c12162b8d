"""Posteriors of a batch: those of its rows alone, computed once, and not before they are asked for."""

from __future__ import annotations

import pytest
import torch

from lithophone.ctc.forced_alignment import best_path
from lithophone.ctc.posteriors import CTCPosteriors


def batch(blank: int = 0) -> CTCPosteriors:
    logits = 3.0 * torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(0))
    return CTCPosteriors(logits, torch.tensor([9, 1, 4]), blank)


@pytest.mark.parametrize("blank", [0, 4])
def test_rows_are_those_of_each_utterance_alone(blank: int) -> None:
    posteriors = batch(blank)
    assert len(posteriors) == 3
    for row, logits, n in zip(posteriors, posteriors.logits, (9, 1, 4), strict=True):
        assert row.frames == n
        assert row.path == best_path(logits[:n], blank)
        assert row.labels == [label for label, _ in row.path]
        torch.testing.assert_close(row.log_probs, logits[:n].double().log_softmax(-1))


def test_each_is_computed_once_for_all_rows() -> None:
    posteriors = batch()
    first, last = posteriors[0], posteriors[-1]
    assert "log_probs" not in vars(posteriors)
    assert "paths" not in vars(posteriors)
    assert first.log_probs.untyped_storage().data_ptr() == last.log_probs.untyped_storage().data_ptr()
    assert last.path is posteriors.paths[2]
    assert "paths" in vars(posteriors)


def test_rows_are_taken_by_place_and_by_slice() -> None:
    posteriors = batch()
    assert [row.row for row in posteriors[1:]] == [1, 2]
    assert posteriors[-1].row == 2
    with pytest.raises(IndexError):
        posteriors[3]


def test_shapes_that_do_not_fit_are_our_mistake() -> None:
    with pytest.raises(AssertionError, match="a length for every row"):
        CTCPosteriors(torch.zeros(2, 3, 4), torch.tensor([3]))
