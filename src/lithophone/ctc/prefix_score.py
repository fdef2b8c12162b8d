"""CTC prefix scores (Watanabe et al. 2017, "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition").

The recursion over frames is linear, so its two sums are cumulative sums in the log domain, for many prefixes at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lithophone.ctc.forced_alignment import BLANK, WILDCARD, collapse


@dataclass(frozen=True, eq=False)
class Prefix:
    """A prefix of labels; `score` is the log probability of all label sequences that begin with it.

    `by_label`, `by_blank` (T,): log probability of the paths up to each frame that collapse to the prefix and end in
    its last label, or in the blank.
    """

    labels: tuple[int, ...]
    score: float
    by_label: Tensor
    by_blank: Tensor

    @property
    def complete(self) -> float:
        """Log probability of exactly these labels."""
        return float(torch.logaddexp(self.by_label[-1], self.by_blank[-1]))


class PrefixScorer:
    """Prefix scores by the log posteriors (T, V) of one utterance, T at least 1, label 0 the blank.

    A wildcard has the best label's probability at every frame.
    """

    def __init__(self, log_probs: Tensor) -> None:
        # float64: sums over hundreds of frames are subtracted from each other.
        log_probs = log_probs.detach().to("cpu", torch.float64)
        best, path = log_probs.max(1)
        self._log_probs = torch.cat((log_probs, best[:, None]), 1)
        self._blanks = self._log_probs[:, BLANK]
        blanks = self._blanks.cumsum(0)
        self.empty = Prefix((), 0.0, torch.full_like(blanks, -torch.inf), blanks)
        self._path = path.tolist()
        self._rest = best.sum() - best.cumsum(0)
        self.unscored = -math.log(log_probs.shape[1])
        """Log score of a character without a label."""

    def extend(self, prefixes: Sequence[Prefix], wanted: Sequence[Sequence[int]]) -> list[Prefix]:
        """Prefixes of the `wanted` labels, extended from `prefixes`."""
        found = [
            prefix if tuple(labels[: len(prefix.labels)]) == prefix.labels else self.empty
            for prefix, labels in zip(prefixes, wanted, strict=True)
        ]
        while short := [i for i, prefix in enumerate(found) if len(prefix.labels) < len(wanted[i])]:
            steps = [(found[i], wanted[i][len(found[i].labels)]) for i in short]
            # Many hypotheses add the same label.
            different = list(dict.fromkeys(steps))
            longer = dict(zip(different, self._append(*zip(*different, strict=True)), strict=True))
            for i, step in zip(short, steps, strict=True):
                found[i] = longer[step]
        return found

    def continuation(self, prefix: Prefix) -> list[int]:
        """Labels of the best path behind the most probable end of the prefix."""
        if not prefix.labels:
            return collapse(self._path)
        end = int((prefix.by_label + self._rest).argmax()) + 1
        labels = collapse(self._path[end:])
        repeated = labels and self._path[end] == prefix.labels[-1]
        return labels[1:] if repeated else labels

    def _append(self, prefixes: Sequence[Prefix], labels: Sequence[int]) -> list[Prefix]:
        # WILDCARD, -1, is the last column.
        emitted = self._log_probs[:, list(labels)].T
        by_label = torch.stack([prefix.by_label for prefix in prefixes])
        by_blank = torch.stack([prefix.by_blank for prefix in prefixes])
        repeats = torch.tensor([p.labels[-1:] == (label,) for p, label in zip(prefixes, labels, strict=True)])
        # Only a blank separates a label from its repetition.
        free = torch.logaddexp(by_blank, by_label.masked_fill(repeats[:, None], -torch.inf))
        starts = torch.tensor([0.0 if not prefix.labels else -torch.inf for prefix in prefixes], dtype=free.dtype)
        entered = torch.cat((starts[:, None], free[:, :-1]), 1)
        scores = (entered + emitted).logsumexp(1)
        by_label = _held(entered, emitted)
        left = torch.cat((torch.full_like(starts, -torch.inf)[:, None], by_label[:, :-1]), 1)
        by_blank = _held(left, self._blanks.expand_as(left))
        rows = zip(prefixes, labels, scores.tolist(), by_label, by_blank, strict=True)
        return [Prefix((*prefix.labels, label), *sums) for prefix, label, *sums in rows]


def _held(entered: Tensor, emitted: Tensor) -> Tensor:
    """Entering scores and emissions of a state (K, T) -> log probability of being in it at each frame.

    h[t] = logaddexp(h[t - 1], entered[t]) + emitted[t], as a cumulative sum.
    """
    total = emitted.cumsum(1)
    return total + (entered - (total - emitted)).logcumsumexp(1)


assert WILDCARD == -1, "a wildcard is the last column of the posteriors"
