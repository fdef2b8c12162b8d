"""What an encoder is told of its rows' languages."""

from __future__ import annotations

from lithophone.labels import LANGUAGE_MARKS, foreign_labels
from lithophone.told import told


def test_rows_pay_for_letters_that_are_foreign_to_their_language_and_bear_its_mark() -> None:
    found = told(["ja", None, "de"], 7.0, marked=True)
    assert found is not None
    assert found.mark is not None
    assert [row[0].nonzero()[:, 0].tolist() for row in found.penalty] == [
        foreign_labels("ja"),
        [],
        foreign_labels("de"),
    ]
    assert found.penalty.max() == 7.0
    marks = [row[0].nonzero()[:, 0].tolist() for row in found.mark]
    assert marks == [[LANGUAGE_MARKS["ja"]], [], [LANGUAGE_MARKS["de"]]]
    assert found.mark.max() == 1.0


def test_a_language_without_a_mark_has_a_penalty_alone() -> None:
    found = told(["cs"], 7.0, marked=True)
    assert found is not None
    assert found.mark is not None
    assert found.mark.max() == 0.0
    assert found.penalty.max() == 7.0


def test_where_there_is_nothing_to_tell_nothing_is_told() -> None:
    assert told([None, None], 7.0, marked=True) is None
    assert told(["fr"], 0.0, marked=False) is None
    found = told(["fr"], 7.0, marked=False)
    assert found is not None
    assert found.mark is None
