"""When speech starts and ends: settings of the segmenter."""

from __future__ import annotations

from dataclasses import dataclass, field

from lithophone.audio.samples import RATE_HZ
from lithophone.errors import OptionError

SPEECH_STARTS, SPEECH_ENDS = 0.5, 0.35
"""A run of chunks at or above the second threshold is speech if one reaches the first."""

LEAST_THRESHOLD = 0.01
"""The second threshold is not below it."""

PADDING_S = 0.4
PADDING_MS = round(PADDING_S * 1000)
"""Padding of speech: soft onsets and final consonants are below the thresholds."""

JOINING_S = 1.0
"""Shorter silences do not end a stretch of speech of a recording."""

LONG_SILENCE_S = 3.0
"""Silences of a plus model's window that are left out of its samples: time tags are unique within 10 s alone."""

MAX_MS = 10_000


@dataclass(frozen=True)
class Detection:
    """Settings of voice activity detection, with the names of OpenAI's realtime API, and its defaults but one.

    There the prefix is 300 ms; 400 are those of recordings, whose windows and words are therefore the same
    (`docs/captions.md`). Raises OptionError for values that are not allowed.
    """

    threshold: float = field(
        default=SPEECH_STARTS, metadata={"help": "Speech probability, 0 to 1, at which speech starts."}
    )
    prefix_padding_ms: int = field(default=PADDING_MS, metadata={"help": "Milliseconds kept before speech."})
    silence_duration_ms: int = field(default=500, metadata={"help": "Milliseconds of silence that end speech."})

    def __post_init__(self) -> None:
        number = isinstance(self.threshold, int | float) and not isinstance(self.threshold, bool)
        if not (number and 0 <= self.threshold <= 1):
            raise OptionError(f"threshold is {self.threshold!r}: it must be a probability from 0 to 1; 0.5 is usual")
        _check_ms("prefix_padding_ms", self.prefix_padding_ms, PADDING_MS)
        _check_ms("silence_duration_ms", self.silence_duration_ms, 500)

    @property
    def speech_ends(self) -> float:
        """Probability below which a run of speech ends."""
        return max(self.threshold - (SPEECH_STARTS - SPEECH_ENDS), min(self.threshold, LEAST_THRESHOLD))

    @property
    def prefix(self) -> int:
        """Samples of padding before speech."""
        return self.prefix_padding_ms * RATE_HZ // 1000

    @property
    def silence(self) -> int:
        """Samples of silence that end a stretch of speech."""
        return self.silence_duration_ms * RATE_HZ // 1000


def _check_ms(name: str, value: object, usual: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_MS:
        raise OptionError(f"{name} is {value!r}: it must be whole milliseconds from 0 to {MAX_MS}; {usual} are usual")


RECORDINGS = Detection(silence_duration_ms=round(JOINING_S * 1000))
"""For recordings: few and long windows."""

DIALOGUES = Detection(silence_duration_ms=round(LONG_SILENCE_S * 1000))
"""For speaker turns and time tags: pauses within a window, long silences between windows, which are joined."""

EVERYTHING = Detection(0.0, 0, MAX_MS)
"""All samples are speech."""
