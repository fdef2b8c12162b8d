"""Punctuation error rate and F1 of capitals of LibriSpeech-PC (Meister et al. 2023, arXiv 2310.02943).

Tokens are words (runs of letters, digits and inner apostrophes; single Chinese and Japanese characters) and marks;
full-width marks equal narrow ones. Marks inside `3.5` and `U.S.` count, as in the published scorer; symbols are
dropped. Words are compared as written for marks, without case for capitals.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

from lithophone.errors import OptionError
from lithophone.metrics.alignment import Op, Step, align, align_diagonally
from lithophone.metrics.counts import Counts, F1Counts

MARKS = ".,?"
MARK = "\0"
"""Symbol that stands for every mark in the alignment."""

ONE_FORM = str.maketrans("’‘ʼ。、，？！：；", "'''.,,?!:;")
CHARACTER = r"[々〆ぁ-ゖゝ-ゟァ-ヺー-ヿ㐀-䶿一-鿿豈-\ufaff\U00020000-\U0003ffff]"


@dataclass(frozen=True)
class PunctuationCounts(Counts):
    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """PER = (D + I + S) / (C + D + I + S), 0..1; 0 without marks."""
        return self.errors / (self.correct + self.errors) if self.errors else 0.0


def punctuation_counts(reference: str, hypothesis: str, marks: str = MARKS) -> PunctuationCounts:
    """Align words and marks, all marks equal, then compare the marks of aligned pairs.

    A mark aligned with a word, or nothing, is a deletion or insertion. Raises OptionError for marks that are letters or
    digits.
    """
    ref, hyp = _tokens(reference, marks), _tokens(hypothesis, marks)
    if ref == hyp:
        return PunctuationCounts(correct=sum(token in marks for token in ref))
    pairs = [
        (ref[step.reference], hyp[step.hypothesis])
        for step in align_diagonally(_masked(ref, marks), _masked(hyp, marks))
        if step.reference is not None and step.hypothesis is not None
    ]
    met = [(a, b) for a, b in pairs if a in marks and b in marks]
    correct = sum(a == b for a, b in met)
    deletions, insertions = (sum(token in marks for token in tokens) - len(met) for tokens in (ref, hyp))
    return PunctuationCounts(correct, len(met) - correct, deletions, insertions)


def capital_counts(reference: str, hypothesis: str) -> F1Counts:
    """Capitalised words (`3D`, `'Twas`, `ISBN`, not `iPhone`) among those that match without case."""
    ref, hyp = (_tokens(text, "") for text in (reference, hypothesis))
    steps = align([word.casefold() for word in ref], [word.casefold() for word in hyp])
    pairs = [(is_capitalized(ref[i]), is_capitalized(hyp[j])) for i, j in _hits(steps)]
    return F1Counts(pairs.count((True, True)), pairs.count((False, True)), pairs.count((True, False)))


def is_capitalized(word: str) -> bool:
    first = next(filter(str.isalpha, word), "")
    return first != first.lower()


def _hits(steps: list[Step]) -> list[tuple[int, int]]:
    pairs = ((step.reference, step.hypothesis) for step in steps if step.op is Op.HIT)
    return [(i, j) for i, j in pairs if i is not None and j is not None]


def _tokens(text: str, marks: str) -> list[str]:
    text = unicodedata.normalize("NFC", text).translate(ONE_FORM)
    tokens = (token.strip("'") for token in _pattern(marks).findall(text))
    return [token for token in tokens if token]


def _masked(tokens: list[str], marks: str) -> list[str]:
    return [MARK if token in marks else token for token in tokens]


@functools.cache
def _pattern(marks: str) -> re.Pattern[str]:
    wrong = [mark for mark in marks if re.fullmatch(r"[\w\s']", mark)]
    if wrong:
        raise OptionError(f"{', '.join(map(repr, wrong))} cannot be marks: only symbols can, such as {MARKS!r}")
    choices = [CHARACTER, rf"(?:(?!{CHARACTER})[\w'])+", *map(re.escape, marks)]
    return re.compile("|".join(choices))
