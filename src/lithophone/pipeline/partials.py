"""Text of an utterance while it is spoken: the best path of the character head, read again as samples come.

samples -> frames -> encoder, without what is final -> best path -> stable prefix, unstable rest
"""

from __future__ import annotations

import torch

from lithophone.audio.features import FrameStream
from lithophone.audio.samples import Samples
from lithophone.checkpoint import Checkpoint
from lithophone.ctc.stable_prefix import StablePrefix
from lithophone.model.encoder_stream import EncoderStream
from lithophone.pipeline.request import Request


class PartialText:
    """Stable and unstable text of one growing utterance.

    A block of the encoder is final when the next one is complete; `docs/captions.md` has the difference to exact.
    """

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        assert request.is_spelled, "the character head spells the words"
        encoder = checkpoint.network.encoder
        self._frames = FrameStream(next(encoder.parameters()).device)
        self._encoder = EncoderStream(encoder, request.bias, look_ahead=encoder.config.context_size)
        self._text = StablePrefix()

    @property
    def stable(self) -> str:
        """Grows at its end only."""
        return self._text.stable

    @property
    def unstable(self) -> str:
        return self._text.unstable

    def push(self, samples: Samples) -> None:
        """The next samples (n,), and one pass of the encoder."""
        frames = self._frames.push(torch.from_numpy(samples))
        if len(frames):
            logits = self._encoder.encode(frames).logits[0]
            self._text.update(logits.argmax(-1).tolist())
