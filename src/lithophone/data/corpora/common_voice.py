"""Common Voice, and its translations, CoVoST 2."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lithophone.data.corpora.layout import Part, folders_with, not_the_set, table
from lithophone.data.manifest import Entry
from lithophone.errors import ManifestError

COMMON_VOICE_SPLITS = ("dev", "invalidated", "other", "test", "train", "validated")


def common_voice(folder: Path) -> list[Part]:
    """LANGUAGE/SPLIT.tsv and clips/; folder of a language, a release or releases. Punctuation, capitals."""
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
    """Early releases omit the suffix."""
    return root / "clips" / (name if name.endswith((".mp3", ".wav", ".flac")) else f"{name}.mp3")


def _clip_durations(path: Path) -> dict[str, float]:
    """Seconds by clip; empty before release 14."""
    if not path.is_file():
        return {}
    try:
        return {clip: int(ms) / 1000 for clip, ms in table(path, ("clip", "duration[ms]"))}
    except ValueError as error:
        raise ManifestError(f"{path} has a duration that is no number of milliseconds: {error}") from error


def covost2(folder: Path) -> list[Part]:
    """covost_v2.FROM_TO.SPLIT.tsv in a language folder of Common Voice 4, as by get_covost_splits.py.

    Splits are FROM_TO.SPLIT. `lang` is the language spoken, `text` the translation.
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
