"""Non-autoregressive editing (NLE): the CTC hypothesis edited in one or a few passes of the language model.

hypothesis -> slots, an empty one around every token -> one pass over all rows -> best token a slot -> collapse
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lithophone.ctc.forced_alignment import CTCPath, best_path
from lithophone.decode.options import Edit
from lithophone.decode.reply import Reply
from lithophone.model.conformer import EncoderOutput
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.nar_config import MIN_EDIT_SEQUENCE_LENGTH


@torch.inference_mode()
def ctc_hypotheses(model: GraniteSpeechNar, encoded: EncoderOutput) -> list[list[int]]:
    """Best paths of the BPE head as token ids, row by row to save memory."""
    head, config = model.encoder.out_bpe, model.config
    rows = zip(*head.pool(encoded), strict=True)
    paths = (best_path(head(pooled[:length]), config.blank_label) for pooled, length in rows)
    return [[label - config.first_label for label, _ in path] for path in paths]


@torch.inference_mode()
def edit_batch(
    model: GraniteSpeechNar,
    audio: Tensor,
    counts: Tensor,
    hypotheses: Sequence[Sequence[int]],
    options: Edit,
) -> list[Reply]:
    """Edit hypotheses of token ids `(n_i,)` given audio embeddings `(B, N, H)` and counts `(B,)`.

    -> finished replies. Raises PromptError where audio and slots exceed the model's positions.
    """
    replies = [Reply(tuple(ids), True, ()) for ids in hypotheses]
    rows = list(range(len(replies)))
    for step in range(1, options.editing_steps + 1):
        if not rows:
            break
        before = {row: replies[row].ids for row in rows}
        paths = _edited(model, audio[rows], counts[rows], list(before.values()))
        for row, path in zip(rows, paths, strict=True):
            ids, logprobs = [label for label, _ in path], [logprob for _, logprob in path]
            replies[row] = Reply(tuple(ids), True, tuple(logprobs), passes=step)
        rows = [row for row in rows if replies[row].ids != before[row]]
    return replies


def edit_slots(hypothesis: Sequence[int], blank: int) -> list[int]:
    """A blank slot before, between and behind the tokens, padded to `MIN_EDIT_SEQUENCE_LENGTH`."""
    slots = [blank] * max(2 * len(hypothesis) + 1, MIN_EDIT_SEQUENCE_LENGTH)
    slots[1 : 2 * len(hypothesis) : 2] = hypothesis
    return slots


def _edited(
    model: GraniteSpeechNar, audio: Tensor, counts: Tensor, hypotheses: Sequence[Sequence[int]]
) -> list[CTCPath]:
    blank = model.config.blank_token_id
    states = model(audio, counts, [edit_slots(ids, blank) for ids in hypotheses])
    return [best_path(model.language_model.logits(row), blank) for row in states]
