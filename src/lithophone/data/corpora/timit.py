"""TIMIT, with word times."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lithophone.data.corpora.layout import Part, folders_with, not_the_set
from lithophone.data.manifest import Entry, parsed_lines
from lithophone.errors import ManifestError
from lithophone.transcript import Word

TIMIT_RATE_HZ = 16_000
"""Its times are in samples."""


def timit(folder: Path) -> list[Part]:
    """SPLIT/DIALECT/SPEAKER/SENTENCE.TXT, .WRD and .WAV, any case, with word times.

    Includes the dialect sentences (SA1, SA2), the same for every speaker.
    """
    roots = folders_with(folder, "[Dd][Rr]?/*/*.[Tt][Xx][Tt]", depth=2)
    if not roots:
        raise not_the_set(folder, "SPLIT/DR1/SPEAKER/SENTENCE.TXT")
    return [Part(root.name.lower(), "en", partial(_timit_entries, root)) for root in roots]


def _timit_entries(split: Path) -> Iterator[Entry]:
    for path in sorted(split.glob("[Dd][Rr]?/*/*.[Tt][Xx][Tt]")):
        files = {other.suffix.lower(): other for other in path.parent.glob(f"{path.stem}.*") if other.stem == path.stem}
        sentences = [sentence for _, sentence in parsed_lines(path, _timit_line)]
        if len(sentences) != 1:
            raise ManifestError(f"{path} has {len(sentences)} sentences: there must be one")
        _, end, text = sentences[0]
        times = parsed_lines(files[".wrd"], _timit_line) if ".wrd" in files else iter(())
        words = tuple(Word(word, start / TIMIT_RATE_HZ, end / TIMIT_RATE_HZ) for _, (start, end, word) in times)
        audio = files.get(".wav", path.with_suffix(".WAV"))
        name = path.relative_to(split).with_suffix("").as_posix()
        speaker = path.parent.name
        yield Entry(audio, text, "en", end / TIMIT_RATE_HZ, speaker=speaker, name=name, words=words)


def _timit_line(line: str) -> tuple[int, int, str]:
    fields = line.split(maxsplit=2)
    if len(fields) < 3 or not (fields[0].isdigit() and fields[1].isdigit()):
        raise ManifestError(f"{line.strip()!r} where there must be first sample, last sample and text")
    return int(fields[0]), int(fields[1]), fields[2].strip()
