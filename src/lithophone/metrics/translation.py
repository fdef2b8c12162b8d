"""Corpus BLEU and chrF++ by sacrebleu, with their signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from lithophone.errors import OptionError
from lithophone.languages import base_language

TOKENIZERS = {"ja": "ja-mecab", "zh": "zh"}
DEFAULT_TOKENIZER = "13a"
CHRF_WORD_ORDER = 2
"""Word bigrams, for chrF++ (Popović 2017)."""


@dataclass(frozen=True)
class TranslationScore:
    """Scores of a corpus, 0..100; they do not add."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def translation_score(references: Sequence[str], hypotheses: Sequence[str], lang: str) -> TranslationScore:
    """Score texts in `lang` as written, with case and punctuation.

    BLEU splits words by `ja-mecab` for Japanese, `zh` for Mandarin, else `13a`. Raises OptionError for lists that are
    empty or differ in length.
    """
    if len(references) != len(hypotheses) or not references:
        raise OptionError(
            f"{len(references)} references and {len(hypotheses)} hypotheses: there must be one of each for every clip, "
            "and at least one clip"
        )
    bleu = bleu_of(lang)
    chrf = CHRF(word_order=CHRF_WORD_ORDER)
    bleu_score, chrf_score = (metric.corpus_score(hypotheses, [references]).score for metric in (bleu, chrf))
    return TranslationScore(bleu_score, chrf_score, str(bleu.get_signature()), str(chrf.get_signature()))


def bleu_of(lang: str) -> BLEU:
    """BLEU of a language. Raises OptionError where its tokenizer is not installed."""
    tokenizer = TOKENIZERS.get(base_language(lang), DEFAULT_TOKENIZER)
    try:
        return BLEU(tokenize=tokenizer)
    except (ImportError, RuntimeError) as error:
        raise OptionError(f"BLEU in {lang} needs the tokenizer {tokenizer}: pip install 'lithophone[eval]'") from error
