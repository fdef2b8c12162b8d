"""Sentences and translations of text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lithophone.errors import ManifestError, OptionError
from lithophone.train.data.sentences import read_lines, read_pairs
from lithophone.train.targets.prompt_reply import SourceText


def test_lines_are_gathered_by_language_without_what_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One sentence.\n\nHi\n  Another one!  \n")
    (tmp_path / "b.txt").write_text("A third.\n")
    (tmp_path / "c.txt").write_text("Une phrase.\n")
    specs = [f"en={tmp_path / 'a.txt'}", f"en={tmp_path / 'b.txt'}", f"fr={tmp_path / 'c.txt'}"]
    assert read_lines(specs, {"another one"}) == {"en": ["One sentence.", "A third."], "fr": ["Une phrase."]}


def test_pairs_are_sentences_with_a_translation(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("Good day.\tBonjour.\nHeld out.\tGardé.\nNothing said.\t\n")
    found = read_pairs([f"en-fr={tmp_path / 'p.tsv'}"], {"held out"})
    assert found == {"en": [SourceText("Good day.", "en", {"fr": "Bonjour."})]}


def test_a_line_without_a_tab_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("Good day.\tBonjour.\nNo tab here.\n")
    with pytest.raises(ManifestError, match=r"p\.tsv, line 2: no tab"):
        read_pairs([f"en-fr={tmp_path / 'p.tsv'}"])


def test_regions_of_languages_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Uma frase.\n")
    (tmp_path / "p.tsv").write_text("Uma frase.\tA sentence.\n")
    assert read_lines([f"pt-BR={tmp_path / 'a.txt'}", f"pt_pt={tmp_path / 'a.txt'}"]) == {"pt": ["Uma frase."] * 2}
    for names in ("pt-BR-en", "pt-en-US", "pt-PT-en-GB"):
        found = read_pairs([f"{names}={tmp_path / 'p.tsv'}"])
        assert found == {"pt": [SourceText("Uma frase.", "pt", {"en": "A sentence."})]}


@pytest.mark.parametrize("spec", ["en", "xx=a.txt", "en-fr=a.txt", "=a.txt"])
def test_a_specification_names_a_language_and_a_path(spec: str) -> None:
    with pytest.raises(OptionError, match="is not LANG=PATH"):
        read_lines([spec])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        read_lines([f"en={tmp_path / 'none.txt'}"])
