"""Language conditioning of the encoder: a logit bias and language id a row, where `generation_config.json` has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lithophone.ctc.characters import N_LABELS, foreign_labels
from lithophone.languages import TABLE, base_language
from lithophone.model.conformer import EncoderBias


def language_bias(languages: Sequence[str | None], nats: float, with_ids: bool) -> EncoderBias | None:
    """Bias of B rows by language (a code, or None); None where no row has one.

    `nats` are subtracted from logits outside the language's alphabet; `with_ids` adds the language id to the
    self-conditioning of the middle block.
    """
    if not any(languages) or not (nats or with_ids):
        return None
    penalty, ids = torch.zeros(2, len(languages), 1, N_LABELS)
    for row, lang in enumerate(languages):
        if lang is not None:
            penalty[row, 0, foreign_labels(lang)] = nats
        if base_language(lang) in TABLE:
            ids[row, 0, TABLE[base_language(lang)].id] = 1.0
    return EncoderBias(penalty, ids if with_ids else None)
