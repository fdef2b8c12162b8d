"""What is target of a clip, what is answered, and which positions the loss counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from lithophone.errors import OptionError
from lithophone.text import japanese as kana
from lithophone.text.prompts import Transcribe, Translate, instruction
from lithophone.train.targets.prompt_reply import (
    SourceText,
    TaskMix,
    TaskTarget,
    draw_target,
    like_lengths,
    make_example,
    reply_loss,
)
from tests.tiny_checkpoint import tiny_checkpoint

ENGLISH = SourceText("Call Ishmael, please.", "en", {"fr": "Appelez Ismaël.", "ja": "呼んで。"})


class Fixed:
    """Always the same list."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def draw(self, text: str, rng: np.random.Generator) -> tuple[str, ...]:
        return self.words


def draw(
    said: SourceText, mix: TaskMix, count: int = 400, words: tuple[str, ...] = ("Ishmael", "Ahab")
) -> list[TaskTarget]:
    rng = np.random.default_rng(1)
    return [draw_target(said, mix, rng, {"en": Fixed(*words)}) for _ in range(count)]


def test_every_task_is_asked_by_its_share() -> None:
    counts = Counter(
        instruction(request.task, "granite_speech").split(" Keywords")[0]
        for request in draw(ENGLISH, TaskMix(raw=0.1, punctuated=0.2, keywords=0.3, translate=0.4), 2000)
    )
    translated = sum(count for words, count in counts.items() if words.startswith("translate"))
    assert counts["can you transcribe the speech into a written format?"] / 2000 == pytest.approx(0.1, abs=0.03)
    assert counts["transcribe the speech with proper punctuation and capitalization."] / 2000 == pytest.approx(
        0.2, abs=0.03
    )
    assert counts["transcribe the speech to text."] / 2000 == pytest.approx(0.3, abs=0.03)
    assert translated / 2000 == pytest.approx(0.4, abs=0.03)


def test_replies_are_what_the_task_asks_for() -> None:
    mix = TaskMix(raw=0.2, punctuated=0.2, keywords=0.2, translate=0.4)
    for request in draw(ENGLISH, mix):
        match request.task:
            case Transcribe(keywords=words) if words:
                assert (words, request.reply) == (("Ishmael", "Ahab"), "Call Ishmael, please.")
            case Transcribe(punctuate=True):
                assert request.reply == "Call Ishmael, please."
            case Transcribe():
                assert request.reply == "call ishmael please"
            case Translate(to=to, punctuate=punctuate):
                said, meaning = ENGLISH.text, ENGLISH.translations[to]
                if not punctuate:
                    said, meaning = "call ishmael please", {"fr": "appelez ismaël", "ja": "呼んで"}[to]
                assert request.reply in (meaning, f"[Transcription] {said} [Translation] {meaning}")


def test_a_share_of_translations_transcribes_first() -> None:
    requests = draw(ENGLISH, TaskMix(raw=1e-9, punctuated=0, keywords=0, translate=1.0), 1000)
    first = sum(request.reply.startswith("[Transcription]") for request in requests)
    assert first / 1000 == pytest.approx(0.3, abs=0.05)


def test_capitals_alone_are_asked_for_raw() -> None:
    for request in draw(SourceText("CALL ISHMAEL", "en"), TaskMix(), 50, words=()):
        assert request == TaskTarget(Transcribe(punctuate=False), "call ishmael")


def test_what_a_clip_cannot_serve_is_not_asked() -> None:
    """No translation into a language of the pairs, and no keyword lists for the language."""
    spoken = SourceText("Un mot.", "fr", {"de": "Ein Wort."})
    assert all(
        isinstance(request.task, Transcribe) and not request.task.keywords for request in draw(spoken, TaskMix())
    )


@pytest.mark.parametrize("items", [["raw"], ["raw=x"], ["loud=1"], ["raw=0"], ["keywords=-1"], ["transcribe_first=2"]])
def test_shares_are_read_with_care(items: list[str]) -> None:
    with pytest.raises(OptionError, match=r"share"):
        TaskMix.parse(items)


def test_shares_are_read() -> None:
    assert TaskMix.parse(["raw=0.5", "translate=1"]) == TaskMix(raw=0.5, translate=1.0)


def test_only_the_reply_and_its_end_are_predicted() -> None:
    checkpoint = tiny_checkpoint()
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    pairs = [
        make_example(TaskTarget(Transcribe(punctuate=False), text), tokenizer, "granite_speech", count)
        for text, count in (("one", 2), ("two words", 3), ("a third", 90))
    ]
    assert all(pair.reply[-1] == tokenizer.eos_id for pair in pairs)
    rows = [model.language_model.embed(torch.tensor([*pair.prompt, *pair.reply[:-1]])) for pair in pairs]
    loss = reply_loss(model.language_model, rows, pairs)
    wanted = torch.zeros(())
    for row, pair in zip(rows, pairs, strict=True):
        logits = model.language_model.logits(model.language_model(row[None]))[0].log_softmax(-1)
        at = range(len(pair.prompt) - 1, len(pair.prompt) + len(pair.reply) - 1)
        wanted -= sum(logits[i, token] for i, token in zip(at, pair.reply, strict=True))
    assert loss.count == sum(len(pair.reply) for pair in pairs)
    torch.testing.assert_close(loss.total, wanted, rtol=1e-5, atol=1e-4)


def test_rows_are_grouped_with_rows_of_like_length() -> None:
    lengths = [100, 1200, 110, 70, 61, 800, 20]
    groups = like_lengths(lengths)
    assert groups == [[1, 5], [2, 0, 3], [4], [6]]
    assert sum(len(group) * lengths[group[0]] for group in groups) < 0.35 * len(lengths) * max(lengths)
    assert like_lengths([]) == []


@pytest.mark.skipif(not kana.can_read(), reason="SudachiPy is not installed: pip install lithophone[ja]")
def test_raw_japanese_may_be_asked_for_in_kana() -> None:
    said = SourceText("東京へ、行く。", "ja")
    raw = {"raw": 1.0, "punctuated": 0.0, "keywords": 0.0}
    rng = np.random.default_rng(0)
    assert draw_target(said, TaskMix(**raw), rng).reply == "東京へ行く"
    assert draw_target(said, TaskMix(**raw, kana=1.0), rng).reply == "とうきょうへいく"
    assert draw_target(SourceText("Go, then.", "en"), TaskMix(**raw, kana=1.0), rng).reply == "go then"
    with pytest.raises(OptionError, match="kana 0 to 1"):
        TaskMix(kana=1.5)
