"""The three stages, one after another, on eight sung sentences: each learns them by heart, the last one speaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lithophone
from tests.recipes.spoken import SENTENCES, sing


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_encoder_learns_eight_clips_by_heart(encoder: Path) -> None:
    rows = log_of(encoder)
    losses = [row for row in rows if "ctc" in row]
    assert all(losses[-1][name] < 0.2 * losses[0][name] for name in ("ctc", "ctc_mid", "ctc_bpe"))
    assert rows[-1]["wer_songs_en"] == 0.0
    assert rows[-1]["wer_bpe_songs_en"] == 0.0
    (report,) = json.loads((encoder / "data.json").read_text())
    assert (report["name"], report["clips"]) == ("songs:en", len(SENTENCES))


def test_the_language_model_learns_to_read_slots(language_model: Path) -> None:
    losses = [row["reply"] for row in log_of(language_model)]
    assert losses[-1] < 0.6 * losses[0]


def test_the_model_learns_eight_clips_by_heart(speech: Path, tones_are_speech: None) -> None:
    rows = log_of(speech)
    losses = [row["reply"] for row in rows if "reply" in row]
    assert losses[-1] < 0.2 * losses[0]
    assert rows[-1]["wer_songs_en"] == 0.0
    model = lithophone.load(speech / "model")
    heard = [model.transcribe(sing(text), 16_000, punctuate=False, decode="greedy").text for text in SENTENCES]
    assert heard == list(SENTENCES)
