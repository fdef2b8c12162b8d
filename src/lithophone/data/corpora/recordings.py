"""Long recordings: TED-LIUM and GigaSpeech in stretches, Earnings-22 whole."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lithophone.data.corpora.layout import Part, folders_with, not_the_set, table
from lithophone.data.manifest import Entry
from lithophone.data.nist import NOT_SCORED, stm_turns
from lithophone.errors import ManifestError
from lithophone.transcript import Word

GIGASPEECH_SPLITS = ("dev", "l", "m", "s", "test", "xl", "xs")
GIGASPEECH_MARKS = {"<COMMA>": ",", "<EXCLAMATIONPOINT>": "!", "<PERIOD>": ".", "<QUESTIONMARK>": "?"}
GIGASPEECH_NOT_SPEECH = frozenset({"<MUSIC>", "<NOISE>", "<OTHER>", "<SIL>"})

logger = logging.getLogger(__name__)


# --- TED-LIUM


def tedlium(folder: Path) -> list[Part]:
    """SPLIT/stm/TALK.stm and SPLIT/sph/TALK.sph of release 1, 2 or 3 (there in `legacy`); lower case, no marks.

    Stretches that nobody wrote down are left out, as scorers do. Clitics stand apart (`it 's`), `<unk>` is a word
    outside the vocabulary.
    """
    # Release 3 has a second division beside the legacy one, whose test set is everybody's.
    legacy = [path for path in (folder / "legacy", *sorted(folder.glob("*/legacy"))) if path.is_dir()]
    splits = folders_with(legacy[0] if legacy else folder, "stm/*.stm", 2)
    if not splits:
        raise not_the_set(folder, "SPLIT/stm/*.stm with SPLIT/sph")
    return [Part(root.name, "en", partial(_tedlium_entries, root)) for root in splits]


def _tedlium_entries(split: Path) -> Iterator[Entry]:
    for path in sorted((split / "stm").glob("*.stm")):
        for talk, turns in stm_turns(path).items():
            for number, turn in enumerate(turns):
                if turn.text and turn.text != NOT_SCORED:
                    yield Entry(
                        split / "sph" / f"{talk}.sph",
                        turn.text,
                        "en",
                        turn.end_s - turn.start_s,
                        speaker=turn.speaker or "",
                        name=f"{talk}-{number}",
                        start_s=turn.start_s,
                        end_s=turn.end_s,
                    )


# --- GigaSpeech


def gigaspeech(folder: Path) -> list[Part]:
    """GigaSpeech.json, all of it read at once, and audio/; upper case, the four marks written as marks.

    Segments without speech (`<SIL>`, `<MUSIC>`, `<NOISE>`, `<OTHER>`) are left out, as the set's own scorer does.
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


# --- Earnings-22


def earnings22(folder: Path) -> list[Part]:
    """media/CALL.mp3 and transcripts/nlp_references/CALL.nlp: whole calls, as Rev scores them. There are no splits.

    Words with times and speakers come from force_aligned_nlp_references, where that folder is; words that it could not
    align have none. Leaderboards score short cuts of the calls, which are another set.
    """
    roots = folders_with(folder, "transcripts/nlp_references/*.nlp", 1)
    if not roots:
        raise not_the_set(folder, "transcripts/nlp_references/*.nlp with media")
    return [Part("all", "en", partial(_earnings_entries, root)) for root in roots]


def _earnings_entries(root: Path) -> Iterator[Entry]:
    for path in sorted((root / "transcripts" / "nlp_references").glob("*.nlp")):
        tokens = table(path, ("prepunctuation", "token", "punctuation"), "|")
        text = " ".join("".join(token) for token in tokens)
        aligned = root / "transcripts" / "force_aligned_nlp_references" / f"{path.stem}.aligned.nlp"
        words = tuple(_earnings_words(aligned)) if aligned.is_file() else ()
        yield Entry(root / "media" / f"{path.stem}.mp3", text, "en", name=path.stem, words=words)


def _earnings_words(path: Path) -> Iterator[Word]:
    for text, speaker, start, end in table(path, ("token", "speaker", "ts", "endTs"), "|"):
        if start and end:
            try:
                yield Word(text, float(start), float(end), speaker=speaker)
            except ValueError as error:
                raise ManifestError(f"{path} has a time of {text!r} that is no number of seconds: {error}") from error
