"""Punctuation error rate and capitals, as LibriSpeech-PC defines them (Meister et al. 2023, arXiv 2310.02943).

Tokens are words and marks. A word is a run of letters, digits and apostrophes, without apostrophes at its ends; a
character of Chinese or Japanese is a word of its own, and its full-width marks are the narrow ones. Every mark counts,
also one inside a number (`3.5`) or an abbreviation (`U.S.`), as in the published scorer; symbols that are neither are
not seen. Words are compared as they are written where marks are scored, and without case where capitals are.
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
"""The one symbol that stands for every mark while sequences are aligned; no word can hold it."""

ONE_FORM = str.maketrans("’‘ʼ。、，？！：；", "'''.,,?!:;")
CHARACTER = r"[々〆ぁ-ゖゝ-ゟァ-ヺー-ヿ㐀-䶿一-鿿豈-\ufaff\U00020000-\U0003ffff]"


@dataclass(frozen=True)
class PunctuationCounts(Counts):
    """Marks of the reference that were kept, changed or lost, and marks of the hypothesis that have no place in it."""

    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """PER = (D + I + S) / (C + D + I + S), in 0..1; 0 where there is no mark at all."""
        return self.errors / (self.correct + self.errors) if self.errors else 0.0


def punctuation_counts(reference: str, hypothesis: str, marks: str = MARKS) -> PunctuationCounts:
    """Align words and marks, every mark being the same symbol, and compare the marks that meet.

    An aligned pair of marks is correct or a substitution; a mark of the reference that meets no mark is a deletion, one
    of the hypothesis an insertion, also where they meet a word. Raises OptionError for marks that are letters or
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
    """Capitals of the words that match, aligned without case: of both (tp), of the hypothesis or the reference alone.

    A word is capitalised if its first letter is upper case (`3D`, `'Twas`, `ISBN`, not `iPhone`).
    """
    ref, hyp = (_tokens(text, "") for text in (reference, hypothesis))
    steps = align([word.casefold() for word in ref], [word.casefold() for word in hyp])
    pairs = [(is_capitalized(ref[i]), is_capitalized(hyp[j])) for i, j in _hits(steps)]
    return F1Counts(pairs.count((True, True)), pairs.count((False, True)), pairs.count((True, False)))


def is_capitalized(word: str) -> bool:
    """Is the first letter an upper-case one?"""
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
