"""docx: a transcript for people, in the fewest parts of Office Open XML (ECMA-376) that Word opens."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from lithophone.formats.cues import DEFAULT_CUES, CueOptions
from lithophone.formats.page import facts
from lithophone.formats.turns import Turn, clock, one_line, turns_of, written
from lithophone.transcript import Transcript

XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
OFFICE = "http://schemas.openxmlformats.org"
DOCUMENT = "application/vnd.openxmlformats-officedocument.wordprocessingml"
WORDS = f'xmlns:w="{OFFICE}/wordprocessingml/2006/main"'
CORE = f"{OFFICE}/package/2006/metadata/core-properties"

TYPES = f"""{XML}<Types xmlns="{OFFICE}/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Override PartName="/word/document.xml" ContentType="{DOCUMENT}.document.main+xml"/>
<Override PartName="/word/styles.xml" ContentType="{DOCUMENT}.styles+xml"/>
<Override PartName="/docProps/core.xml" ContentType="application/vnd.openxmlformats-package.core-properties+xml"/>
</Types>"""

STYLES = f"""{XML}<w:styles {WORDS}>
<w:docDefaults>
<w:rPrDefault><w:rPr><w:rFonts w:ascii="Calibri" w:hAnsi="Calibri" w:eastAsia="Yu Gothic" w:cs="Calibri"/>
<w:sz w:val="22"/>%s</w:rPr></w:rPrDefault>
<w:pPrDefault><w:pPr><w:spacing w:after="120" w:line="276" w:lineRule="auto"/></w:pPr></w:pPrDefault>
</w:docDefaults>
<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/></w:style>
<w:style w:type="paragraph" w:styleId="Title"><w:name w:val="Title"/><w:basedOn w:val="Normal"/>
<w:rPr><w:b/><w:sz w:val="36"/></w:rPr></w:style>
<w:style w:type="paragraph" w:styleId="Subtitle"><w:name w:val="Subtitle"/><w:basedOn w:val="Normal"/>
<w:rPr><w:color w:val="595959"/></w:rPr></w:style>
<w:style w:type="paragraph" w:styleId="Heading2"><w:name w:val="heading 2"/><w:basedOn w:val="Normal"/>
<w:next w:val="Normal"/><w:pPr><w:keepNext/><w:spacing w:before="240" w:after="60"/><w:outlineLvl w:val="1"/></w:pPr>
<w:rPr><w:b/></w:rPr></w:style>
<w:style w:type="character" w:styleId="Time"><w:name w:val="Time"/>
<w:rPr><w:color w:val="595959"/><w:sz w:val="18"/></w:rPr></w:style>
</w:styles>"""

"""With a place for the language."""

FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""Of all parts, so that equal transcripts are equal bytes."""


def to_docx(transcript: Transcript, _: CueOptions = DEFAULT_CUES, recording: str = "recording") -> bytes:
    """Title, length and speakers; a heading for each speaker's turn, a paragraph with its time for each segment."""
    parts = {
        "[Content_Types].xml": TYPES,
        "_rels/.rels": _relations(
            ("officeDocument", f"{OFFICE}/officeDocument/2006/relationships/officeDocument", "word/document.xml"),
            ("core", f"{OFFICE}/package/2006/relationships/metadata/core-properties", "docProps/core.xml"),
        ),
        "docProps/core.xml": _core(recording),
        "word/_rels/document.xml.rels": _relations(
            ("styles", f"{OFFICE}/officeDocument/2006/relationships/styles", "styles.xml")
        ),
        "word/styles.xml": STYLES % _language(transcript.language),
        "word/document.xml": _document(transcript, recording),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(zipfile.ZipInfo(name, FIRST_DATE), text, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _relations(*relations: tuple[str, str, str]) -> str:
    rows = (f'<Relationship Id="{id}" Type="{kind}" Target="{target}"/>' for id, kind, target in relations)
    return f'{XML}<Relationships xmlns="{OFFICE}/package/2006/relationships">{"".join(rows)}</Relationships>'


def _language(language: str | None) -> str:
    """Of the spelling checker; none where it is unknown."""
    code = quoteattr(written(language or ""))
    return f"<w:lang w:val={code} w:eastAsia={code}/>" if language else ""


def _core(title: str) -> str:
    names = f'xmlns:cp="{CORE}" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    return f"{XML}<cp:coreProperties {names}><dc:title>{_escaped(title)}</dc:title></cp:coreProperties>"


def _document(transcript: Transcript, title: str) -> str:
    turns = turns_of(transcript)
    paragraphs = [
        _paragraph("Title", _run(title)),
        _paragraph("Subtitle", _run(facts(transcript, turns))),
        *(paragraph for turn in turns for paragraph in _turn(turn)),
    ]
    return f"{XML}<w:document {WORDS}><w:body>{''.join(paragraphs)}</w:body></w:document>"


def _turn(turn: Turn) -> Iterator[str]:
    if turn.speaker:
        yield _paragraph("Heading2", _run(turn.speaker))
    for segment in turn.segments:
        yield _paragraph("Normal", _run(f"{clock(segment.start_s)} ", "Time"), _run(one_line(segment.text)))


def _paragraph(style: str, *runs: str) -> str:
    return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr>{"".join(runs)}</w:p>'


def _run(text: str, style: str = "") -> str:
    kind = f'<w:rPr><w:rStyle w:val="{style}"/></w:rPr>' if style else ""
    return f'<w:r>{kind}<w:t xml:space="preserve">{_escaped(text)}</w:t></w:r>'


def _escaped(text: str) -> str:
    return escape(written(text))
