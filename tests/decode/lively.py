"""Random models that end their replies now and then, and prompts of text for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lithophone.decode.options import Greedy
from lithophone.decode.reply import Reply
from lithophone.decode.scheduler import decode_batch
from lithophone.model.speech import GraniteSpeech
from tests.tiny import AUDIO, PAD, SEED, tiny_model


def with_end(model: GraniteSpeech, eos: int) -> GraniteSpeech:
    """The same model with another end-of-text token."""
    model.config = replace(model.config, text_config=replace(model.config.text_config, eos_token_id=eos))
    return model


def decided_model(kind: str = "base", seed: int = SEED) -> GraniteSpeech:
    """A random model that prefers some tokens clearly, and whose replies never end by themselves."""
    model = tiny_model(kind, seed=seed).requires_grad_(False)
    if model.language_model.lm_head is not None:
        model.language_model.lm_head.weight *= 16.0
    return with_end(model, AUDIO)


def lively_model(kind: str = "base", seed: int = SEED) -> GraniteSpeech:
    """A random model whose end token is a common one, so that rows finish at different steps."""
    model = decided_model(kind, seed)
    replies = decode_batch(model, prompts_for(model, 8, seed=1), Greedy(24), [0] * 8)
    return with_end(model, Counter(i for reply in replies for i in set(reply.ids)).most_common(1)[0][0])


def prompts_for(model: GraniteSpeech, n: int, seed: int = 0) -> list[Tensor]:
    """Embeddings of n random texts of 2 to 20 tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 21, (n,), generator=generator).tolist()
    return model.embed([torch.randint(PAD, (length,), generator=generator) for length in lengths])


def assert_same_replies(replies: Sequence[Reply], expected: Sequence[Reply]) -> None:
    """The same tokens, endings and, but for rounding, probabilities; the counters may differ."""
    for ours, theirs in zip(replies, expected, strict=True):
        assert (ours.ids, ours.finished) == (theirs.ids, theirs.finished)
        torch.testing.assert_close(torch.tensor(ours.logprobs), torch.tensor(theirs.logprobs), atol=1e-5, rtol=0)
