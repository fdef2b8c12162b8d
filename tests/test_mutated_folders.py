"""Odd and hostile folders of a tiny model: an error of ours, or a model that works. All of it: `tests/full`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lithophone.checkpoint import load_checkpoint, save_checkpoint
from lithophone.errors import LithophoneError
from lithophone.text.prompts import Transcribe, build_prompt
from tests.mutations import mutated
from tests.tiny import tiny_frames
from tests.tiny_checkpoint import tiny_checkpoint

N = 120


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "whole"
    save_checkpoint(tiny_checkpoint(bpe=True), folder)
    return folder


def use(folder: Path) -> None:
    """Load a folder and run it on a prompt with audio."""
    checkpoint = load_checkpoint(folder)
    frames, lengths = tiny_frames(20)
    _, counts = checkpoint.model.audio_embeddings(frames, lengths)
    ids = build_prompt(Transcribe(), checkpoint.tokenizer, checkpoint.config.variant, int(counts))
    logits, _ = checkpoint.model([ids], frames, lengths)
    checkpoint.tokenizer.decode(logits[0].argmax(-1).tolist())
    assert len(checkpoint.tokenizer.pieces) == len(checkpoint.tokenizer)


@pytest.mark.parametrize("first", range(0, N, 20))
def test_a_folder_with_one_thing_changed_works_or_gives_an_error_of_ours(
    whole: Path, tmp_path: Path, first: int
) -> None:
    mark, tracebacks = tmp_path / "mark", []
    for seed in range(first, first + 20):
        change = mutated(whole, tmp_path / str(seed), seed, mark)
        try:
            use(tmp_path / str(seed))
        except LithophoneError:
            continue
        except Exception as error:  # what the test is about
            tracebacks.append(f"{change}: {error!r}")
    assert tracebacks == []
    assert not mark.exists()
