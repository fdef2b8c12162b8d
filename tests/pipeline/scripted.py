"""A plus model whose language model says what a test wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lithophone.decode.reply import Reply
from lithophone.decode.sequences import SingleSequence
from lithophone.model.speech import GraniteSpeech
from lithophone.text.tokenizer import Tokenizer


def scripted_replies(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replies in order, to be filled in; "[cut]" behind one leaves it unfinished."""
    replies: list[str] = []
    append = SingleSequence.append

    def append_and_end(self: SingleSequence, tokens: Any) -> None:
        append(self, tokens)
        self.finished = True

    def reply(self: SingleSequence) -> Reply:
        text = replies.pop(0)
        ids = tuple(tokenizer.encode(text.removesuffix("[cut]")))
        return Reply(ids, not text.endswith("[cut]"), (-0.1,) * len(ids))

    monkeypatch.setattr(SingleSequence, "append", append_and_end)
    monkeypatch.setattr(SingleSequence, "reply", reply)
    return replies


def seen_prompts(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Prompts that the language model gets."""
    seen: list[list[int]] = []
    embed = GraniteSpeech.embed

    def spied(self: GraniteSpeech, prompts: Sequence[Sequence[int]], *rest: Any) -> Any:
        seen.extend(list(ids) for ids in prompts)
        return embed(self, prompts, *rest)

    monkeypatch.setattr(GraniteSpeech, "embed", spied)
    return seen
