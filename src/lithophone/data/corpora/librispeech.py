"""LibriSpeech, and LibriSpeech-PC (punctuated)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from lithophone.data.corpora.layout import Part, first_file, folders_with, not_the_set
from lithophone.data.manifest import Entry, json_object, parsed_lines, seconds
from lithophone.errors import ManifestError

LIBRISPEECH_SPLITS = (
    "dev-clean", "dev-other", "test-clean", "test-other", "train-clean-100", "train-clean-360", "train-other-500",
)  # fmt: skip


def librispeech(folder: Path) -> list[Part]:
    """SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, a FLAC per line; upper case, no punctuation."""
    splits = folders_with(folder, "*/*/*.trans.txt", depth=2)
    if not splits:
        raise not_the_set(folder, "SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt")
    return [Part(split.name, "en", partial(_librispeech_entries, split)) for split in splits]


def _librispeech_entries(split: Path) -> Iterator[Entry]:
    for path in sorted(split.glob("*/*/*.trans.txt")):
        for _, (name, text) in parsed_lines(path, _id_and_text):
            yield Entry(path.with_name(f"{name}.flac"), text, "en", speaker=name.split("-")[0], name=name)


def _id_and_text(line: str) -> tuple[str, str]:
    name, _, text = line.strip().partition(" ")
    return name, text


def librispeech_pc(folder: Path) -> list[Part]:
    """SPLIT.json, JSON lines, punctuated; LibriSpeech is the folder, in it or beside it."""
    lists = sorted(path for split in LIBRISPEECH_SPLITS for path in folder.rglob(f"{split}.json"))
    if not lists:
        raise not_the_set(folder, f"SPLIT.json, SPLIT being {', '.join(LIBRISPEECH_SPLITS)}")
    return [Part(path.stem, "en", partial(_librispeech_pc_entries, path, folder)) for path in lists]


def _librispeech_pc_entries(path: Path, folder: Path) -> Iterator[Entry]:
    for _, (place, text, duration_s) in parsed_lines(path, _librispeech_pc_line):
        # Folders before SPLIT/SPEAKER/CHAPTER/FILE differ between publishers.
        roots = (
            folder,
            folder / "LibriSpeech",
            folder.parent / "LibriSpeech",
            path.parent,
            path.parent / "LibriSpeech",
        )
        inside = Path(*place.parts[-4:])
        speaker = place.stem.split("-")[0]
        audio = first_file(*(root / inside for root in roots))
        yield Entry(audio, text, "en", duration_s, speaker=speaker, name=place.stem)


def _librispeech_pc_line(line: str) -> tuple[PurePosixPath, str, float | None]:
    values = json_object(line, "audio_filepath and text")
    place, text = values.get("audio_filepath"), values.get("text")
    if not isinstance(place, str) or not isinstance(text, str):
        raise ManifestError(f"audio_filepath and text must be there, as text; the keys are {', '.join(values)}")
    return PurePosixPath(place), text, seconds(values.get("duration"), "duration")
