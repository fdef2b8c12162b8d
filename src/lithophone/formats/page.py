"""html: a transcript as a page for people, in one file without scripts and requests."""

from __future__ import annotations

import html
from collections.abc import Iterator

from lithophone.formats.cues import DEFAULT_CUES, CueOptions
from lithophone.formats.turns import Turn, clock, one_line, place, turns_of, written
from lithophone.languages import LANGUAGES, base_language
from lithophone.transcript import Segment, Transcript, TranscriptWarning, Word

SHADES = ((0.5, "c3"), (0.75, "c2"), (0.9, "c1"))
"""Classes of words whose confidence is below."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #595959; --paper: #fff; --line: #ddd;
  --c1: #fdf3dc; --c2: #fbe3b4; --c3: #f7cd85; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #a8a8a8; --paper: #161616; --line: #3a3a3a;
  --c1: #352d18; --c2: #4b3c18; --c3: #634d17; } }
body { margin: 2rem auto; max-width: 44rem; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin-bottom: 0; }
h2 { font-size: 1rem; margin: 1.5rem 0 0; border-top: 1px solid var(--line); padding-top: .75rem; }
p { margin: .4rem 0; }
time, .facts, footer { color: var(--soft); font-size: .875rem; font-weight: normal; }
time { font-variant-numeric: tabular-nums; margin-right: .5rem; }
.c1 { background: var(--c1); } .c2 { background: var(--c2); }
.c3 { background: var(--c3); text-decoration: underline dotted; }
"""


def to_html(transcript: Transcript, _: CueOptions = DEFAULT_CUES, recording: str = "recording") -> str:
    """Turns with speakers and times; words shaded by confidence, which is their title, too. HTML 5, light and dark."""
    turns = turns_of(transcript)
    title = _escaped(recording)
    language = base_language(transcript.language)
    lang = f' lang="{_escaped(language)}"' if language else ""
    shaded = any(word.confidence is not None for word in transcript.words)
    return "\n".join(
        [
            f"<!doctype html>\n<html{lang}>\n<head>",
            '<meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f'<header><h1>{title}</h1>\n<p class="facts">{_escaped(facts(transcript, turns))}</p></header>\n<main>',
            *(line for turn in turns for line in _turn(turn)),
            "</main>",
            *_footer(transcript.warnings, shaded),
            "</body>\n</html>\n",
        ]
    )


def facts(transcript: Transcript, turns: list[Turn]) -> str:
    """`12:34 · English · 2 speakers`, as far as known."""
    language = base_language(transcript.language)
    speakers = len({turn.speaker for turn in turns if turn.speaker})
    known = [clock(transcript.duration_s), LANGUAGES.get(language or "", language or "")]
    return " · ".join(fact for fact in [*known, f"{speakers} speakers" if speakers > 1 else ""] if fact)


def _turn(turn: Turn) -> Iterator[str]:
    yield "<section>"
    if turn.speaker:
        yield f"<h2>{_escaped(turn.speaker)}</h2>"
    for segment in turn.segments:
        yield f"<p>{_time(segment.start_s)}{_text(segment)}</p>"
    yield "</section>"


def _time(time_s: float) -> str:
    return f'<time datetime="PT{time_s:.3f}S">{clock(time_s)}</time>'


def _text(segment: Segment) -> str:
    """The text, each timed word in an element of its own."""
    text, at, parts = one_line(segment.text), 0, []
    for placed in place(segment.words, text):
        parts += [_escaped(text[at : placed.start]), _word(placed.word)]
        at = placed.end
    return "".join([*parts, _escaped(text[at:])])


def _word(word: Word) -> str:
    shade = next((name for bound, name in SHADES if word.confidence is not None and word.confidence < bound), "")
    confidence = "" if word.confidence is None else f", {word.confidence:.0%}"
    kind = f' class="{shade}"' if shade else ""
    return f'<span{kind} title="{word.start_s:.2f} s{confidence}">{_escaped(word.text)}</span>'


def _footer(warnings: tuple[TranscriptWarning, ...], shaded: bool) -> Iterator[str]:
    yield "<footer>"
    if shaded:
        yield (
            '<p>Confidence: <span class="c1">below 90 %</span> <span class="c2">below 75 %</span> '
            '<span class="c3">below 50 %</span>.</p>'
        )
    if warnings:
        rows = (f"<li>{_time(warning.start_s)}{_escaped(warning.message)}</li>" for warning in warnings)
        yield f"<details><summary>Warnings: {len(warnings)}</summary>\n<ul>{''.join(rows)}</ul>\n</details>"
    yield "</footer>"


def _escaped(text: str) -> str:
    return html.escape(written(text))
