"""Real clips with long silences between: words of joined windows lie where the clips alone have them."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from lithophone.audio.cuts import on_one_side, restored
from lithophone.audio.features import batch_frames, log_mel_frames
from lithophone.audio.reader import RATE_HZ, load_audio
from lithophone.audio.samples import Samples
from lithophone.ctc.word_alignment import timed_words
from lithophone.pipeline.sources import AudioSource, Reading
from lithophone.pipeline.transcriber import Transcriber, load
from lithophone.transcript import Word
from tests.conftest import SHARED

N_CLIPS = 8


@pytest.fixture(scope="module")
def bundled() -> Transcriber:
    return load(device="cpu", dtype="float32")


@torch.inference_mode()
def aligned(bundled: Transcriber, samples: Samples, text: str) -> tuple[Word, ...]:
    frames = log_mel_frames(torch.from_numpy(samples), bundled.checkpoint.config.whole_frames)
    output = bundled.checkpoint.network.encode(*batch_frames([frames]), None)
    return timed_words(text, output.logits[0].log_softmax(-1).numpy(), len(samples) / RATE_HZ, "en")


@pytest.mark.full
@pytest.mark.shared
@pytest.mark.parametrize("limit_s", [30.0, 210.0])
def test_words_of_joined_clips_are_those_of_the_clips(bundled: Transcriber, limit_s: float) -> None:
    rows = [json.loads(line) for line in (SHARED / "speech" / "dev.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["corpus"] == "librispeech_devclean_mp3" and 3 < row["duration"] < 8]
    rng = np.random.default_rng(0)
    parts: list[Samples] = []
    expected: list[tuple[str, float]] = []
    middles: list[tuple[float, str]] = []
    n = 0
    for row in random.Random(1).sample(rows, N_CLIPS):
        clip = load_audio(SHARED / "speech" / row["audio"])
        pause = rng.normal(0, 1e-4, int(rng.uniform(5, 60) * RATE_HZ)).astype(np.float32)
        start = n + len(pause)
        expected += [(w.text, start / RATE_HZ + w.end_s) for w in aligned(bundled, clip, row["text"])]
        middles.append(((start + len(clip) / 2) / RATE_HZ, row["text"]))
        parts += [pause, clip]
        n = start + len(clip)
    found: list[tuple[str, float]] = []
    for window in Reading(AudioSource(np.concatenate(parts), RATE_HZ), limit_s, joined=True).windows():
        text = " ".join(text for middle_s, text in middles if window.start_s <= middle_s <= window.end_s)
        for word in aligned(bundled, window.samples, text):
            _, end_s = restored(*on_one_side(word.start_s, word.end_s, window.cuts), window.cuts)
            found.append((word.text, window.start_s + end_s))
    assert [word for word, _ in found] == [word for word, _ in expected]
    shifts = np.abs([ours - theirs for (_, ours), (_, theirs) in zip(found, expected, strict=True)])
    assert shifts.mean() < 0.02
    assert shifts.max() < 0.2
