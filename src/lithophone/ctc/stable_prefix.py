"""Local agreement (arXiv 2005.11185): of the best paths of a growing utterance, the text that two passes share.

Stable text is whole words, or single kana, and is never rewritten. It covers the frames before a boundary; behind that
the latest path is the unstable text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lithophone.ctc.characters import labels_text
from lithophone.ctc.forced_alignment import BLANK, runs

SPACE = ord(" ")
SPACES = re.compile(" +")
FIRST_KANA = 256

Label = tuple[int, int, int]
"""Label, its first frame, its last frame + 1."""


class StablePrefix:
    """The text of one utterance so far: `stable` grows at its end only, `unstable` follows it."""

    def __init__(self) -> None:
        self.stable = self.unstable = ""
        self._before: list[Label] = []
        """Path of the last pass, from the boundary on."""
        self._boundary = 0
        """First frame that `stable` does not cover."""

    def update(self, path: Sequence[int]) -> None:
        """The best label of every frame so far, blanks among them."""
        labels = [(label, *span) for label, span in runs(path, BLANK) if sum(span) > 2 * self._boundary]
        agreed = _whole_words(labels[: _agreement(self._before, labels)])
        if agreed:
            self.stable = _joined(self.stable, _text(labels[:agreed]))
            self._boundary = _boundary_behind(labels, agreed)
            labels = labels[agreed:]
        self._before = labels
        self.unstable = _joined(self.stable, _text(labels))[len(self.stable) :]


def _agreement(before: Sequence[Label], now: Sequence[Label]) -> int:
    """Labels at the beginning that are the same in both."""
    same = (a[0] == b[0] for a, b in zip(before, now, strict=False))
    return next((number for number, equal in enumerate(same) if not equal), min(len(before), len(now)))


def _whole_words(labels: Sequence[Label]) -> int:
    """Labels up to the last end of a word: a space, or a kana that another label follows."""
    ends = (
        number
        for number in range(len(labels), 0, -1)
        if labels[number - 1][0] == SPACE or (labels[number - 1][0] >= FIRST_KANA and number < len(labels))
    )
    return next(ends, 0)


def _boundary_behind(labels: Sequence[Label], number: int) -> int:
    """The frame behind `number` labels: the end of a space, which may come twice, else half way to the next label."""
    label, _, end = labels[number - 1]
    return end if label == SPACE or number == len(labels) else (end + labels[number][1]) // 2


def _text(labels: Sequence[Label]) -> str:
    return labels_text([label for label, _, _ in labels])


def _joined(stable: str, text: str) -> str:
    """Both texts, with single spaces and none at the beginning."""
    text = SPACES.sub(" ", text)
    return stable + (text.lstrip(" ") if not stable or stable.endswith(" ") else text)
