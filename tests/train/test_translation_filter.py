"""Agreement of translations: what is kept, what is dropped, and for which reason."""

from __future__ import annotations

import math

import pytest
from rapidfuzz.distance import Levenshtein

from lithophone.errors import OptionError
from lithophone.train.translation_filter import Reason, TranslationVerdict, agreement_limit, judge, tally

SOURCE = "The old house stands on the hill."
FIRST = "La vieja casa está sobre la colina verde del norte."


def test_limits_are_those_of_the_card() -> None:
    assert [agreement_limit(lang) for lang in ("es", "en", "ja", "zh-CN")] == [0.3, 0.3, 0.4, 0.4]


def spanish(first: str, *others: str, limit: float | None = None) -> TranslationVerdict:
    return judge(SOURCE, first, ("en", "es"), others=others, limit=limit)


@pytest.mark.parametrize(("changed", "kept"), [(0, True), (1, True), (3, True), (4, False), (10, False)])
def test_words_that_differ_are_counted(changed: int, kept: bool) -> None:
    words = FIRST.split()
    assert len(words) == 10
    verdict = spanish(FIRST, " ".join(["otra"] * changed + words[changed:]))
    assert verdict.rate == pytest.approx(changed / 10)
    assert verdict.kept is kept
    assert verdict.reason is (None if kept else Reason.DISAGREE)


def test_japanese_is_compared_by_characters_at_a_limit_of_its_own() -> None:
    source, first, other = (
        "Who arrives first?",
        "誰が一番に着くか私には分かりません。",
        "誰が最初に着くか私には分からない",
    )
    letters = [text.rstrip("。") for text in (first, other)]
    rate = Levenshtein.distance(*letters) / len(letters[0])
    assert 0.3 < rate < 0.4
    assert judge(source, first, ("en", "ja"), others=[other]) == TranslationVerdict(pytest.approx(rate), math.inf, None)
    assert judge(source, first, ("en", "ja"), others=["猫が好きです。"]).reason is Reason.DISAGREE


def test_case_and_marks_do_not_count() -> None:
    assert spanish(FIRST, FIRST.upper().replace(".", "!")) == TranslationVerdict(0.0, math.inf, None)


def test_one_that_agrees_is_enough_and_the_first_is_the_reference() -> None:
    assert spanish(FIRST, "No sé.", FIRST).kept
    assert spanish("No sé.", FIRST, FIRST).reason is Reason.DISAGREE
    assert spanish("uno dos tres cuatro", "uno dos tres cuatro cinco").rate == 0.25
    assert spanish("uno dos tres cuatro cinco", "uno dos tres cuatro").rate == 0.2


def test_what_returns_to_the_source_is_kept_though_no_other_agrees() -> None:
    near, far = "The old house stands on a hill.", "A dog runs."
    assert judge(SOURCE, FIRST, ("en", "es"), back=[far, near]) == TranslationVerdict(
        math.inf, pytest.approx(1 / 7), None
    )
    assert judge(SOURCE, FIRST, ("en", "es"), others=["No sé."], back=[near]).kept
    assert judge(SOURCE, FIRST, ("en", "es"), others=["No sé."], back=[far]).reason is Reason.DISAGREE


def test_each_side_has_the_limit_of_its_language() -> None:
    japanese, other = "猫が好きです", "猫が好きだよ"
    assert judge("I like cats.", japanese, ("en", "ja"), others=[other]).rate == pytest.approx(1 / 3)
    assert judge("I like cats.", japanese, ("en", "ja"), others=[other]).kept
    assert judge(japanese, "I like cats.", ("ja", "en"), back=[other]).kept
    assert judge(japanese, "I like cats.", ("ja", "en"), others=["I like dogs."]).reason is Reason.DISAGREE


def test_a_limit_may_be_given() -> None:
    pair = ["uno dos tres cuatro", "uno dos tres cinco"]
    assert spanish(*pair, limit=0.2).reason is Reason.DISAGREE
    assert spanish(*pair, limit=0.25).kept
    assert judge(SOURCE, FIRST, ("en", "es"), back=[SOURCE], limit=0.0).kept


def test_nothing_and_copies_are_dropped_though_systems_agree() -> None:
    assert spanish("...", "...") == TranslationVerdict(math.inf, math.inf, Reason.EMPTY)
    assert spanish(SOURCE.lower(), SOURCE).reason is Reason.UNTRANSLATED
    assert judge(SOURCE, SOURCE, ("en", "es"), back=[SOURCE]).reason is Reason.UNTRANSLATED
    assert spanish(FIRST, "") == TranslationVerdict(1.0, math.inf, Reason.DISAGREE)


def test_alone_there_is_nothing_to_agree_with() -> None:
    with pytest.raises(OptionError, match=r"'The old house.* needs another translation or a round trip"):
        judge(SOURCE, FIRST, ("en", "es"))


def test_the_tally_names_every_reason() -> None:
    verdicts = [
        TranslationVerdict(0.0, 0.5, None),
        TranslationVerdict(0.1, 0.1, None),
        TranslationVerdict(0.9, 0.9, Reason.DISAGREE),
    ]
    assert tally(verdicts) == {"kept": 2, "empty": 0, "untranslated": 0, "disagree": 1}
