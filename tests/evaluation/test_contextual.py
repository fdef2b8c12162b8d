"""Contextual sets: all rare words of the reference, and as many of others as were asked for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lithophone.data.manifest import Entry, read_entries, write_entries
from lithophone.errors import ManifestError, OptionError
from lithophone.evaluation.contextual import CommonWords, contextual_sets, most_common, read_common_words
from lithophone.metrics.keywords import keyword_counts

TEXTS = (
    "The colour of Saliez, the red stone.",
    'The stone: it\'s 42 degrees in "Zermatt" -- in Zermatt!',
    "The red stone the Ångström red.",
    "",
    "The thermometer of Mr. Quirrel (red) and Quirrel.",
)
COMMON = CommonWords("a list", frozenset({"the", "of", "red", "stone", "it", "is", "in", "and", "mister", "degrees"}))
RARE = (("colour", "Saliez"), ("Zermatt",), ("Ångström",), (), ("thermometer", "Quirrel"))


def entries(texts: tuple[str, ...] = TEXTS, lang: str = "en") -> list[Entry]:
    return [Entry(Path(f"{n}.wav"), text, lang, name=f"{n}.wav") for n, text in enumerate(texts)]


def test_rare_words_are_on_the_list_as_they_are_written() -> None:
    found = contextual_sets(entries(), distractors=0, common=COMMON)
    assert [sorted(keywords) for _, keywords in found] == [sorted(words) for words in RARE]
    assert [entry.keywords for entry in found.entries] == [keywords for _, keywords in found]
    assert len(found) == len(TEXTS)
    assert str(found) == "0 distractors, seed 0; common words: a list"


def test_distractors_are_rare_words_of_others() -> None:
    everything = {word for words in RARE for word in words}
    drawn = set()
    for seed in range(20):
        found = contextual_sets(entries(), distractors=3, seed=seed, common=COMMON)
        for (entry, keywords), own in zip(found, RARE, strict=True):
            assert len(keywords) == len(set(keywords)) == len(own) + 3
            assert set(own) < set(keywords) <= everything
            counts = keyword_counts(entry.text, entry.text, keywords, "en")
            assert (counts.fp, counts.fn) == (0, 0)
            assert counts.tp == sum(entry.text.count(word) for word in own)
            drawn |= {(entry.name, word) for word in set(keywords) - set(own)}
    assert len(drawn) == sum(len(everything) - len(own) for own in RARE), "every word of others is drawn some time"


def test_lists_depend_on_seed_and_name_only() -> None:
    some = entries()
    one = {entry.name: keywords for entry, keywords in contextual_sets(some, distractors=4, common=COMMON)}
    shuffled = random.Random(1).sample(some, len(some))
    assert {e.name: keywords for e, keywords in contextual_sets(shuffled, distractors=4, common=COMMON)} == one
    assert {e.name: k for e, k in contextual_sets(some, distractors=4, seed=1, common=COMMON)} != one


def test_clips_have_different_distractors() -> None:
    found = contextual_sets(entries((*TEXTS, *["The red"] * 20)), distractors=3, common=COMMON)
    assert len({frozenset(keywords) for _, keywords in found.pairs[len(TEXTS) :]}) > 5


def test_own_words_do_not_always_come_first() -> None:
    places = {
        keywords.index("Zermatt")
        for seed in range(30)
        for entry, keywords in contextual_sets(entries(), distractors=4, seed=seed, common=COMMON)
        if entry.name == "1.wav"
    }
    assert places == {0, 1, 2, 3, 4}


def test_common_words_of_the_references() -> None:
    texts = ("red red red red stone", "red red red stone sand", "Red, a")
    common = most_common(entries(texts), 1)
    assert common == CommonWords("the 1 most common words of the references, 67 % of what is said", frozenset({"red"}))
    # 12 words: 8 red, 2 stone, 1 a, 1 sand. 90 % are 10.8, which 8 + 2 do not reach; either of the others does.
    assert most_common(entries(texts)).words in ({"red", "stone", "a"}, {"red", "stone", "sand"})
    assert most_common(entries(texts), 0).words == frozenset()
    assert most_common(entries(("",))).words == frozenset()
    assert most_common(entries(texts), 100).words == {"red", "stone", "sand", "a"}
    with pytest.raises(OptionError, match="-1 common words"):
        most_common(entries(texts), -1)


def test_rare_words_are_of_all_the_alphabet() -> None:
    """Nearly all words of a small manifest are said once, so which of them are rare must not hang on their spelling."""
    words = [f"{first}{second}st" for first in "abcdefghijklmnopqrstuvwxyz" for second in "aeio"]
    common = most_common(entries(words), len(words) // 2).words
    for half in (words[: len(words) // 2], words[len(words) // 2 :]):
        assert 0.25 < len(common.intersection(half)) / len(half) < 0.75


def test_a_given_list_of_common_words(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("The 500\nOF 400\n\nColour 3\nSaliez 1\n", encoding="utf-8")
    common = read_common_words(path, "en", 3)
    assert common == CommonWords("the first 3 of words.txt", frozenset({"the", "of", "color"}))
    assert read_common_words(path, "en").words == {"the", "of", "color", "saliez"}
    (_, keywords), *_ = contextual_sets(entries(("The colour of Saliez.",)), distractors=0, common=common)
    assert keywords == ("Saliez",)
    with pytest.raises(ManifestError, match="has 4 words, not 5"):
        read_common_words(path, "en", 5)
    path.write_text("", encoding="utf-8")
    with pytest.raises(ManifestError, match="has 0 words, not one or more"):
        read_common_words(path, "en")


def test_languages_are_kept_apart() -> None:
    texts = {"de": ("Die rote Lampe" + 40 * " die", "Die Elster"), "en": ("The die" + 40 * " the", "The Pentagon")}
    mixed = [
        Entry(entry.audio, entry.text, lang, name=f"{lang}/{entry.name}")
        for lang, some in texts.items()
        for entry in entries(some, lang)
    ]
    found = contextual_sets(mixed, distractors=1)
    assert [set(keywords) for _, keywords in found] == [
        {"rote", "Lampe", "Elster"},
        {"Elster", "rote"} if "rote" in found.pairs[1][1] else {"Elster", "Lampe"},
        {"die", "Pentagon"},
        {"die", "Pentagon"},
    ]
    assert found.common == (
        "de: the 1 most common words of the references, 93 % of what is said",
        "en: the 1 most common words of the references, 95 % of what is said",
    )
    with pytest.raises(OptionError, match="a list is of one language, and the manifest has de, en"):
        contextual_sets(mixed, distractors=1, common=COMMON)


def test_written_back_as_a_manifest(tmp_path: Path) -> None:
    for number in range(len(TEXTS)):
        (tmp_path / f"{number}.wav").touch()
    some = [Entry(tmp_path / entry.name, entry.text, "en", name=entry.name) for entry in entries()]
    found = contextual_sets(some, distractors=2, common=COMMON)
    write_entries(tmp_path / "biased.jsonl", found.entries)
    assert read_entries(tmp_path / "biased.jsonl") == found.entries


def test_what_cannot_be_made() -> None:
    with pytest.raises(OptionError, match=r"5 distractors for 0\.wav, but the other references have only 4 rare words"):
        contextual_sets(entries(), distractors=5, common=COMMON)
    with pytest.raises(OptionError, match="-1 distractors"):
        contextual_sets(entries(), distractors=-1)
    with pytest.raises(OptionError, match="which ja does not write apart"):
        contextual_sets([*entries(), *entries(("赤い石",), "ja")], distractors=0)
