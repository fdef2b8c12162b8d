"""Where a draft continues after other tokens have been decoded.

Texts are compared, not ids: draft and reply may differ in case, punctuation and tokenization.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def resume(taken: Sequence[str], rest: Sequence[str]) -> int:
    """How many tokens of the draft's `rest` the decoded tokens `taken` stand for.

    Texts are folded and joined: `hel` `lo` equals `hello`. The result is where the end of `taken` equals the draft with
    the fewest edits before it; where nothing is equal, one token for each.
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
    """Match `decoded`, from its last token, with the draft before `end` -> tokens left over, characters matched."""
    start = end
    for left in range(len(decoded), 0, -1):
        if not draft.endswith(decoded[left - 1], 0, start):
            return left, end - start
        start -= len(decoded[left - 1])
    return 0, end - start
