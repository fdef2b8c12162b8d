"""A speaker per channel: every channel is transcribed by itself, then merged by time."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lithophone.audio.reader import open_audio
from lithophone.errors import AudioError, LithophoneError
from lithophone.pipeline.journal import Journal
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.sources import AudioSource
from lithophone.pipeline.transcriber import Transcriber
from lithophone.transcript import Segment, Transcript, TranscriptWarning


def transcribe_channels(
    transcriber: Transcriber,
    sources: Iterable[Any],
    options: TranscribeOptions | None = None,
    journal: Journal | None = None,
) -> Iterator[tuple[Any, Transcript | LithophoneError]]:
    """Source and merged transcript of each recording, in order; an error takes the place of one transcript.

    sources: paths, bytes, binary file objects or AudioSource; pipes and file objects are read into memory. Speakers are
    "channel 1", "channel 2", ...; a recording with one channel is transcribed as by `transcribe`.
    """
    under_way: deque[tuple[Any, int]] = deque()

    def channels() -> Iterator[AudioSource]:
        for source in sources:
            parts = channel_sources(source)
            under_way.append((source, len(parts)))
            yield from parts

    results: list[Transcript | LithophoneError] = []
    for _, result in transcriber.transcribe_many(channels(), options=options, journal=journal):
        results.append(result)
        source, n = under_way[0]
        if len(results) == n:
            under_way.popleft()
            yield source, _merged_or_error(results)
            results = []


def channel_sources(source: Any) -> list[AudioSource]:
    """One source per channel; `source` alone where it has or names one channel, or cannot be opened."""
    whole = source if isinstance(source, AudioSource) else AudioSource(source)
    if whole.channel is not None:
        return [whole]
    try:
        whole = replace(whole, file=_rereadable(whole.file))
        with open_audio(whole.file, whole.rate_hz) as stream:
            n = stream.channels
    except (AudioError, OSError, ValueError):
        return [whole]
    return [replace(whole, channel=channel) for channel in range(n)] if n > 1 else [whole]


def merged(transcripts: Sequence[Transcript]) -> Transcript:
    """Transcripts of channels as one, segments by start, speakers by channel.

    The language is that of the first channel that has one.
    """
    named = [_named(transcript, f"channel {i}") for i, transcript in enumerate(transcripts, start=1)]
    first = next((one for one in named if one.language), named[0])
    segments = sorted((s for one in named for s in one.segments), key=lambda s: (s.start_s, s.end_s))
    return replace(
        first,
        segments=tuple(segments),
        duration_s=max(one.duration_s for one in named),
        warnings=tuple(warning for one in named for warning in one.warnings),
    )


def _merged_or_error(results: Sequence[Transcript | LithophoneError]) -> Transcript | LithophoneError:
    transcripts = [result for result in results if isinstance(result, Transcript)]
    errors = [result for result in results if isinstance(result, LithophoneError)]
    if errors:
        return errors[0]
    return merged(transcripts) if len(transcripts) > 1 else transcripts[0]


def _named(transcript: Transcript, channel: str) -> Transcript:
    return replace(
        transcript,
        segments=tuple(_spoken_on(segment, channel) for segment in transcript.segments),
        warnings=tuple(_warned_on(warning, channel) for warning in transcript.warnings),
    )


def _spoken_on(segment: Segment, channel: str) -> Segment:
    """The speaker is the channel, followed by the model's speaker tag if any."""
    speaker = channel if segment.speaker is None else f"{channel}, {segment.speaker}"
    return replace(segment, speaker=speaker, words=tuple(replace(word, speaker=speaker) for word in segment.words))


def _warned_on(warning: TranscriptWarning, channel: str) -> TranscriptWarning:
    return replace(warning, message=f"{channel}: {warning.message}")


def _rereadable(file: Any) -> Any:
    """The source, or the bytes of one that can be read only once."""
    if hasattr(file, "read") and not isinstance(file, io.TextIOBase):
        return file.read()
    is_stream = isinstance(file, str | os.PathLike) and Path(file).exists() and not Path(file).is_file()
    return Path(file).read_bytes() if is_stream and not Path(file).is_dir() else file
