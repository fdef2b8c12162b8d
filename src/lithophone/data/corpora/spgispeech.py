"""SPGISpeech."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lithophone.data.corpora.layout import Part, folders_with, not_the_set, table
from lithophone.data.manifest import Entry


def spgispeech(folder: Path) -> list[Part]:
    """SPLIT.csv, `wav_filename|wav_filesize|transcript`, SPLIT/CALL/NUMBER.wav; punctuation, capitals, digits."""
    paths = [path for root in folders_with(folder, "*.csv", 1) for path in sorted(root.glob("*.csv"))]
    paths = [path for path in paths if path.with_suffix("").is_dir()]
    if not paths:
        raise not_the_set(folder, "val.csv with a folder val")
    return [Part(path.stem, "en", partial(_spgispeech_entries, path)) for path in paths]


def _spgispeech_entries(path: Path) -> Iterator[Entry]:
    for name, text in table(path, ("wav_filename", "transcript"), "|"):
        yield Entry(path.with_suffix("") / name, text, "en", name=name)
