"""Earnings-22."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lithophone.data.corpora.layout import Part, folders_with, not_the_set, table
from lithophone.data.manifest import Entry
from lithophone.errors import ManifestError
from lithophone.transcript import Word


def earnings22(folder: Path) -> list[Part]:
    """media/CALL.mp3 and transcripts/nlp_references/CALL.nlp: full calls, as Rev scores them; no splits.

    Word times and speakers are from force_aligned_nlp_references, if present; unaligned words have none. Leaderboards
    use another set, short cuts of the calls.
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
