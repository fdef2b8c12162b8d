"""Sentences as tunes, a note a letter: recordings that a small model learns by heart in seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from lithophone.audio.features import RATE_HZ
from tests.sounds import Samples, silence, tone

SENTENCES = ("a cab", "bad egg", "a bag", "feed me", "he had", "big cage", "dig", "a fig")
NOTE_S = 0.08
LETTERS = "abcdefghijklmnopqrstuvwxyz "


def sing(text: str) -> Samples:
    """A tone of its own for every letter, with a little silence around the sentence."""
    notes = [
        tone(NOTE_S, frequency_hz=200.0 * 1.12 ** LETTERS.index(letter)) for letter in text.lower() if letter in LETTERS
    ]
    return np.concatenate([silence(0.1), *notes, silence(0.1)])


def write_songs(folder: Path, rows: Sequence[dict[str, object]], name: str = "manifest") -> Path:
    """A manifest of sung sentences; `rows` have at least `text` and `lang`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, row in enumerate(rows):
        audio = f"{name}-{i}.wav"
        soundfile.write(folder / audio, sing(str(row["text"])), RATE_HZ)
        lines.append(json.dumps({"audio": audio, "corpus": "songs"} | row))
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
