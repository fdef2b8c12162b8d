"""Normalisers on hard cases of our own, and the fast English pipeline against the slow one."""

from __future__ import annotations

import random
import unicodedata

import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from lithophone.errors import OptionError
from lithophone.languages import base_language
from lithophone.metrics.counts import count_errors
from lithophone.metrics.english import KEPT_SPELLINGS, KEPT_WORDS, SPELLINGS, English, engine
from lithophone.metrics.normalize import (
    NAMES,
    TO_ASCII,
    basic,
    characters,
    english,
    in_kana,
    multilingual,
    normalizer_for,
    normalizer_named,
)
from lithophone.text import japanese as kana

ENGLISH = [
    # lower case, symbols, white space
    ("Hello, World!", "hello world"),
    ("  so\t\nmuch   space ", "so much space"),
    ("naïve café — œuvre", "naive cafe oeuvre"),
    ("ﬁne, e\u0301lite", "fine elite"),
    ("", ""),
    ("...", "."),  # the engine's: of full stops in a row every other one is seen to end a sentence
    # remarks and fillers
    ("um, I think [noise] so (laughs) <unk>", "i think so"),
    ("Hmm, mhm, mm, uh", ""),
    ("umbrella, hum", "umbrella hum"),
    # contractions and titles
    ("I can't, won't, don't", "i can not will not do not"),
    ("he 's gone; she'd been; it's got", "he has gone she had been it has got"),
    ("y'all gonna, wanna, gotta", "you all going to want to got to"),
    ("Mr. and Mrs. St. John, Dr. Lee", "mister and missus saint john doctor lee"),
    ("John's house", "john is house"),
    ("kinda, sorta, dunno", "kinda sorta dunno"),
    ("a lost cause", "a lost cause"),
    # numbers, ordinals, currency, per cent
    ("twenty one", "21"),
    ("one hundred and five thousand", "105000"),
    ("three point one four", "3.14"),
    ("nineteen eighty four", "1984"),
    ("double oh seven", "007"),
    ("the twenty first of may", "the 21st of may"),
    ("1,234,567", "1234567"),
    ("the 1960s and nineteen sixties", "the 1960s and 1960s"),
    ("one by one", "one by one"),
    ("$20 million", "$20000000"),
    ("twenty dollars and five cents", "$20.05"),
    ("$0.50", "¢50"),
    ("fifty percent, 50%, fifty per cent", "50% 50% 50%"),
    ("minus five degrees", "-5 degrees"),
    ("two and a half", "2.5"),
    ("salt and pepper", "salt and pepper"),
    ("version 2.0.1", "version 2.0 one"),
    ("mp3 player", "mp 3 player"),
    # British spelling, the entries that are the wrong way round elsewhere among them
    ("The COLOUR of the centre", "the color of the center"),
    ("archaeology, cancellation, a travelogue", "archeology cancelation a travelog"),
    ("pummelled by snowploughs", "pummeled by snowplows"),
]


@pytest.mark.parametrize(("text", "expected"), ENGLISH)
def test_english(text: str, expected: str) -> None:
    assert english()(text) == expected
    assert engine()(text).strip() == expected


RULED = """
    a half x cat $5 5 3.5 -3 +7 5. €0.07 £0.50 ¢7 10,000 1st 22nd 1960s cent % $ [noise] (laughs) <unk> um mm 5mm
    won't y'all he'd been it's got mr. st ma'am colour archaeology cause kinda a.b.c. ... ’ 've ' é ß ½ ² ٣ ﬁ １２
"""


def drawn_texts() -> list[str]:
    """Words that rules are about in any order, and characters that rules are about in any order."""
    draw = random.Random(0)
    numbers = sorted(engine().standardize_numbers.words)
    phrases = [" ".join(draw.choices(numbers + RULED.split() * 2, k=draw.randint(1, 9))) for _ in range(2500)]
    letters = "ab1 .,$%'-20&()[]<>éß\u0301\n\t€"
    return phrases + ["".join(draw.choices(letters, k=draw.randint(0, 14))) for _ in range(1500)]


def test_fast_english_is_the_slow_one() -> None:
    fast, slow = English(), engine()
    texts = drawn_texts()
    assert [fast(text) for text in texts] == [slow(text).strip() for text in texts]
    assert len(set(map(fast, texts))) > 2500


def test_english_differs_from_whisper_normalizer_in_the_listed_words_alone() -> None:
    package = EnglishTextNormalizer()
    listed = {*KEPT_WORDS, *SPELLINGS, *KEPT_SPELLINGS}
    words = {word for text in drawn_texts() for word in text.lower().split()} | set(
        package.standardize_spellings.mapping
    )
    assert {word for word in words | listed if english()(word) != package(word).strip()} == listed - {"mm"} | {"5mm"}
    texts = [text for text in drawn_texts() if not any(word in text for word in listed)]
    assert [english()(text) for text in texts] == [package(text).strip() for text in texts]
    assert len(texts) > 2000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L’Été, ça va (rires) – ÜBER!", "l été ça va über"),
        ("e\u0301te\u0301", "été"),
        ("[Musik] Straße & Größe", "straße größe"),
        ("¿Qué? ¡No!", "qué no"),
        ("10 000 €, 21 %", "10 000 21"),
        ("d'água, guarda-chuva", "d água guarda chuva"),
        ("İstanbul", "i̇stanbul"),
    ],
)
def test_basic(text: str, expected: str) -> None:
    assert basic()(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今日 は、晴れ。", "今日は晴れ"),
        ("Ｗｉｎｄｏｗｓの ｶﾞｲﾄﾞ、１２頁（笑）", "windowsのガイド12頁"),
        ("「はい」と『言った』・・・", "はいと言った"),
        ("ラーメン、佐々木、〇〇", "ラーメン佐々木〇〇"),
        ("か ゛、か\u3099", "がが"),
        ("葛\U000e0100城、❤\ufe0f、\u200b字", "葛城字"),
        ("㍻①㌔", "平成1キロ"),
        ("はな、ハナ、花", "はなハナ花"),
        ("你好，世界！ “再见”。", "你好世界再见"),
        ("電腦 电脑", "電腦电脑"),
        ("\uf90a", "金"),
        ("3.14％", "314"),
        ("[音楽] <無音>", ""),
    ],
)
def test_characters(text: str, expected: str) -> None:
    assert characters()(text) == expected
    assert characters()(unicodedata.normalize("NFKC", text)) == expected


@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("de", "Am 21. Mai: 1 000 Straßen (Lachen)!", "am einundzwanzig mai eintausend straßen"),
        ("fr", "L’Été 80 %, peut-être", "l été quatre-vingts peut être"),
        ("es", "¿Qué? 10 000", "qué diez mil"),
        ("pt-BR", "um\u200bbigo_3", "umbigo três"),
        ("it", "perche\u0301", "perché"),
    ],
)
def test_multilingual(lang: str, text: str, expected: str) -> None:
    assert multilingual(lang)(text) == expected


def test_numbers_that_no_language_has_a_word_for_stay_digits() -> None:
    digits = "1" + "0" * 5000
    assert multilingual("de")(f"x {digits}") == f"x {digits}"


def test_multilingual_needs_a_language_with_numbers() -> None:
    with pytest.raises(OptionError, match=r"'xx'.*\bde\b.*basic"):
        normalizer_named("multilingual", "xx")
    with pytest.raises(OptionError, match="multilingual"):
        normalizer_named("multilingual", None)


@pytest.mark.parametrize(
    ("lang", "name"),
    [("en", "english"), ("en-US", "english"), ("EN_gb", "english"), ("fr", "basic"), ("ja", "characters"),
     ("zh-CN", "characters"), (None, "basic"), ("", "basic")],
)  # fmt: skip
def test_the_normaliser_of_a_language(lang: str | None, name: str) -> None:
    assert normalizer_for(lang).name == name


def test_normalisers_by_name() -> None:
    found = [normalizer_named(name, "ja" if name == "kana" else "de") for name in NAMES]
    assert [normalizer.name for normalizer in found] == list(NAMES)
    assert found[0] is english()
    with pytest.raises(OptionError, match=r"'whisper'.*english, english-apostrophes, basic"):
        normalizer_named("whisper", "en")


@pytest.mark.skipif(not kana.can_read(), reason="SudachiPy is not installed: pip install lithophone[ja]")
def test_japanese_by_its_sound() -> None:
    heard = normalizer_named("kana", "ja")
    assert heard("東京へ、行く。") == heard("とうきょうへいく") == heard("トウキョウへ 行く") == "とうきょうへいく"
    assert heard("ガラスが20枚") == "がらすが20まい"
    assert "SudachiDict" in str(heard)
    with pytest.raises(OptionError, match="kana normalises Japanese, not 'fr'"):
        normalizer_named("kana", "fr")


def test_kana_without_its_dictionary_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    in_kana.cache_clear()
    monkeypatch.setattr(kana, "can_read", lambda: False)
    with pytest.raises(OptionError, match="pip install"):
        normalizer_named("kana", "ja")


def test_normalisers_are_printed_with_their_versions() -> None:
    assert str(english()).startswith("english (whisper-normalizer ")
    assert str(english()).endswith(", Open ASR Leaderboard 2025-09)")
    assert str(basic()).startswith("basic (whisper-normalizer ")
    assert str(characters()) == f"characters (lithophone 1, Unicode {unicodedata.unidata_version})"
    assert str(multilingual("de")).startswith("multilingual (Open ASR Leaderboard 2026-03, num2words ")


def test_base_languages() -> None:
    assert [base_language(lang) for lang in ("zh-CN", "PT_br", "de", None)] == ["zh", "pt", "de", ""]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("We don’t know", "we do not know"),
        ("It‘s the women’s", "it is the woman's"),
        ("rockʼnʼroll, we＇ll", "rock'n'roll we will"),
    ],
)
def test_typographic_apostrophes_are_folded_by_a_normaliser_of_their_own(one: str, other: str) -> None:
    folded = normalizer_named("english-apostrophes", "en")
    assert folded(one) == folded(one.translate(TO_ASCII)) != english()(one)
    assert (folded(one) == folded(other)) is ("women" not in one)
    assert str(folded) == str(english()).replace("english", "english-apostrophes")


def test_the_pipeline_of_the_leaderboard_stays_what_it_is() -> None:
    """It counts `We don’t know` against `we do not know` as two errors."""
    assert count_errors(english()("We don’t know").split(), ["we", "do", "not", "know"]).errors == 2
