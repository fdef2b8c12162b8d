"""Where a draft continues after the model has decoded other tokens. Pure functions of texts.

Draft and reply may differ in case, punctuation and tokenization, so texts are compared and not ids. A wrong guess costs
one pass, so the best one is made at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def resume(taken: Sequence[str], rest: Sequence[str]) -> int:
    """How many tokens of the draft's `rest` the tokens `taken` stand for.

    Tokens are given as folded texts, and joined texts are compared, so that `hel` `lo` equals `hello`. The answer is
    where the end of `taken` equals the draft with the fewest substitutions, deletions and insertions of tokens before
    it; where nothing is equal, one token for each.
    """
    decoded = [text for text in taken if text]
    draft, ends = "".join(rest), [0, *accumulate(map(len, rest))]
    words = [0, *accumulate(text != "" for text in rest)]

    def difference(n: int) -> tuple[int, int, int]:
        unmatched, length = _common_end(decoded, draft, ends[n])
        skipped = words[bisect_right(ends, ends[n] - length, 1, n + 1) - 1]
        return max(unmatched, skipped), -length, abs(words[n] - len(decoded))

    return min(range(len(ends)), key=difference)


def _common_end(decoded: Sequence[str], draft: str, end: int) -> tuple[int, int]:
    """Match `decoded` token by token, from its last one, with the draft before `end`.

    -> how many tokens of `decoded` are left, and the length of the text that matched.
    """
    start = end
    for left in range(len(decoded), 0, -1):
        if not draft.endswith(decoded[left - 1], 0, start):
            return left, end - start
        start -= len(decoded[left - 1])
    return 0, end - start
