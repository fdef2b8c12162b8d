"""GigaSpeech, by segments."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lithophone.data.corpora.layout import Part, not_the_set
from lithophone.data.manifest import Entry
from lithophone.errors import ManifestError

GIGASPEECH_SPLITS = ("dev", "l", "m", "s", "test", "xl", "xs")

GIGASPEECH_MARKS = {"<COMMA>": ",", "<EXCLAMATIONPOINT>": "!", "<PERIOD>": ".", "<QUESTIONMARK>": "?"}

GIGASPEECH_NOT_SPEECH = frozenset({"<MUSIC>", "<NOISE>", "<OTHER>", "<SIL>"})

logger = logging.getLogger(__name__)


def gigaspeech(folder: Path) -> list[Part]:
    """GigaSpeech.json, read at once, and audio/; upper case, punctuation from tags.

    Segments tagged `<SIL>`, `<MUSIC>`, `<NOISE>` or `<OTHER>` are left out, as by the set's scorer.
    """
    path = folder / "GigaSpeech.json"
    if not path.is_file():
        raise not_the_set(folder, "GigaSpeech.json")
    return [Part(split, "en", partial(_gigaspeech_entries, path, split)) for split in GIGASPEECH_SPLITS]


def _gigaspeech_entries(path: Path, split: str) -> Iterator[Entry]:
    wanted, left_out = f"{{{split.upper()}}}", 0
    try:
        for recording in json.loads(path.read_text(encoding="utf-8"))["audios"]:
            for segment in recording["segments"]:
                if wanted not in segment["subsets"]:
                    continue
                if GIGASPEECH_NOT_SPEECH.isdisjoint(segment["text_tn"].split()):
                    yield _gigaspeech_entry(path.parent / recording["path"], segment)
                else:
                    left_out += 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path} cannot be read as the list of GigaSpeech: {error!r}") from error
    if left_out:
        logger.info("%d segments of GigaSpeech %s are no speech and left out", left_out, split)


def _gigaspeech_entry(audio: Path, segment: Mapping[str, Any]) -> Entry:
    text = segment["text_tn"]
    for tag, mark in GIGASPEECH_MARKS.items():
        text = text.replace(f" {tag}", mark)
    start_s, end_s = float(segment["begin_time"]), float(segment["end_time"])
    speaker = str(segment.get("speaker") or "")
    speaker = "" if speaker == "N/A" else speaker
    return Entry(audio, text, "en", end_s - start_s, "", speaker, segment["sid"], start_s=start_s, end_s=end_s)
