"""The slow and obvious alignment: a full matrix of distances, walked from its end. It judges the fast ones."""

from __future__ import annotations

from collections.abc import Sequence

from lithophone.metrics.alignment import Op, Step


def distances(reference: Sequence[str], hypothesis: Sequence[str]) -> list[list[int]]:
    """D[i][j]: edits between the first i tokens of the reference and the first j of the hypothesis."""
    table = [[i + j for j in range(len(hypothesis) + 1)] for i in range(len(reference) + 1)]
    for i, said in enumerate(reference, start=1):
        for j, heard in enumerate(hypothesis, start=1):
            table[i][j] = min(table[i - 1][j - 1] + (said != heard), table[i - 1][j] + 1, table[i][j - 1] + 1)
    return table


def walk(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Step]:
    """From the end: a hit where tokens are equal, else the first of substitution, insertion, deletion that is best."""
    table = distances(reference, hypothesis)
    i, j = len(reference), len(hypothesis)
    steps: list[Step] = []
    while i or j:
        here = table[i][j]
        if i and j and reference[i - 1] == hypothesis[j - 1]:
            i, j = i - 1, j - 1
            steps.append(Step(Op.HIT, i, j))
        elif i and j and table[i - 1][j - 1] + 1 == here:
            i, j = i - 1, j - 1
            steps.append(Step(Op.SUBSTITUTE, i, j))
        elif j and table[i][j - 1] + 1 == here:
            j -= 1
            steps.append(Step(Op.INSERT, None, j))
        else:
            i -= 1
            steps.append(Step(Op.DELETE, i, None))
    return steps[::-1]
