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

MAX_CELLS = 1 << 22
"""Frames times states of a block of the Viterbi recursion: 36 MiB."""

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
    path = _best_states(log_probs, states, skips)
    if path is None:
        return None
    voiced = log_probs.argmax(1) != BLANK
    spans = _spans(path, len(labels))
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


def _best_states(
    log_probs: Scores, states: npt.NDArray[np.int_], skips: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int_] | None:
    """The state of every frame (T,) on the best path; None without any path.

    Blocks of frames bound the memory: steps back are computed a second time, block by block from the end.
    """
    size = max(1, MAX_CELLS // len(states))
    blocks = [log_probs[first : first + size] for first in range(0, len(log_probs), size)]
    befores = [np.where(np.arange(len(states)) == 0, 0.0, -np.inf)]
    for block in blocks:
        best, came_from = _forward(_emissions(block, states), skips, befores[-1])
        befores.append(best)
    state = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    if not np.isfinite(best[state]):
        return None
    path: list[int] = []
    for number in reversed(range(len(blocks))):
        if number < len(blocks) - 1:
            _, came_from = _forward(_emissions(blocks[number], states), skips, befores[number])
        for steps in came_from[::-1]:
            path.append(state)
            state -= int(steps[state])
    return np.array(path[::-1])


def _emissions(log_probs: Scores, states: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
    """(T, V) and states (S,) -> log posteriors (T, S); a wildcard has the best label's."""
    emitted = np.asarray(log_probs, np.float64)[:, np.maximum(states, 0)]
    emitted[:, states == WILDCARD] = log_probs.max(1, keepdims=True)
    return emitted


def _forward(
    emitted: npt.NDArray[np.float64], skips: npt.NDArray[np.bool_], before: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    """Scores of every state before and after these frames, and the steps back to each predecessor (T, S)."""
    frames, states = emitted.shape
    no_skip = np.where(skips, 0.0, -np.inf)
    padded = np.full(states + 2, -np.inf)
    best = padded[2:]
    best[:] = before
    came_from = np.zeros((frames, states), np.int8)
    for t in range(frames):
        step, skip = padded[1:-1], padded[:-2] + no_skip
        moved = np.maximum(step, skip)
        came_from[t] = (moved > best).view(np.int8) * ((skip > step).view(np.int8) + np.int8(1))
        best[:] = np.maximum(best, moved) + emitted[t]
    return best, came_from


def _spans(path: npt.NDArray[np.int_], n_labels: int) -> list[Span]:
    """Frames of every label; odd states are labels, all of them on the path."""
    labels = 2 * np.arange(n_labels) + 1
    first, end = np.searchsorted(path, labels), np.searchsorted(path, labels, side="right")
    return list(zip(first.tolist(), end.tolist(), strict=True))


def _without_blanks(span: Span, voiced: npt.NDArray[np.bool_]) -> Span:
    """The span without blanks at its edges, or its first frame."""
    frames = np.flatnonzero(voiced[span[0] : span[1]])
    return (span[0] + int(frames[0]), span[0] + int(frames[-1]) + 1) if len(frames) else (span[0], span[0] + 1)
