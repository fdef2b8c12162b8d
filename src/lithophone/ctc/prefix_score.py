"""CTC prefix scores: how well the encoder's own labels agree with the beginning of a reply.

The recursion is that of Watanabe et al. 2017, "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition".
Over frames it is linear, so each of its two sums is one cumulative sum in the log domain: a label costs a few
operations on vectors of frames, for any number of prefixes at once, and no loop over frames.
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
    """The labels a reply begins with; `score` is the log-probability that what is said begins with them.

    `by_label` and `by_blank` (T,) are the log-probabilities of having spelled just them up to a frame, that frame's own
    label being the last of them, or the blank.
    """

    labels: tuple[int, ...]
    score: float
    by_label: Tensor
    by_blank: Tensor

    @property
    def complete(self) -> float:
        """Log-probability that the labels are all that is said."""
        return float(torch.logaddexp(self.by_label[-1], self.by_blank[-1]))


class PrefixScorer:
    """Scores prefixes against one utterance: log posteriors (T, V) of its labels, T of 1 or more, label 0 the blank.

    A wildcard has at every frame the probability of the best label there is.
    """

    def __init__(self, log_probs: Tensor) -> None:
        # In double precision and on the CPU: sums over hundreds of frames are subtracted from each other.
        log_probs = log_probs.detach().to("cpu", torch.float64)
        self._log_probs = torch.cat((log_probs, log_probs.amax(1, keepdim=True)), 1)
        self._blanks = self._log_probs[:, BLANK]
        silent = self._blanks.cumsum(0)
        self.empty = Prefix((), 0.0, torch.full_like(silent, -torch.inf), silent)
        best, path = log_probs.max(1)
        self._path = path.tolist()
        self._rest = best.sum() - best.cumsum(0)
        self.unscored = -math.log(log_probs.shape[1])
        """Log-probability of what has no label: of a label that might as well be any other."""

    def extend(self, prefixes: Sequence[Prefix], wanted: Sequence[Sequence[int]]) -> list[Prefix]:
        """Each prefix made to spell `wanted` instead: the longer a beginning they share, the less work it is."""
        found = [
            prefix if tuple(labels[: len(prefix.labels)]) == prefix.labels else self.empty
            for prefix, labels in zip(prefixes, wanted, strict=True)
        ]
        while short := [i for i, prefix in enumerate(found) if len(prefix.labels) < len(wanted[i])]:
            steps = [(found[i], wanted[i][len(found[i].labels)]) for i in short]
            # Many replies go on with the same label, a space above all.
            different = list(dict.fromkeys(steps))
            longer = dict(zip(different, self._append(*zip(*different, strict=True)), strict=True))
            for i, step in zip(short, steps, strict=True):
                found[i] = longer[step]
        return found

    def continuation(self, prefix: Prefix) -> list[int]:
        """Labels that the best path goes on with, behind the frame where the prefix most probably ends."""
        if not prefix.labels:
            return collapse(self._path)
        end = int((prefix.by_label + self._rest).argmax()) + 1
        labels = collapse(self._path[end:])
        held = labels and self._path[end] == prefix.labels[-1]
        return labels[1:] if held else labels

    def _append(self, prefixes: Sequence[Prefix], labels: Sequence[int]) -> list[Prefix]:
        """Each prefix longer by one label."""
        # WILDCARD, -1, is the last column.
        emitted = self._log_probs[:, list(labels)].T
        by_label = torch.stack([prefix.by_label for prefix in prefixes])
        by_blank = torch.stack([prefix.by_blank for prefix in prefixes])
        repeats = torch.tensor([p.labels[-1:] == (label,) for p, label in zip(prefixes, labels, strict=True)])
        # Only a blank parts a label from its repetition.
        free = torch.logaddexp(by_blank, by_label.masked_fill(repeats[:, None], -torch.inf))
        starts = torch.tensor([0.0 if not prefix.labels else -torch.inf for prefix in prefixes], dtype=free.dtype)
        entered = torch.cat((starts[:, None], free[:, :-1]), 1)
        scores = (entered + emitted).logsumexp(1)
        by_label = _held(entered, emitted)
        left = torch.cat((torch.full_like(starts, -torch.inf)[:, None], by_label[:, :-1]), 1)
        by_blank = _held(left, self._blanks.expand_as(left))
        rows = zip(prefixes, labels, scores.tolist(), by_label, by_blank, strict=True)
        return [Prefix((*p.labels, label), score, said, silent) for p, label, score, said, silent in rows]


def _held(entered: Tensor, emitted: Tensor) -> Tensor:
    """Of having entered a state just before each frame, and of what it emits (K, T) -> of being in it at each frame.

    h[t] = logaddexp(h[t - 1], entered[t]) + emitted[t], as a cumulative sum.
    """
    total = emitted.cumsum(1)
    return total + (entered - (total - emitted)).logcumsumexp(1)


assert WILDCARD == -1, "a wildcard is the last column of the posteriors"
