"""CTC prefix scores (Watanabe et al. 2017, "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition").

The recursion over frames is linear, so its two sums are cumulative sums in the log domain, for many prefixes of
several utterances at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lithophone.ctc.forced_alignment import BLANK, WILDCARD, collapse

NEVER = -1e300
"""Log probability behind the frames of an utterance: finite, since sums over frames are subtracted."""


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

    def alone(self) -> Prefix:
        """With memory of its own, not as rows of what was computed together."""
        return Prefix(self.labels, self.score, self.by_label.clone(), self.by_blank.clone())


class PrefixScorer:
    """Prefix scores by the log posteriors (T, V) of one utterance, T at least 1, label 0 the blank.

    A wildcard has the best label's probability at every frame.
    """

    def __init__(self, log_probs: Tensor) -> None:
        # float64: sums over hundreds of frames are subtracted from each other.
        log_probs = log_probs.detach().to("cpu", torch.float64)
        best, path = log_probs.max(1)
        self._emissions = torch.cat((log_probs, best[:, None]), 1).T.contiguous()
        self._blanks = self._emissions[BLANK]
        blanks = self._blanks.cumsum(0)
        self.empty = Prefix((), 0.0, torch.full_like(blanks, -torch.inf), blanks)
        self._path = path.tolist()
        self.frames = len(self._path)
        self._rest = best.sum() - best.cumsum(0)
        self.unscored = -math.log(log_probs.shape[1])
        """Log score of a character without a label."""

    def extend(self, prefixes: Sequence[Prefix], wanted: Sequence[Sequence[int]]) -> list[Prefix]:
        """Prefixes of the `wanted` labels, extended from `prefixes`."""
        return extend_together([Extension(self, *pair) for pair in zip(prefixes, wanted, strict=True)])

    def continuation(self, prefix: Prefix) -> list[int]:
        """Labels of the best path behind the most probable end of the prefix."""
        if not prefix.labels:
            return collapse(self._path)
        end = int((prefix.by_label + self._rest).argmax()) + 1
        labels = collapse(self._path[end:])
        repeated = labels and self._path[end] == prefix.labels[-1]
        return labels[1:] if repeated else labels


@dataclass(frozen=True, eq=False)
class Extension:
    """A prefix of `scorer` to extend to the labels `wanted`; from the empty prefix where they do not begin with it."""

    scorer: PrefixScorer
    prefix: Prefix
    wanted: Sequence[int]

    @property
    def start(self) -> Prefix:
        has_it = tuple(self.wanted[: len(self.prefix.labels)]) == self.prefix.labels
        return self.prefix if has_it else self.scorer.empty


Step: TypeAlias = tuple[PrefixScorer, Prefix, int]
"""A prefix, and the label to append."""


def extend_together(extensions: Sequence[Extension]) -> list[Prefix]:
    """The wanted prefix of every extension, label by label for all utterances at once."""
    found = [one.start for one in extensions]
    while short := [i for i, one in enumerate(extensions) if len(found[i].labels) < len(one.wanted)]:
        steps = [(extensions[i].scorer, found[i], extensions[i].wanted[len(found[i].labels)]) for i in short]
        # Many hypotheses have the same labels, and differ in capitals or punctuation.
        keys = [(scorer, prefix.labels, label) for scorer, prefix, label in steps]
        different = dict(zip(keys, steps, strict=True))
        longer = dict(zip(different, _append(list(different.values())), strict=True))
        for i, key in zip(short, keys, strict=True):
            found[i] = longer[key]
    return [prefix if prefix is one.prefix else prefix.alone() for prefix, one in zip(found, extensions, strict=True)]


def _append(steps: Sequence[Step]) -> list[Prefix]:
    """Prefixes with one more label each; rows are padded behind the frames of their utterance."""
    # WILDCARD, -1, is the last row.
    emitted = _rows([scorer._emissions[label] for scorer, _, label in steps], NEVER)
    blanks = _rows([scorer._blanks for scorer, _, _ in steps], NEVER)
    by_label = _rows([prefix.by_label for _, prefix, _ in steps], -torch.inf)
    by_blank = _rows([prefix.by_blank for _, prefix, _ in steps], -torch.inf)
    repeats = torch.tensor([prefix.labels[-1:] == (label,) for _, prefix, label in steps])
    # Only a blank separates a label from its repetition.
    free = torch.logaddexp(by_blank, by_label.masked_fill(repeats[:, None], -torch.inf))
    starts = torch.tensor([0.0 if not prefix.labels else -torch.inf for _, prefix, _ in steps], dtype=free.dtype)
    entered = torch.cat((starts[:, None], free[:, :-1]), 1)
    scores = (entered + emitted).logsumexp(1)
    by_label = _held(entered, emitted)
    left = torch.cat((torch.full_like(starts, -torch.inf)[:, None], by_label[:, :-1]), 1)
    by_blank = _held(left, blanks)
    rows = zip(steps, scores.tolist(), by_label.unbind(), by_blank.unbind(), strict=True)
    width = by_label.shape[1]
    return [
        Prefix(
            (*prefix.labels, label), score, *(sums if scorer.frames == width else (s[: scorer.frames] for s in sums))
        )
        for (scorer, prefix, label), score, *sums in rows
    ]


def _rows(rows: Sequence[Tensor], padding: float) -> Tensor:
    """Rows (T_i,) -> (K, T)."""
    return pad_sequence(list(rows), batch_first=True, padding_value=padding)


def _held(entered: Tensor, emitted: Tensor) -> Tensor:
    """Entering scores and emissions of a state (K, T) -> log probability of being in it at each frame.

    h[t] = logaddexp(h[t - 1], entered[t]) + emitted[t], as a cumulative sum.
    """
    total = emitted.cumsum(1)
    return total + (entered - (total - emitted)).logcumsumexp(1)


assert WILDCARD == -1, "a wildcard is the last column of the posteriors"
