"""The languages of the family; codes with region or script (`pt-BR`, `zh_CN`) count as their language."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """A language of the family."""

    code: str
    name: str
    """In prompts."""
    api_name: str
    """In OpenAI's API."""
    id: int
    """Language id in the encoder: a character label that no text has (a control character)."""
    letters: str | None = None
    """Latin letters with diacritics of its spelling; None without Latin letters."""
    spoken: bool = True
    """Base models transcribe it, not only translate to it."""
    plus: bool = True
    """Plus transcribes it."""
    spaced: bool = True
    """Words are separated by spaces."""


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

LANGUAGES = {code: language.name for code, language in TABLE.items()}
"""Code -> name in prompts."""

SOURCE_LANGUAGES = tuple(code for code, language in TABLE.items() if language.spoken)
"""Transcribed by base models."""

PLUS_SOURCE_LANGUAGES = tuple(code for code, language in TABLE.items() if language.plus)
"""Transcribed by plus."""

UNSPACED_LANGUAGES = frozenset(code for code, language in TABLE.items() if not language.spaced)
"""Without spaces between words; errors are counted by characters."""

PAIRS = frozenset(
    {(source, "en") for source in SOURCE_LANGUAGES if source != "en"}
    | {("en", target) for target in LANGUAGES if target != "en"}
)
"""Translations (from, to) in the base models' training."""


def base_language(lang: str | None) -> str:
    """`zh-CN` -> `zh`; "" for None."""
    return (lang or "").strip().lower().replace("_", "-").split("-")[0]


def is_language(lang: str, asked: str | None) -> bool:
    """Whether `lang` matches `asked`: `pt-BR` matches `pt` and `pt_br`, not `pt-PT`. None matches all."""
    if asked is None or base_language(lang) != base_language(asked):
        return asked is None
    regions = [code.strip().lower().replace("_", "-").partition("-")[2] for code in (lang, asked)]
    return "" in regions or regions[0] == regions[1]
