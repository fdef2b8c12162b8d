"""Where to go on in a draft after the model has said something else. Pure functions of texts.

The tokens of draft and reply may differ in case, punctuation and split, which is why texts are compared and not ids;
and a wrong guess costs one pass, which is why the best one is made at once, without waiting for evidence.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def resume(taken: Sequence[str], rest: Sequence[str]) -> int:
    """How many tokens of a draft's rest are behind us once `taken` has been said in their place.

    Tokens are given as texts; only the joined texts are compared, so that `Hel` `lo` stands for `hello` once folded,
    and tokens without text stand for nothing. The answer is where the end of `taken` equals the draft and what comes
    before it differs least, counted in tokens changed, left out or added; where nothing is equal, a token for a token.
    """
    said = [text for text in taken if text]
    draft, ends = "".join(rest), [0, *accumulate(map(len, rest))]
    words = [0, *accumulate(text != "" for text in rest)]

    def difference(n: int) -> tuple[int, int, int]:
        unmatched, length = _common_end(said, draft, ends[n])
        skipped = words[bisect_right(ends, ends[n] - length, 1, n + 1) - 1]
        return max(unmatched, skipped), -length, abs(words[n] - len(said))

    return min(range(len(ends)), key=difference)


def _common_end(said: Sequence[str], draft: str, end: int) -> tuple[int, int]:
    """Match `said` token by token, from its last one, with what stands before `end` in the draft.

    -> how many tokens of `said` are left, and the length of the text that matched.
    """
    start = end
    for left in range(len(said), 0, -1):
        if not draft.endswith(said[left - 1], 0, start):
            return left, end - start
        start -= len(said[left - 1])
    return 0, end - start
