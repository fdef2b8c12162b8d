"""Multilingual LibriSpeech."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lithophone.data.corpora.layout import Part, first_file, folders_with, not_the_set
from lithophone.data.manifest import Entry, parsed_lines
from lithophone.errors import ManifestError

MLS_LANGUAGES = {
    "dutch": "nl", "english": "en", "french": "fr", "german": "de", "italian": "it", "polish": "pl",
    "portuguese": "pt", "spanish": "es",
}  # fmt: skip


def mls(folder: Path) -> list[Part]:
    """mls_LANGUAGE/SPLIT/transcripts.txt, segments.txt and audio/SPEAKER/BOOK/ID.flac (or .opus); no punctuation."""
    languages = {path: _mls_language(path) for path in folders_with(folder, "*/transcripts.txt", depth=1)}
    if not languages:
        raise not_the_set(folder, "mls_LANGUAGE/SPLIT/transcripts.txt")
    return [
        Part(path.parent.name, lang, partial(_mls_entries, path, lang))
        for root, lang in languages.items()
        for path in sorted(root.glob("*/transcripts.txt"))
    ]


def _mls_language(root: Path) -> str:
    name = root.absolute().name.removeprefix("mls_").removesuffix("_opus")
    if name not in MLS_LANGUAGES:
        raise ManifestError(f"{root} must be called mls_LANGUAGE, LANGUAGE being {', '.join(MLS_LANGUAGES)}")
    return MLS_LANGUAGES[name]


def _mls_entries(path: Path, lang: str) -> Iterator[Entry]:
    spans = dict(_mls_durations(path.with_name("segments.txt")))
    for _, (name, text) in parsed_lines(path, _tabbed_id_and_text):
        speaker, book = name.split("_")[:2]
        stem = path.parent / "audio" / speaker / book / name
        audio = first_file(stem.with_suffix(".flac"), stem.with_suffix(".opus"))
        yield Entry(audio, text, lang, spans.get(name), speaker=speaker, name=name)


def _tabbed_id_and_text(line: str) -> tuple[str, str]:
    name, tab, text = line.strip().partition("\t")
    if not tab or name.count("_") != 2:
        raise ManifestError(f"{line.strip()!r} where there must be SPEAKER_BOOK_NUMBER, a tab and the text")
    return name, text


def _mls_durations(path: Path) -> Iterator[tuple[str, float]]:
    """`ID url start end`: the clip's place in a LibriVox book."""
    if path.is_file():
        for _, span in parsed_lines(path, _mls_span):
            yield span


def _mls_span(line: str) -> tuple[str, float]:
    name, *fields = line.split()
    try:
        start_s, end_s = map(float, fields[-2:])
    except ValueError as error:
        raise ManifestError(f"{line.strip()!r} where there must be ID, address, start and end") from error
    return name, end_s - start_s
