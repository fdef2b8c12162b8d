"""FLEURS."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lithophone.data.corpora.layout import Part, first_file, folders_with, not_the_set, table
from lithophone.data.manifest import Entry

FLEURS_SPLITS = ("dev", "test", "train")

FLEURS_COLUMNS = ("id", "file_name", "raw_transcription", "transcription", "characters", "num_samples", "gender")

FLEURS_RATE_HZ = 16_000


def fleurs(folder: Path) -> list[Part]:
    """data/LOCALE/SPLIT.tsv without header, WAVs in audio/SPLIT/ or SPLIT/; punctuation, capitals."""
    locales = [root for root in folders_with(folder, "[td]*.tsv", 2) if "_" in root.absolute().name]
    paths = [root / f"{split}.tsv" for root in locales for split in FLEURS_SPLITS if (root / f"{split}.tsv").is_file()]
    if not paths:
        raise not_the_set(folder, "LOCALE/test.tsv, LOCALE being de_de, en_us, ...")
    return [Part(path.stem, _fleurs_language(path), partial(_fleurs_entries, path)) for path in paths]


def _fleurs_language(path: Path) -> str:
    lang = path.parent.absolute().name.split("_")[0]
    return "zh" if lang == "cmn" else lang


def _fleurs_entries(path: Path) -> Iterator[Entry]:
    columns = ("file_name", "raw_transcription", "num_samples")
    for name, text, samples in table(path, columns, header=FLEURS_COLUMNS):
        audio = first_file(path.parent / "audio" / path.stem / name, path.parent / path.stem / name)
        duration_s = int(samples) / FLEURS_RATE_HZ if samples.isdigit() else None
        yield Entry(audio, text, _fleurs_language(path), duration_s, name=name)
