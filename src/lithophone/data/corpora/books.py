"""Read speech with a text file for every folder or sentence: LibriSpeech, LibriSpeech-PC, MLS, TIMIT."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from lithophone.data.corpora.layout import Part, first_file, folders_with, not_the_set
from lithophone.data.manifest import Entry, json_object, parsed_lines, seconds
from lithophone.errors import ManifestError
from lithophone.transcript import Word

LIBRISPEECH_SPLITS = (
    "dev-clean", "dev-other", "test-clean", "test-other", "train-clean-100", "train-clean-360", "train-other-500",
)  # fmt: skip

MLS_LANGUAGES = {
    "dutch": "nl", "english": "en", "french": "fr", "german": "de", "italian": "it", "polish": "pl",
    "portuguese": "pt", "spanish": "es",
}  # fmt: skip

TIMIT_RATE_HZ = 16_000
"""Its times are numbers of samples."""


# --- LibriSpeech


def librispeech(folder: Path) -> list[Part]:
    """SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt and a FLAC for every line; upper case, no marks."""
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


# --- LibriSpeech-PC


def librispeech_pc(folder: Path) -> list[Part]:
    """SPLIT.json, JSON lines with punctuated text, and LibriSpeech itself in the folder, in it or beside it."""
    lists = sorted(path for split in LIBRISPEECH_SPLITS for path in folder.rglob(f"{split}.json"))
    if not lists:
        raise not_the_set(folder, f"SPLIT.json, SPLIT being {', '.join(LIBRISPEECH_SPLITS)}")
    return [Part(path.stem, "en", partial(_librispeech_pc_entries, path, folder)) for path in lists]


def _librispeech_pc_entries(path: Path, folder: Path) -> Iterator[Entry]:
    for _, (place, text, duration_s) in parsed_lines(path, _librispeech_pc_line):
        # Publishers and scripts write different folders in front of split, speaker, chapter and file.
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


# --- MLS


def mls(folder: Path) -> list[Part]:
    """mls_LANGUAGE/SPLIT/transcripts.txt, segments.txt and audio/SPEAKER/BOOK/ID.flac (or .opus); no marks."""
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
    """`ID url start end`: where in the book of LibriVox a clip was cut out."""
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


# --- TIMIT


def timit(folder: Path) -> list[Part]:
    """SPLIT/DIALECT/SPEAKER/SENTENCE.TXT, .WRD and .WAV, in upper or lower case; words have times.

    All sentences are read, the two of dialect (SA1, SA2) that every speaker says among them.
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
