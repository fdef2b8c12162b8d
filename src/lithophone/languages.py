"""The languages of the family. Codes with a region or script (`pt-BR`, `zh_CN`) stand for their language."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """A language of the family."""

    code: str
    name: str
    """As prompts name it."""
    api_name: str
    """As OpenAI's API names it."""
    id: int
    """The character label that is its language id in the encoder: a control character, which no text has."""
    letters: str | None = None
    """Latin letters with diacritics that it is spelled with; None where it is not spelled in Latin letters."""
    spoken: bool = True
    """Whether the base models transcribe it; the others are targets of translation only."""
    plus: bool = True
    """Whether the plus model transcribes it."""
    spaced: bool = True
    """Whether words are separated by spaces."""


TABLE = {
    language.code: language
    for language in (
        Language("en", "English", "english", 1, "àâçèéêïñöü"),
        Language("fr", "French", "french", 2, "àâæçèéêëîïôùûüÿ"),
        Language("de", "German", "german", 3, "àäèéêöüß"),
        Language("es", "Spanish", "spanish", 4, "áéíñóúü"),
        Language("pt", "Portuguese", "portuguese", 5, "áàâãçéêíóôõúü"),
        Language("ja", "Japanese", "japanese", 6, plus=False, spaced=False),
        Language("it", "Italian", "italian", 7, "àèéìíîòóùú", spoken=False, plus=False),
        Language("zh", "Mandarin", "chinese", 8, spoken=False, plus=False, spaced=False),
    )
}
"""Every language by its code."""

LANGUAGES = {code: language.name for code, language in TABLE.items()}
"""Code -> the name that prompts use."""

SOURCE_LANGUAGES = tuple(code for code, language in TABLE.items() if language.spoken)
"""Languages that the base models transcribe."""

PLUS_SOURCE_LANGUAGES = tuple(code for code, language in TABLE.items() if language.plus)
"""Languages that the plus model transcribes."""

UNSPACED_LANGUAGES = frozenset(code for code, language in TABLE.items() if not language.spaced)
"""Languages written without spaces between words: their errors are counted by characters."""

PAIRS = frozenset(
    {(source, "en") for source in SOURCE_LANGUAGES if source != "en"}
    | {("en", target) for target in LANGUAGES if target != "en"}
)
"""The translations (from, to) that the base models were trained on."""


def base_language(lang: str | None) -> str:
    """`zh-CN` -> `zh`; "" for None."""
    return (lang or "").strip().lower().replace("_", "-").split("-")[0]


def is_language(lang: str, asked: str | None) -> bool:
    """Whether `lang` matches `asked`: `pt-BR` matches `pt` and `pt_br`, not `pt-PT`. None matches all."""
    if asked is None or base_language(lang) != base_language(asked):
        return asked is None
    regions = [code.strip().lower().replace("_", "-").partition("-")[2] for code in (lang, asked)]
    return "" in regions or regions[0] == regions[1]
