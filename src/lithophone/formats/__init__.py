"""Transcript -> content of a file: for programs, players, annotation tools and people (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Callable

from lithophone.errors import OptionError
from lithophone.formats.annotations import RECORDING, to_ctm, to_rttm, to_textgrid
from lithophone.formats.cues import DEFAULT_CUES, CueOptions
from lithophone.formats.documents import api_name, to_json, to_tsv, to_txt, to_verbose_json, verbose_dict
from lithophone.formats.page import to_html
from lithophone.formats.subtitles import to_srt, to_vtt, vtt_time
from lithophone.formats.word_document import to_docx
from lithophone.transcript import Transcript

FORMATS: dict[str, Callable[..., str]] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "json": to_json,
    "ctm": to_ctm,
    "rttm": to_rttm,
    "TextGrid": to_textgrid,
    "html": to_html,
    "verbose_json": to_verbose_json,
}
"""Writers of text by format name: `writer(transcript, cues=DEFAULT_CUES)`."""

BINARY: dict[str, Callable[..., bytes]] = {"docx": to_docx}
"""Writers of bytes."""

NAMED = ("ctm", "rttm", "html", "docx")
"""Formats that hold the name of the recording; their writers take `recording`."""

LISTS_RECORDINGS = ("ctm", "rttm")
"""Formats whose files may be joined, since every line names its recording."""

FILE_FORMATS = (*(name for name in FORMATS if name != "verbose_json"), *BINARY)
"""Formats of files, by suffix."""

SUBTITLES = ("srt", "vtt")
"""Formats that use `CueOptions`."""

WITH_WORDS = ("ctm", "TextGrid", "html")
"""Formats that are made of words with times and confidence, as far as these are known."""


def format_named(name: str) -> str:
    """The name in FILE_FORMATS, in any case of letters; OptionError for an unknown one."""
    known = {one.casefold(): one for one in FILE_FORMATS}
    if name.casefold() not in known:
        raise OptionError(f"unknown output format {name!r}; allowed are {', '.join(FILE_FORMATS)} and all")
    return known[name.casefold()]


def render(name: str, transcript: Transcript, cues: CueOptions = DEFAULT_CUES, recording: str = RECORDING) -> str:
    """The transcript in a format of text; `cues` apply to srt and vtt, `recording` names it in NAMED."""
    if name in BINARY:
        raise OptionError(f"{name} is no text: lithophone.formats.encode gives its bytes")
    if name not in FORMATS:
        raise OptionError(f"unknown format {name!r}; allowed are {', '.join(FORMATS)}")
    return FORMATS[name](transcript, cues, **({"recording": recording} if name in NAMED else {}))


def encode(name: str, transcript: Transcript, cues: CueOptions = DEFAULT_CUES, recording: str = RECORDING) -> bytes:
    """The bytes of a file in a format: UTF-8, with lone surrogates escaped (`\\udc80`), or docx. As `render`."""
    if name in BINARY:
        return BINARY[name](transcript, cues, recording)
    return render(name, transcript, cues, recording).encode(errors="backslashreplace")


__all__ = [
    "BINARY", "DEFAULT_CUES", "FILE_FORMATS", "FORMATS", "LISTS_RECORDINGS", "SUBTITLES", "WITH_WORDS", "CueOptions",
    "api_name", "encode", "format_named", "render", "to_ctm", "to_docx", "to_html", "to_json", "to_rttm", "to_srt",
    "to_textgrid", "to_tsv", "to_txt", "to_verbose_json", "to_vtt", "verbose_dict", "vtt_time",
]  # fmt: skip
