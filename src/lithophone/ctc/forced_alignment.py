"""CTC best path, forced alignment (Viterbi) and edit distance of one utterance, with wildcards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

BLANK = 0
WILDCARD = -1
"""A spoken part whose labels, and their number, are unknown."""

Scores = npt.NDArray[np.floating[Any]]
Span = tuple[int, int]
"""First frame, and last frame + 1."""
CTCPath: TypeAlias = list[tuple[int, float]]
"""Labels, each with its natural log probability at the best frame of its span."""


def best_path(logits: Tensor, blank: int = BLANK) -> CTCPath:
    """Logits (T, V) -> most probable labels, repeats merged, blanks dropped."""
    best, labels = logits.float().max(-1)
    log_probs = (best - logits.float().logsumexp(-1)).tolist()
    return [(label, max(log_probs[first:end])) for label, (first, end) in runs(labels.tolist(), blank)]


def runs(path: Sequence[int], blank: int = BLANK) -> list[tuple[int, Span]]:
    """A label a frame -> labels with spans, repeats merged, blanks dropped."""
    edges = [at for at in range(len(path)) if at == 0 or path[at] != path[at - 1]]
    spans = zip(edges, [*edges[1:], len(path)], strict=False)
    return [(path[first], (first, end)) for first, end in spans if path[first] != blank]


def collapse(path: Sequence[int]) -> list[int]:
    """A label a frame -> labels, repeats merged, blanks dropped."""
    return [label for label, _ in runs(path)]


def align(log_probs: Scores, labels: Sequence[int]) -> list[Span] | None:
    """Viterbi: the most probable CTC path of `labels` through `log_probs` (T, V) -> span of every label.

    None where frames are too few. A wildcard takes the frames its neighbours leave, less blanks at the edges.
    """
    if not labels:
        return []
    if len(log_probs) < len(labels):
        return None
    states = np.full(2 * len(labels) + 1, BLANK)
    states[1::2] = labels
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    best, came_from = _forward(_emissions(log_probs, states), skips)
    last = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    if not np.isfinite(best[last]):
        return None
    voiced = log_probs.argmax(1) != BLANK
    spans = _spans(came_from, last, len(labels))
    return [_without_blanks(span, voiced) if i == WILDCARD else span for i, span in zip(labels, spans, strict=True)]


def label_scores(log_probs: Scores, labels: Sequence[int], spans: Sequence[Span]) -> list[float | None]:
    """Best log posterior in each label's span; None for a wildcard."""
    return [
        None if label == WILDCARD else float(log_probs[first:end, label].max())
        for label, (first, end) in zip(labels, spans, strict=True)
    ]


def edit_distance(path: Sequence[int], labels: Sequence[int]) -> int:
    """Edits that turn `labels` into `path`; a wildcard costs nothing."""
    goal = np.asarray(path, np.int64)
    places = np.arange(len(goal) + 1)
    row = places
    for label in labels:
        if label != WILDCARD:
            kept_or_changed = row[:-1] + (goal != label)
            row = np.append(row[0] + 1, np.minimum(row[1:] + 1, kept_or_changed)) - places
            row = np.minimum.accumulate(row) + places
        else:
            row = np.minimum.accumulate(row)
    return int(row[-1])


def _emissions(log_probs: Scores, states: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
    """(T, V) and states (S,) -> log posteriors (T, S); a wildcard has the best label's."""
    emitted = np.asarray(log_probs, np.float64)[:, np.maximum(states, 0)]
    emitted[:, states == WILDCARD] = log_probs.max(1, keepdims=True)
    return emitted


def _forward(
    emitted: npt.NDArray[np.float64], skips: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    """Final score of every state, and the steps back to each predecessor (T, S)."""
    frames, states = emitted.shape
    no_skip = np.where(skips, 0.0, -np.inf)
    padded = np.full(states + 2, -np.inf)
    best = padded[2:]
    best[:2] = emitted[0, :2]
    came_from = np.zeros((frames, states), np.int8)
    for t in range(1, frames):
        step, skip = padded[1:-1], padded[:-2] + no_skip
        moved = np.maximum(step, skip)
        came_from[t] = (moved > best).view(np.int8) * ((skip > step).view(np.int8) + np.int8(1))
        best[:] = np.maximum(best, moved) + emitted[t]
    return best, came_from


def _spans(came_from: npt.NDArray[np.int8], state: int, n_labels: int) -> list[Span]:
    """Backtrace; odd states are labels."""
    first = [0] * n_labels
    end = [0] * n_labels
    for t in range(len(came_from) - 1, -1, -1):
        if state % 2:
            label = state // 2
            first[label] = t
            end[label] = end[label] or t + 1
        state -= int(came_from[t, state])
    return list(zip(first, end, strict=True))


def _without_blanks(span: Span, voiced: npt.NDArray[np.bool_]) -> Span:
    """The span without blanks at its edges, or its first frame."""
    frames = np.flatnonzero(voiced[span[0] : span[1]])
    return (span[0] + int(frames[0]), span[0] + int(frames[-1]) + 1) if len(frames) else (span[0], span[0] + 1)
