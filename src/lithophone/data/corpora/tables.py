"""Clips listed in tables: Common Voice, CoVoST 2, FLEURS, VoxPopuli, SPGISpeech."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lithophone.data.corpora.layout import Part, first_file, folders_with, not_the_set, table
from lithophone.data.manifest import Entry
from lithophone.errors import ManifestError

COMMON_VOICE_SPLITS = ("dev", "invalidated", "other", "test", "train", "validated")

FLEURS_SPLITS = ("dev", "test", "train")
FLEURS_COLUMNS = ("id", "file_name", "raw_transcription", "transcription", "characters", "num_samples", "gender")
FLEURS_RATE_HZ = 16_000


# --- Common Voice and the translations of it


def common_voice(folder: Path) -> list[Part]:
    """LANGUAGE/SPLIT.tsv and clips/; the folder of one language, of a release, or of releases. Marks and capitals."""
    languages = folders_with(folder, "clips", depth=2)
    parts = [
        Part(split, root.absolute().name, partial(_common_voice_entries, root / f"{split}.tsv"))
        for root in languages
        for split in COMMON_VOICE_SPLITS
        if (root / f"{split}.tsv").is_file()
    ]
    if not parts:
        raise not_the_set(folder, "LANGUAGE/clips with LANGUAGE/test.tsv or another split")
    return parts


def _common_voice_entries(path: Path) -> Iterator[Entry]:
    lang, durations_s = path.parent.absolute().name, _clip_durations(path.with_name("clip_durations.tsv"))
    for speaker, name, text in table(path, ("client_id", "path", "sentence")):
        audio = _clip(path.parent, name)
        yield Entry(audio, text, lang, durations_s.get(audio.name), speaker=speaker, name=audio.name)


def _clip(root: Path, name: str) -> Path:
    """Early releases leave the suffix of the file out."""
    return root / "clips" / (name if name.endswith((".mp3", ".wav", ".flac")) else f"{name}.mp3")


def _clip_durations(path: Path) -> dict[str, float]:
    """Seconds by clip; releases before 14 have no such table."""
    if not path.is_file():
        return {}
    try:
        return {clip: int(ms) / 1000 for clip, ms in table(path, ("clip", "duration[ms]"))}
    except ValueError as error:
        raise ManifestError(f"{path} has a duration that is no number of milliseconds: {error}") from error


def covost2(folder: Path) -> list[Part]:
    """covost_v2.FROM_TO.SPLIT.tsv in the folder of a language of Common Voice 4, as get_covost_splits.py writes it.

    A split is called FROM_TO.SPLIT. The language of an entry is the one that is spoken, its text the translation.
    """
    paths = sorted(
        p for root in folders_with(folder, "covost_v2.*_*.*.tsv", 2) for p in root.glob("covost_v2.*_*.*.tsv")
    )
    if not paths:
        raise not_the_set(folder, "LANGUAGE/covost_v2.FROM_TO.SPLIT.tsv, which get_covost_splits.py of CoVoST writes")
    splits = {path: path.name.removeprefix("covost_v2.").removesuffix(".tsv") for path in paths}
    return [
        Part(split, split.split("_")[0], partial(_covost_entries, path, split.split("_")[0]))
        for path, split in splits.items()
    ]


def _covost_entries(path: Path, lang: str) -> Iterator[Entry]:
    for name, translation, speaker in table(path, ("path", "translation", "client_id")):
        audio = _clip(path.parent, name)
        yield Entry(audio, translation, lang, speaker=speaker, name=audio.name)


# --- FLEURS


def fleurs(folder: Path) -> list[Part]:
    """data/LOCALE/SPLIT.tsv, without a header, and audio/SPLIT/ (or SPLIT/) with the WAVs; marks and capitals."""
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


# --- VoxPopuli


def voxpopuli(folder: Path) -> list[Part]:
    """LANGUAGE/asr_SPLIT.tsv with LANGUAGE/YEAR/ID.ogg, as get_asr_data.py writes it, or with the hub's SPLIT/*/ID.wav.

    The text is the written one, with marks and capitals, and the normalised one where the set has no other.
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


# --- SPGISpeech


def spgispeech(folder: Path) -> list[Part]:
    """SPLIT.csv, `wav_filename|wav_filesize|transcript`, and SPLIT/CALL/NUMBER.wav; marks, capitals and numbers."""
    paths = [path for root in folders_with(folder, "*.csv", 1) for path in sorted(root.glob("*.csv"))]
    paths = [path for path in paths if path.with_suffix("").is_dir()]
    if not paths:
        raise not_the_set(folder, "val.csv with a folder val")
    return [Part(path.stem, "en", partial(_spgispeech_entries, path)) for path in paths]


def _spgispeech_entries(path: Path) -> Iterator[Entry]:
    for name, text in table(path, ("wav_filename", "transcript"), "|"):
        yield Entry(path.with_suffix("") / name, text, "en", name=name)
