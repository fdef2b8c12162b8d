"""VoxPopuli."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lithophone.data.corpora.layout import Part, folders_with, not_the_set, table
from lithophone.data.manifest import Entry


def voxpopuli(folder: Path) -> list[Part]:
    """LANGUAGE/asr_SPLIT.tsv with LANGUAGE/YEAR/ID.ogg, as by get_asr_data.py, or the hub's SPLIT/*/ID.wav.

    Text: raw, with punctuation and capitals, else normalised.
    """
    paths = sorted(path for root in folders_with(folder, "asr_*.tsv", 2) for path in root.glob("asr_*.tsv"))
    if not paths:
        raise not_the_set(folder, "LANGUAGE/asr_test.tsv or another split")
    return [
        Part(path.stem.removeprefix("asr_"), lang, partial(_voxpopuli_entries, path, lang))
        for path in paths
        for lang in [path.parent.absolute().name.split("_")[0]]
    ]


def _voxpopuli_entries(path: Path, lang: str) -> Iterator[Entry]:
    split = path.parent / path.stem.removeprefix("asr_")
    on_hub = {audio.stem: audio for audio in split.rglob("*.wav")}
    for name, written, normalized, speaker in table(path, ("id", "raw_text", "normalized_text", "speaker_id")):
        audio = on_hub.get(name, path.parent / name[:4] / f"{name}.ogg")
        speaker = "" if speaker == "None" else speaker
        yield Entry(audio, written.strip() or normalized, lang, speaker=speaker, name=name)
