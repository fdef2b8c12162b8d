"""The language a text is written in, of the languages of the family, by py3langid (byte n-grams)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from lithophone.languages import LANGUAGES

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

NO_LETTERS = re.compile(r"[\W\d_]+")


def language_probabilities(
    text: str, languages: Sequence[str] = tuple(LANGUAGES), *, temperature: float = 1.0
) -> dict[str, float]:
    """Probability of each of `languages` by code, the likeliest first; case and punctuation do not count.

    Uniform where the text has no evidence. n-grams are taken as independent, so a few words already give 0 or 1;
    log probabilities are divided by `temperature`, which is higher where texts are misspelt.
    """
    ranked = dict(_identifier().rank(NO_LETTERS.sub(" ", text.lower()).strip()))
    scores = {code: float(ranked[code]) / temperature for code in languages}
    best = max(scores.values())
    weights = {code: math.exp(score - best) for code, score in scores.items()}
    total = sum(weights.values())
    return {code: weights[code] / total for code in sorted(weights, key=lambda code: -scores[code])}


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=False)
    identifier.set_languages(list(LANGUAGES))
    return identifier
