"""Language conditioning of the encoder: a logit bias and a language id for each language.

No prompt of the family conditions the encoder. A model whose `generation_config.json` asks for it was trained with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lithophone.ctc.characters import N_LABELS, foreign_labels
from lithophone.languages import TABLE, base_language
from lithophone.model.conformer import EncoderBias


def language_bias(languages: Sequence[str | None], nats: float, with_ids: bool) -> EncoderBias | None:
    """The bias for B rows by the language (a code) of each, None where it is not known.

    `nats` are taken off the logits of characters that the language is not spelled with; `with_ids` adds its language
    id to the feedback of the middle block. None where no row has a bias.
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
