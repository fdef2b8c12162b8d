"""Transcript -> text of a file: txt, srt, vtt, tsv, json as openai/whisper, verbose_json as OpenAI's API."""

from __future__ import annotations

from collections.abc import Callable

from lithophone.formats.cues import DEFAULT_CUES, CueOptions
from lithophone.formats.documents import api_name, to_json, to_tsv, to_txt, to_verbose_json, verbose_dict
from lithophone.formats.subtitles import to_srt, to_vtt, vtt_time
from lithophone.transcript import Transcript

FORMATS: dict[str, Callable[..., str]] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "json": to_json,
    "verbose_json": to_verbose_json,
}
"""Writers by format name: `writer(transcript, cues=DEFAULT_CUES)`."""


def render(name: str, transcript: Transcript, cues: CueOptions = DEFAULT_CUES) -> str:
    """The transcript in a format; `cues` apply to srt and vtt."""
    return FORMATS[name](transcript, cues)


__all__ = [
    "DEFAULT_CUES", "FORMATS", "CueOptions", "api_name", "render", "to_json", "to_srt", "to_tsv", "to_txt",
    "to_verbose_json", "to_vtt", "verbose_dict", "vtt_time",
]  # fmt: skip
