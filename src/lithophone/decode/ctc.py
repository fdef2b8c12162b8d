"""CTC without a language model: collapsing a best path, and forcing a known text onto the posteriors.

Pure functions over one utterance; label 0 is the blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BLANK = 0
WILDCARD = -1
"""In a text to be aligned: a character outside the label set, said by any label but the blank."""

Scores = npt.NDArray[np.floating[Any]]


def collapse(path: Sequence[int]) -> list[int]:
    """A label a frame -> labels: repeats merged, then blanks dropped."""
    merged = (label for at, label in enumerate(path) if at == 0 or label != path[at - 1])
    return [label for label in merged if label != BLANK]


def align(log_probs: Scores, labels: Sequence[int]) -> list[tuple[int, int]] | None:
    """Viterbi: the most probable CTC path that spells `labels` through `log_probs` (T, V).

    -> for every label its first frame and the frame behind its last one; None where T frames cannot hold the text.
    """
    if not labels:
        return []
    states = np.full(2 * len(labels) + 1, BLANK)
    states[1::2] = labels
    emitted = _emissions(log_probs, states)
    skips = np.zeros(len(states), bool)
    skips[3::2] = (states[3::2] != states[1:-2:2]) | (states[3::2] == WILDCARD)
    best, came_from = _forward(emitted, skips)
    last = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    return _spans(came_from, last, len(labels)) if np.isfinite(best[last]) else None


def _emissions(log_probs: Scores, states: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
    """(T, V) and states (S,) -> score of being in a state at a frame (T, S)."""
    emitted = np.asarray(log_probs, np.float64)[:, np.maximum(states, 0)]
    emitted[:, states == WILDCARD] = log_probs[:, 1:].max(1, keepdims=True)
    return emitted


def _forward(
    emitted: npt.NDArray[np.float64], skips: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    """Best score of every state at the last frame, and for every frame and state how many states back it came from."""
    frames, states = emitted.shape
    best = np.full(states, -np.inf)
    best[:2] = emitted[0, :2]
    came_from = np.zeros((frames, states), np.int8)
    options = np.full((3, states), -np.inf)
    for t in range(1, frames):
        options[0] = best
        options[1, 1:] = best[:-1]
        options[2, 2:] = np.where(skips[2:], best[:-2], -np.inf)
        came_from[t] = options.argmax(0)
        best = options.max(0) + emitted[t]
    return best, came_from


def _spans(came_from: npt.NDArray[np.int8], state: int, n_labels: int) -> list[tuple[int, int]]:
    """Walk back from the last frame; odd states are labels."""
    first = [0] * n_labels
    end = [0] * n_labels
    for t in range(len(came_from) - 1, -1, -1):
        if state % 2:
            label = state // 2
            first[label] = t
            end[label] = end[label] or t + 1
        state -= int(came_from[t, state])
    return list(zip(first, end, strict=True))
