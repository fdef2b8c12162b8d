"""Words with times from character posteriors."""

from __future__ import annotations

import numpy as np

from lithophone.labels import N_LABELS, character_labels
from lithophone.longform.words import timed_words


def posteriors(said: str, frames_each: int = 3) -> np.ndarray:
    """Log posteriors of someone who says each character for `frames_each` frames, with a blank behind it."""
    path = [label for c in character_labels(said) for label in [c] * (frames_each - 1) + [0]]
    probs = np.full((len(path), N_LABELS), 0.01 / N_LABELS)
    probs[np.arange(len(path)), path] = 0.99
    return np.log(probs).astype(np.float32)


def test_words_stand_where_their_characters_stand() -> None:
    log_probs = posteriors("ab cde")
    words = timed_words("Ab, cde!", log_probs, len(log_probs) * 0.02)
    assert [w.text for w in words] == ["Ab,", "cde!"]
    assert [(round(w.start_s, 2), round(w.end_s, 2)) for w in words] == [(0.0, 0.1), (0.18, 0.34)]


def test_marks_alone_take_no_time() -> None:
    log_probs = posteriors("ab cd")
    words = timed_words("ab - cd", log_probs, 1.0)
    assert [w.text for w in words] == ["ab", "-", "cd"]
    assert words[1].start_s == words[1].end_s == words[0].end_s


def test_characters_outside_the_set_take_the_wildcard_path() -> None:
    log_probs = posteriors("abxcd")
    assert [w.text for w in timed_words("ab漢cd", log_probs, 1.0)] == ["ab漢cd"]
    assert timed_words("漢字 仮名", log_probs, 1.0) == ()


def test_what_cannot_be_aligned_has_no_words() -> None:
    log_probs = posteriors("ab")
    assert timed_words("a text that is far too long for it", log_probs, 0.1) == ()
    assert timed_words("...", log_probs, 0.1) == ()
    assert timed_words("ab", log_probs[:, :42], 0.1) == ()
