"""Levenshtein alignments of two token sequences at unit cost, which differ in how ties are resolved.

`align` is rapidfuzz's, as in jiwer; `align_diagonally` that of LibriSpeech-PC's scorer (NeMo,
`nemo/collections/common/metrics/punct_er.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from rapidfuzz.distance import Levenshtein


class Op(str, Enum):
    HIT = "hit"
    SUBSTITUTE = "substitute"
    DELETE = "delete"
    INSERT = "insert"


@dataclass(frozen=True)
class Step:
    """One step: indices into reference (None for an insertion) and hypothesis (None for a deletion)."""

    op: Op
    reference: int | None
    hypothesis: int | None


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Step]:
    """Steps from reference to hypothesis at the smallest distance, in order."""
    steps: list[Step] = []
    for block in Levenshtein.opcodes(reference, hypothesis):
        ref, hyp = range(block.src_start, block.src_end), range(block.dest_start, block.dest_end)
        if block.tag == "delete":
            steps += (Step(Op.DELETE, i, None) for i in ref)
        elif block.tag == "insert":
            steps += (Step(Op.INSERT, None, j) for j in hyp)
        else:
            op = Op.HIT if block.tag == "equal" else Op.SUBSTITUTE
            steps += (Step(op, i, j) for i, j in zip(ref, hyp, strict=True))
    return steps


def align_diagonally(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Step]:
    """As `align`, ties resolved from the end: a hit where the tokens are equal, else a substitution, else an insertion.

    Columns of the distance matrix are bit vectors in Python's integers (Hyyrö 2003, "A bit-vector algorithm for
    computing Levenshtein and Damerau edit distances").
    """
    columns = list(_columns(reference, hypothesis))
    i, j = len(reference), len(hypothesis)
    backwards: list[Step] = []
    while i and j:
        free, rising = (bits >> (i - 1) & 1 for bits in columns[j - 1])
        equal = reference[i - 1] == hypothesis[j - 1]
        if equal or not free:
            i, j = i - 1, j - 1
            backwards.append(Step(Op.HIT if equal else Op.SUBSTITUTE, i, j))
        elif rising:
            j -= 1
            backwards.append(Step(Op.INSERT, None, j))
        else:
            i -= 1
            backwards.append(Step(Op.DELETE, i, None))
    backwards += (Step(Op.INSERT, None, n) for n in reversed(range(j)))
    backwards += (Step(Op.DELETE, n, None) for n in reversed(range(i)))
    return backwards[::-1]


def _columns(reference: Sequence[str], hypothesis: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Two bit vectors for every token of the hypothesis, bit i for row i + 1 of the distances D.

    Bits of the first: D[i, j] = D[i-1, j-1]; of the second: D[i, j] = D[i, j-1] + 1.
    """
    where: dict[str, int] = {}
    for i, token in enumerate(reference):
        where[token] = where.get(token, 0) | 1 << i
    every = (1 << len(reference)) - 1
    up, down = every, 0
    for token in hypothesis:
        equal = where.get(token, 0)
        free = ((((equal & up) + up) ^ up) | equal | down) & every
        rising = down | (every & ~(free | up))
        falling = free & up
        yield free, rising
        rising, falling = (rising << 1 | 1) & every, falling << 1 & every
        up, down = falling | (every & ~(free | rising)), rising & free
