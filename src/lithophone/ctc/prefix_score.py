"""CTC prefix scores (Watanabe et al. 2017, "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition").

The recursion over frames is linear, and is computed in the linear domain, for many prefixes of several utterances at
once: within spans of `SPAN` frames as a cumulative sum, then over spans. Probabilities are relative to the best path up
to their frame and to the largest of their prefix; what is 700 nats below that is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lithophone.ctc.forced_alignment import BLANK, WILDCARD, collapse

Array: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.int64]

SPAN = 16
"""Frames whose emissions are multiplied, which float64 has room for."""
FLOOR = -40.0
"""Least log probability of a label at a frame, relative to the best."""
LEAST = 5e-324
"""Largest probability of a prefix without paths, to divide by."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """A prefix of labels; `score` is the log probability of all label sequences that begin with it."""

    labels: tuple[int, ...]
    score: float
    paths: Array
    """(spans, 2, SPAN): probability of the paths up to each frame that collapse to the prefix and end in its last
    label, or in the blank."""
    log_scale: float
    """Of `paths`."""

    def alone(self) -> Prefix:
        """With memory of its own, not as a row of what was computed together."""
        return Prefix(self.labels, self.score, self.paths.copy(), self.log_scale)


class PrefixScorer:
    """Prefix scores by the log posteriors (T, V) of one utterance, T at least 1, label 0 the blank.

    A wildcard has the best label's probability at every frame.
    """

    def __init__(self, log_probs: Tensor) -> None:
        # float64: emissions of a span are multiplied, and divided by.
        posteriors: Array = log_probs.detach().double().cpu().numpy()
        best = posteriors.max(1)
        until = np.concatenate(([0.0], best.cumsum()))
        self.frames = len(posteriors)
        self.best_path = float(until[-1])
        """Log probability of the best path."""
        self.span_starts = until[:-1:SPAN]
        """(spans,): the same, of the frames before each span."""
        self.unscored = -math.log(posteriors.shape[1])
        """Log score of a character without a label."""
        self._path: list[int] = posteriors.argmax(1).tolist()
        self._relative = _in_spans(np.maximum(posteriors - best[:, None], FLOOR).T, FLOOR)
        self._best_since_start = _in_spans(np.exp(until[1:] - self.span_starts.repeat(SPAN)[: self.frames]))
        self._emissions: dict[int, Array] = {}
        blanks = self._relative[BLANK].reshape(-1)[: self.frames]
        self._no_label = self.best_path + float(blanks.sum())
        self._blanks_behind = _in_spans(blanks[::-1].cumsum()[::-1] - blanks, -np.inf)
        """(spans, SPAN): log probability of blanks in all later frames, relative to the best path."""
        self.empty = self._empty()

    def emissions(self, label: int) -> Array:
        """(spans, 3, SPAN) of a label: emissions relative to the best path before the span, 0 behind the last frame;
        products of those relative to each frame's best since the span's start, and the inverse of the product before.
        """
        if label not in self._emissions:
            relative = np.zeros_like(self._relative[BLANK]) if label == WILDCARD else self._relative[label]
            total = relative.cumsum(-1)
            first = np.exp(relative) * self._best_since_start
            self._emissions[label] = np.stack((first, np.exp(total), np.exp(relative - total)), 1)
        return self._emissions[label]

    def complete(self, prefix: Prefix) -> float:
        """Log probability of exactly the prefix' labels; a lower bound where that is below exp(-700) of the score."""
        if not prefix.labels:
            return self._no_label
        with np.errstate(divide="ignore"):
            ends = np.log(prefix.paths[:, 0]) + self._blanks_behind
            total = _logsumexp(ends.reshape(-1), np.zeros(1, np.int64), ends.size)
        return float(total[0]) + prefix.log_scale + self.best_path

    def _empty(self) -> Prefix:
        entered = np.zeros((len(self.span_starts), SPAN))
        entered[0, 0] = 1.0
        blanks = _held(entered, self.emissions(BLANK), np.zeros(1, np.int64))
        return Prefix((), 0.0, np.stack((np.zeros_like(blanks), blanks), 1), 0.0)

    def extend(self, prefixes: Sequence[Prefix], wanted: Sequence[Sequence[int]]) -> list[Prefix]:
        """Prefixes of the `wanted` labels, extended from `prefixes`."""
        return extend_together([Extension(self, *pair) for pair in zip(prefixes, wanted, strict=True)])

    def continuation(self, prefix: Prefix) -> list[int]:
        """Labels of the best path behind the most probable end of the prefix."""
        if not prefix.labels:
            return collapse(self._path)
        end = int(prefix.paths[:, 0].argmax()) + 1
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
    short = [i for i, one in enumerate(extensions) if len(found[i].labels) < len(one.wanted)]
    while short:
        # Many hypotheses have the same labels, and differ in capitals or punctuation.
        rows: dict[tuple[PrefixScorer, tuple[int, ...], int], list[int]] = {}
        for i in short:
            labels = found[i].labels
            rows.setdefault((extensions[i].scorer, labels, extensions[i].wanted[len(labels)]), []).append(i)
        longer = _append([(scorer, found[same[0]], label) for (scorer, _, label), same in rows.items()])
        for prefix, same in zip(longer, rows.values(), strict=True):
            for i in same:
                found[i] = prefix
        short = [i for i in short if len(found[i].labels) < len(extensions[i].wanted)]
    return [prefix if prefix is one.prefix else prefix.alone() for prefix, one in zip(found, extensions, strict=True)]


def _append(steps: Sequence[Step]) -> list[Prefix]:
    """Prefixes with one more label each, computed together: their spans (S, ...) one behind the other."""
    n_spans = np.array([len(past.paths) for _, past, _ in steps])
    ends = n_spans.cumsum()
    starts = ends - n_spans
    emitted = np.concatenate([scorer.emissions(label) for scorer, _, label in steps])
    blank = np.concatenate([scorer.emissions(BLANK) for scorer, _, _ in steps])
    paths = np.concatenate([past.paths for _, past, _ in steps])
    # Only a blank separates a label from its repetition.
    follows = np.array([float(past.labels[-1:] != (label,)) for _, past, label in steps]).repeat(n_spans)
    entered = _next_frame(paths[:, 0] * follows[:, None] + paths[:, 1], starts)
    entered[starts, 0] = [not past.labels for _, past, _ in steps]
    paths[:, 0] = _held(entered, emitted, starts)
    paths[:, 1] = _held(_next_frame(paths[:, 0], starts), blank, starts)

    scales = np.array([past.log_scale for _, past, _ in steps])
    with np.errstate(divide="ignore"):
        mass = np.log(np.einsum("st,st->s", entered, emitted[:, 0]))
        scores = _logsumexp(mass + np.concatenate([scorer.span_starts for scorer, _, _ in steps]), starts, n_spans)
    largest = np.maximum(np.maximum.reduceat(paths.reshape(-1), starts * 2 * SPAN), LEAST)
    paths /= largest.repeat(n_spans)[:, None, None]
    log_scales = (scales + np.log(largest)).tolist()
    found = zip(steps, (scores + scales).tolist(), starts, ends, log_scales, strict=True)
    return [
        Prefix((*past.labels, label), score, paths[start:end], log_scale)
        for (_, past, label), score, start, end, log_scale in found
    ]


def _in_spans(x: Array, behind: float = 0.0) -> Array:
    """(..., T) -> (..., spans, SPAN), with `behind` behind."""
    spans = -(-x.shape[-1] // SPAN)
    padded = np.full((*x.shape[:-1], spans * SPAN), behind)
    padded[..., : x.shape[-1]] = x
    return padded.reshape(*x.shape[:-1], spans, SPAN)


def _next_frame(x: Array, starts: Indices) -> Array:
    """(S, SPAN) one frame later, 0 at the first frame of the spans `starts`."""
    later = np.empty_like(x, order="C")
    later.reshape(-1)[1:] = x.reshape(-1)[:-1]
    later[starts, 0] = 0.0
    return later


def _held(entered: Array, emitted: Array, starts: Indices) -> Array:
    """Entering probabilities (S, SPAN) and `emissions` of a state -> probability of being in it at each frame.

    h[t] = (h[t - 1] + entered[t]) * emitted[t]: a cumulative sum in each span, then from span to span by doubling
    (Hillis and Steele 1986), but not into the spans `starts`.
    """
    products, inverse = emitted[:, 1], emitted[:, 2]
    held = entered * inverse
    np.cumsum(held, -1, out=held)
    held *= products
    ends, factors = held[:, -1].copy(), products[:, -1].copy()
    factors[starts] = 0.0
    reach = 1
    while factors.any():
        ends[reach:] += factors[reach:] * ends[:-reach]
        factors[reach:] *= factors[:-reach].copy()
        factors[:reach] = 0.0
        reach *= 2
    carried = ends[:-1, None] * products[1:]
    carried[starts[1:] - 1] = 0.0
    held[1:] += carried
    return held


def _logsumexp(x: Array, starts: Indices, n: Indices | int) -> Array:
    """Of each group (S,) of n[i] numbers that begins at starts[i]; -inf of only those."""
    largest = np.maximum(np.maximum.reduceat(x, starts), -1e300)
    return np.log(np.add.reduceat(np.exp(x - largest.repeat(n)), starts)) + largest


assert WILDCARD == -1, "a wildcard is no row of the posteriors"
