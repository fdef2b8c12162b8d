"""Incremental decoding: a window of a conversation continues the one before, so that speakers keep their numbers.

Samples of the window before precede those of the window, and its text follows the assistant header of the prompt; the
reply is the continuation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lithophone.audio.features import FRAME_S, audio_embedding_count
from lithophone.audio.samples import RATE_HZ
from lithophone.checkpoint import Checkpoint
from lithophone.pipeline.request import REPLY_TOKENS_PER_S, frames_of
from lithophone.pipeline.utterance import Utterance
from lithophone.text.replies import tagged_text

FRAME = round(FRAME_S * RATE_HZ)
"""Samples of a frame."""


@dataclass(frozen=True, eq=False)
class Context:
    """What precedes a window: samples (n,) of whole frames, ids of their text, and the last speaker."""

    samples: Tensor
    prefix: tuple[int, ...] = ()
    speaker: str | None = None

    @property
    def frames(self) -> int:
        return len(self.samples) // FRAME

    @property
    def is_empty(self) -> bool:
        return not len(self.samples)


NOTHING = Context(torch.zeros(0))


def context_of(checkpoint: Checkpoint, utterance: Utterance) -> Context:
    """The window before, where it has text and both fit into the model's positions with a reply; else nothing."""
    previous = utterance.previous
    if previous is None or previous.samples is None:
        return NOTHING
    assert previous.done, "a window is encoded when the one before it is decoded"
    turns, samples = previous.turns, previous.samples[len(previous.samples) % FRAME :]
    if not turns:
        return NOTHING
    prefix = tuple(checkpoint.tokenizer.encode(_plain(tagged_text(turns), checkpoint)))
    config, request = checkpoint.config, utterance.request
    frames = frames_of(checkpoint, len(samples) + len(utterance.samples))
    n_audio = audio_embedding_count(frames, config.window_size, config.downsample_rate)
    reply = REPLY_TOKENS_PER_S * utterance.duration_s
    needed = len(request.before) + n_audio + len(request.behind) + len(prefix) + reply
    if needed > config.text_config.max_position_embeddings:
        return NOTHING
    return Context(samples, prefix, turns[-1].speaker)


def _plain(text: str, checkpoint: Checkpoint) -> str:
    """The text without the names of special tokens, which it would otherwise contain as such."""
    for token in checkpoint.tokenizer.special_tokens:
        text = text.replace(token, " ")
    return text
