"""Sentences of text files by language, for tokenizers and language models."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from lithophone.ctc.characters import raw_text
from lithophone.errors import ManifestError, OptionError
from lithophone.languages import LANGUAGES
from lithophone.train.targets.prompt_reply import SourceText

SHORTEST = 3
"""Characters; shorter lines are dropped."""


def read_lines(specs: Iterable[str], exclude: Collection[str] = ()) -> dict[str, list[str]]:
    """Lines by language of `LANG=PATH` files, without those whose raw form is in `exclude`.

    Languages may have regions (`pt-BR`). Raises OptionError for an unknown language, ManifestError for a bad file.
    """
    found: dict[str, list[str]] = {}
    for spec in specs:
        (lang,), path = _parts(spec, 1)
        lines = (line.strip() for line in _read(path))
        found.setdefault(lang, []).extend(line for line in lines if _wanted(line, exclude))
    return found


def read_pairs(specs: Iterable[str], exclude: Collection[str] = ()) -> dict[str, list[SourceText]]:
    """Sentences by language of `FROM-TO=PATH` files of lines sentence, tab, translation."""
    found: dict[str, list[SourceText]] = {}
    for spec in specs:
        (source, target), path = _parts(spec, 2)
        for number, line in enumerate(_read(path), start=1):
            text, tab, meaning = line.partition("\t")
            if not tab and line.strip():
                raise ManifestError(f"{path}, line {number}: no tab between the sentence and its translation")
            text, meaning = text.strip(), meaning.strip()
            if _wanted(text, exclude) and meaning:
                found.setdefault(source, []).append(SourceText(text, source, {target: meaning}))
    return found


def _wanted(line: str, exclude: Collection[str]) -> bool:
    return len(line) > SHORTEST and raw_text(line) not in exclude


def _parts(spec: str, count: int) -> tuple[list[str], Path]:
    names, equals, path = spec.partition("=")
    found = _language(names) if count == 1 else _language_pair(names)
    if not equals or not found:
        form = "LANG=PATH" if count == 1 else "FROM-TO=PATH"
        raise OptionError(f"{spec!r} is not {form}; languages are {', '.join(LANGUAGES)}")
    return found, Path(path)


def _language(name: str) -> list[str]:
    """`["pt"]` of `pt-BR`; empty for an unknown language, or a pair (`en-fr`)."""
    lang, *regions = name.strip().replace("_", "-").split("-")
    paired = any(region in LANGUAGES and region != lang for region in regions)
    return [lang.lower()] if lang.lower() in LANGUAGES and not paired else []


def _language_pair(names: str) -> list[str]:
    """`["en", "pt"]` of `en-pt-BR`, split at the hyphen between two known languages; else empty."""
    parts = names.replace("_", "-").split("-")
    splits = [("-".join(parts[:i]), "-".join(parts[i:])) for i in range(1, len(parts))]
    pairs = [[*_language(source), *_language(target)] for source, target in splits]
    return next((pair for pair in pairs if len(pair) == 2 and pair[0] != pair[1]), [])


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
