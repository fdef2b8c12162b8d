"""Sentences of text files, by language: what a tokenizer and a language model learn from before they hear anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from lithophone.ctc.characters import raw_text
from lithophone.errors import ManifestError, OptionError
from lithophone.languages import LANGUAGES
from lithophone.train.targets.prompt_reply import Said

SHORTEST = 3
"""Letters; what is shorter is no sentence."""


def read_lines(specs: Iterable[str], exclude: Collection[str] = ()) -> dict[str, list[str]]:
    """`LANG=PATH` of files with a sentence a line -> lines by language, without those whose raw form is in `exclude`.

    Raises OptionError for a language that the family does not know, ManifestError for a file that cannot be read.
    """
    found: dict[str, list[str]] = {}
    for spec in specs:
        (lang,), path = _parts(spec, 1)
        lines = (line.strip() for line in _read(path))
        found.setdefault(lang, []).extend(line for line in lines if _wanted(line, exclude))
    return found


def read_pairs(specs: Iterable[str], exclude: Collection[str] = ()) -> dict[str, list[Said]]:
    """`FROM-TO=PATH` of files with a sentence, a tab and its translation a line -> sentences by their language."""
    found: dict[str, list[Said]] = {}
    for spec in specs:
        (source, target), path = _parts(spec, 2)
        for number, line in enumerate(_read(path), start=1):
            text, tab, meaning = line.partition("\t")
            if not tab and line.strip():
                raise ManifestError(f"{path}, line {number}: no tab between the sentence and its translation")
            text, meaning = text.strip(), meaning.strip()
            if _wanted(text, exclude) and meaning:
                found.setdefault(source, []).append(Said(text, source, {target: meaning}))
    return found


def _wanted(line: str, exclude: Collection[str]) -> bool:
    return len(line) > SHORTEST and raw_text(line) not in exclude


def _parts(spec: str, count: int) -> tuple[list[str], Path]:
    form = "LANG=PATH" if count == 1 else "FROM-TO=PATH"
    names, equals, path = spec.partition("=")
    langs = names.split("-")
    if not equals or len(langs) != count or any(lang not in LANGUAGES for lang in langs):
        raise OptionError(f"{spec!r} is not {form}; languages are {', '.join(LANGUAGES)}")
    return langs, Path(path)


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
