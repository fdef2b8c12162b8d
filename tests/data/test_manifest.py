"""Manifests: what is read and written, and the line that is to blame."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from lithophone.data.manifest import Entry, read_entries, write_entries
from lithophone.errors import ManifestError
from lithophone.transcript import Word

GOOD = {"audio": "a.wav", "text": "Hello.", "lang": "en", "duration": 1.5, "corpus": "c", "speaker": "s"}


def manifest(folder: Path, *lines: str) -> Path:
    (folder / "a.wav").touch()
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_entries(tmp_path: Path) -> None:
    path = manifest(tmp_path, json.dumps(GOOD), "", json.dumps({"audio": "a.wav", "text": "Non\u2028", "lang": "fr"}))
    assert read_entries(path) == [
        Entry(tmp_path / "a.wav", "Hello.", "en", 1.5, "c", "s", "a.wav"),
        Entry(tmp_path / "a.wav", "Non\u2028", "fr", name="a.wav"),
    ]
    assert [entry.lang for entry in read_entries(path, lang="fr")] == ["fr"]
    assert [entry.lang for entry in read_entries(path, limit=1)] == ["en"]


def test_everything_that_may_be_known(tmp_path: Path) -> None:
    words = [{"text": "Red", "start": 0, "end": 0.5, "speaker": 2}, {"text": "stone", "start": 0.5, "end": 1.0}]
    path = manifest(
        tmp_path,
        json.dumps(GOOD | {"id": "first", "keywords": ["Saliez"], "words": words, "start": 3, "end": 4.5}),
        json.dumps({"audio": "a.wav", "text": "", "lang": "en", "start": 4.5, "end": 6, "speaker": None, "other": 1}),
    )
    first, second = read_entries(path)
    assert first.name == "first"
    assert first.keywords == ("Saliez",)
    assert first.words == (Word("Red", 0.0, 0.5, speaker="2"), Word("stone", 0.5, 1.0))
    assert (first.start_s, first.end_s, first.duration_s) == (3.0, 4.5, 1.5)
    assert (second.name, second.speaker) == ("a.wav#t=4.5,6", "")
    assert second.duration_s == 1.5


def test_translations(tmp_path: Path) -> None:
    known = {"fr": "Bonjour.", "ja": "こんにちは。"}
    lines = [GOOD | {"translations": known}, GOOD | {"translations": None}, GOOD]
    path = manifest(tmp_path, *(json.dumps(line, ensure_ascii=False) for line in lines))
    entries = read_entries(path)
    assert [dict(entry.translations) for entry in entries] == [known, {}, {}]
    write_entries(tmp_path / "again.jsonl", entries)
    assert read_entries(tmp_path / "again.jsonl") == entries
    written = (tmp_path / "again.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line).get("translations") for line in written] == [known, None, None]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("clips/a.wav", "b.wav"):
        (tmp_path / name).touch()
    words = (Word("Só", 0.25, 0.5, speaker="A"), Word("você.", 0.5, 1.0))
    entries = [
        Entry(tmp_path / "clips" / "a.wav", "Só você.", "pt", 1.0, "c", "s", "clips/a.wav", ("Só",), words),
        Entry(tmp_path / "b.wav", "", "en", 0.5, name="b.wav#t=1,1.5", start_s=1.0, end_s=1.5),
        Entry(tmp_path / "b.wav", "Red\u2028stone.", "en", 0.5, name="its own", start_s=1.5, end_s=2.0),
    ]
    write_entries(tmp_path / "manifest.jsonl", entries)
    assert read_entries(tmp_path / "manifest.jsonl") == entries
    lines = (tmp_path / "manifest.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line).get("id") for line in lines[:3]] == [None, None, "its own"]
    (tmp_path / "elsewhere").mkdir()
    write_entries(tmp_path / "elsewhere" / "manifest.jsonl", entries)
    assert read_entries(tmp_path / "elsewhere" / "manifest.jsonl") == entries
    with pytest.raises(ManifestError, match="cannot be written"):
        write_entries(tmp_path / "none" / "manifest.jsonl", entries)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: a list, not an object"),
        ('{"audio": "a.wav", "lang": "en"}', "line 2: text must be there"),
        ('{"audio": "a.wav", "text": 3, "lang": "en"}', "line 2: text must be there, as text"),
        ('{"audio": "b.wav", "text": "", "lang": "en"}', "line 2: there is no file"),
        (json.dumps(GOOD | {"duration": "long"}), "line 2: duration is 'long'"),
        (json.dumps(GOOD | {"duration": -1}), "line 2: duration is -1"),
        ('{"audio": "a.wav", "text": "", "lang": "en", "duration": NaN}', "line 2: duration is nan"),
        ('{"audio": "a.wav", "text": "", "lang": "en", "duration": Infinity}', "line 2: duration is inf"),
        (json.dumps(GOOD | {"id": 7}), "line 2: id is 7"),
        (json.dumps(GOOD | {"start": 1.0}), "line 2: start is 1.0 and end None"),
        (json.dumps(GOOD | {"start": 2.0, "end": 1.0}), "line 2: start is 2.0 and end 1.0"),
        (json.dumps(GOOD | {"start": True, "end": 1.0}), "line 2: start is True"),
        (json.dumps(GOOD | {"keywords": "red"}), "line 2: keywords is a str: it must be a list"),
        (json.dumps(GOOD | {"keywords": ["red", " "]}), "line 2: keywords has ' '"),
        (json.dumps(GOOD | {"translations": ["Bonjour."]}), "line 2: translations is a list: it must be an object"),
        (json.dumps(GOOD | {"translations": {"fr": " "}}), "line 2: translations has ' ' for 'fr'"),
        (json.dumps(GOOD | {"translations": {"fr": 3}}), "line 2: translations has 3 for 'fr'"),
        (json.dumps(GOOD | {"translations": {"en": "Hi."}}), "line 2: translations has 'en': .* other than 'en'"),
        (json.dumps(GOOD | {"translations": {"": "Hi."}}), "line 2: translations has ''"),
        (json.dumps(GOOD | {"words": {}}), "line 2: words is a dict: it must be a list"),
        (json.dumps(GOOD | {"words": [{"start": 0, "end": 1}]}), "line 2: words has .* must be an object"),
        (json.dumps(GOOD | {"words": [{"text": "a"}]}), "line 2: words has .* without start and end"),
        (json.dumps(GOOD | {"words": [{"text": "a", "start": 2, "end": 1}]}), "line 2: start is 2.0 and end 1.0"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read_entries(manifest(tmp_path, json.dumps(GOOD), line))


def test_manifests_without_anything(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="has no entries"):
        read_entries(manifest(tmp_path, ""))
    with pytest.raises(ManifestError, match="lang 'ja'"):
        read_entries(manifest(tmp_path, json.dumps(GOOD)), lang="ja")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_entries(tmp_path / "none.jsonl")


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café/Ångström.wav") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("written", "there"),
    [
        (COMPOSED, DECOMPOSED),
        (DECOMPOSED, COMPOSED),
        (COMPOSED, f"{DECOMPOSED.split('/')[0]}/{COMPOSED.split('/')[1]}"),
        ("clips\\a.wav", "clips/a.wav"),
        (COMPOSED.replace("/", "\\"), DECOMPOSED),
    ],
    ids=["nfc", "nfd", "mixed", "backslash", "backslash_and_nfc"],
)
def test_files_are_found_in_any_unicode_form_and_behind_backslashes(tmp_path: Path, written: str, there: str) -> None:
    (tmp_path / there).parent.mkdir(parents=True)
    (tmp_path / there).touch()
    (entry,) = read_entries(manifest(tmp_path, json.dumps(GOOD | {"audio": written})))
    assert entry.audio == tmp_path / there
    assert entry.name == written


def test_a_name_with_a_backslash_is_itself_where_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "a\\b.wav").touch()
    (entry,) = read_entries(manifest(tmp_path, json.dumps(GOOD | {"audio": "a\\b.wav"})))
    assert entry.audio == tmp_path / "a\\b.wav"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"audio": "a" * 300 + ".wav"}, "cannot be reached: File name too long"),
        ({"audio": "a.wav/b.wav"}, "there is no file"),
        ({"audio": "a\0.wav"}, "there is no file|cannot be reached"),
        ({"duration": 10**400}, "duration is 1000"),
    ],
)
def test_a_name_or_number_that_no_system_takes_is_told_with_its_line(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ManifestError, match=f"line 2: .*({words})"):
        read_entries(manifest(tmp_path, json.dumps(GOOD), json.dumps(GOOD | change)))


def test_a_line_that_is_nested_too_deep_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="line 1: not JSON"):
        read_entries(manifest(tmp_path, "[" * 100_000))


def test_a_folder_that_may_not_be_entered_is_an_error_of_the_manifest(unprivileged: Path) -> None:
    (unprivileged / "closed").mkdir(mode=0o000)
    with pytest.raises(ManifestError, match="Permission denied"):
        read_entries(manifest(unprivileged, json.dumps(GOOD | {"audio": "closed/a.wav"})))


def test_a_manifest_that_may_not_be_read_is_an_error_of_ours(unprivileged: Path) -> None:
    path = manifest(unprivileged, json.dumps(GOOD))
    path.chmod(0)
    with pytest.raises(ManifestError, match="Permission denied"):
        read_entries(path)


@pytest.mark.parametrize(
    ("asked", "found"),
    [("pt", ["pt-BR", "pt", "PT_pt"]), ("pt-BR", ["pt-BR", "pt"]), ("pt_PT", ["pt", "PT_pt"]), ("de", [])],
)
def test_a_language_is_chosen_with_its_regions(tmp_path: Path, asked: str, found: list[str]) -> None:
    path = manifest(tmp_path, *(json.dumps(GOOD | {"lang": lang}) for lang in ("pt-BR", "pt", "PT_pt")))
    if found:
        assert [entry.lang for entry in read_entries(path, lang=asked)] == found
    else:
        with pytest.raises(ManifestError, match="no entries with lang 'de'"):
            read_entries(path, lang=asked)


def test_a_translation_is_of_another_language_and_not_another_region(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"translations has 'pt'.* other than 'pt-BR'"):
        read_entries(manifest(tmp_path, json.dumps(GOOD | {"lang": "pt-BR", "translations": {"pt": "Oi."}})))
