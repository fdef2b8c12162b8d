"""Many prompts at once: each is answered as if it were alone. Knows no text, no files, no seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from torch import Tensor

from lithophone.decode.beam import CTCScorer, beam_decode
from lithophone.decode.options import BeamSearch
from lithophone.decode.reply import Reply
from lithophone.decode.scheduler import Engine
from lithophone.decode.sequences import Request, RowOptions
from lithophone.errors import OptionError
from lithophone.model.speech import GraniteSpeech

Options: TypeAlias = RowOptions | BeamSearch


def decode_batch(
    model: GraniteSpeech,
    prompts: Sequence[Tensor],
    options: Options,
    n_audio: Sequence[int],
    drafts: Sequence[Sequence[int]] | None = None,
    folds: Sequence[str] | None = None,
    scorers: Sequence[CTCScorer] | None = None,
) -> list[Reply]:
    """Decode prompts of embeddings `(L_i, H)`, of which `n_audio[i]` are audio; replies come in the order of prompts.

    `drafts[i]` are token ids for Speculative to verify, aligned by `folds` as Engine describes; `scorers[i]` is what
    BeamSearch asks about the replies where it has a `ctc_weight`. Raises OptionError for drafts that the decoder does
    not read.
    """
    assert len(prompts) == len(n_audio), "one count of audio embeddings per prompt"
    drafts = [()] * len(prompts) if drafts is None else drafts
    if isinstance(options, BeamSearch):
        if any(len(draft) for draft in drafts):
            raise OptionError("a draft was given to BeamSearch: only Speculative reads it")
        return beam_decode(model, prompts, options, n_audio, scorers)
    engine = Engine(model, max(len(prompts), 1), folds)
    rows = [engine.submit(Request(p, n, options, d)) for p, n, d in zip(prompts, n_audio, drafts, strict=True)]
    while engine.busy:
        engine.step()
    return [row.reply() for row in rows]
