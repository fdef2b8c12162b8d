"""Marks of audio embeddings, of text and of the first tokens, in a language model of the recipe `transplant_decoder`.

They lie in `SPARE` channels behind Whisper's. Those of audio embeddings are so large that the norm of an embedding
hardly depends on its content. Those of text are small. The first two tokens of a prompt, the start and the second, have
a mark each and no content: they are what audio embeddings attend to, so that they read nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lithophone.train.transplant.decoder_statistics import DecoderStatistics

N_AUDIO, N_TEXT = 12, 2
SPARE = N_AUDIO + N_TEXT + 2
"""Channels beyond Whisper's: a multiple of 16 keeps matrices aligned."""

AUDIO_MARK = 12.0
"""Of an audio embedding, relative to the usual deviation of its content. With 4 the reading falls apart."""
FIRST_MARK = 1000.0
TEXT_ENERGY = 0.005
"""Of the marks of text, relative to the usual energy of an embedding."""


@dataclass(frozen=True)
class Marks:
    """Values of the marks, in front of the norm of a layer and behind it."""

    size: int
    """Channels of content."""
    content: float
    """What the norm of an audio embedding divides its content by."""
    raw_audio: float
    raw_text: float

    @classmethod
    def of(cls, statistics: DecoderStatistics) -> Marks:
        size, deviation = len(statistics.state_mean), float(statistics.state_deviation)
        mark = AUDIO_MARK * deviation
        content = math.sqrt((size * deviation**2 + N_AUDIO * mark**2) / (size + SPARE))
        text = float(statistics.text_deviation[0, 0]) * math.sqrt(TEXT_ENERGY * size / N_TEXT)
        return cls(size, content, mark, text)

    @property
    def audio_channels(self) -> slice:
        return slice(self.size, self.size + N_AUDIO)

    @property
    def text_channels(self) -> slice:
        return slice(self.size + N_AUDIO, self.size + SPARE - 2)

    @property
    def start(self) -> int:
        return self.size + SPARE - 2

    @property
    def second(self) -> int:
        return self.size + SPARE - 1

    def at_audio(self, value: float) -> float:
        """Weight of the marks of audio that together add `value`."""
        return value * self.content / (N_AUDIO * self.raw_audio)

    def at_first(self, value: float) -> float:
        """Weight of the mark of the start, or of the second token, that adds `value`."""
        return value / math.sqrt(self.size + SPARE)

    def at_text(self, value: float, deviation: float) -> float:
        """The same of the marks of text, where the content has this root mean square."""
        return value / (N_TEXT * self.text_behind_norm(deviation))

    def text_behind_norm(self, deviation: float) -> float:
        """Size of a mark of text, where the content has this root mean square."""
        return self.raw_text / (deviation * self.text_gain(deviation))

    def text_gain(self, deviation: float) -> float:
        """What the norm over all channels divides a text by, relative to Whisper's norm over the content."""
        energy = self.size * deviation**2 + N_TEXT * self.raw_text**2
        return math.sqrt(energy / (self.size + SPARE)) / deviation
