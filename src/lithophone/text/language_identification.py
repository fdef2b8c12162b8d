"""The language a text is written in, of the languages of the family, by py3langid (byte n-grams)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from lithophone.languages import LANGUAGES

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

NO_LETTERS = re.compile(r"[\W\d_]+")


def language_probabilities(text: str) -> dict[str, float]:
    """Probability of every language by code, the likeliest first; case and punctuation do not count.

    Uniform where the text has no evidence. n-grams are taken as independent, so a few words already give 0 or 1.
    """
    ranked = _identifier().rank(NO_LETTERS.sub(" ", text.lower()).strip())
    return {code: float(probability) for code, probability in ranked}


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(LANGUAGES))
    return identifier
