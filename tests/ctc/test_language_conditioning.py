"""Language conditioning of the rows of a batch."""

from __future__ import annotations

from lithophone.ctc.characters import foreign_labels
from lithophone.ctc.language_conditioning import language_bias
from lithophone.languages import TABLE


def test_rows_have_a_penalty_on_foreign_letters_and_the_id_of_their_language() -> None:
    found = language_bias(["ja", None, "de"], 7.0, with_ids=True)
    assert found is not None
    assert found.language_id is not None
    assert [row[0].nonzero()[:, 0].tolist() for row in found.penalty] == [
        foreign_labels("ja"),
        [],
        foreign_labels("de"),
    ]
    assert found.penalty.max() == 7.0
    ids = [row[0].nonzero()[:, 0].tolist() for row in found.language_id]
    assert ids == [[TABLE["ja"].id], [], [TABLE["de"].id]]
    assert found.language_id.max() == 1.0


def test_a_language_without_a_mark_has_a_penalty_alone() -> None:
    found = language_bias(["cs"], 7.0, with_ids=True)
    assert found is not None
    assert found.language_id is not None
    assert found.language_id.max() == 0.0
    assert found.penalty.max() == 7.0


def test_without_languages_or_bias_there_is_none() -> None:
    assert language_bias([None, None], 7.0, with_ids=True) is None
    assert language_bias(["fr"], 0.0, with_ids=False) is None
    found = language_bias(["fr"], 7.0, with_ids=False)
    assert found is not None
    assert found.language_id is None
