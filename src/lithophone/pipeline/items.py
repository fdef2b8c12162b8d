"""What is read of the sources, in order, until its event is due."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeAlias

from torch import Tensor

from lithophone.audio.samples import RATE_HZ
from lithophone.pipeline.assembly import Assembly, RecordingDone, WindowDone, segments_in_time
from lithophone.pipeline.engine import Engine, Pending
from lithophone.pipeline.journal import Record
from lithophone.pipeline.quality import loops
from lithophone.pipeline.sources import Reading
from lithophone.pipeline.utterance import Utterance
from lithophone.text.replies import Turn
from lithophone.transcript import Segment


@dataclass(eq=False)
class NewWindow:
    """A window for the engine."""

    assembly: Assembly
    reading: Reading
    record: Record | None
    utterance: Utterance
    pending: Pending | None = None

    @property
    def duration_s(self) -> float:
        return self.utterance.duration_s

    @property
    def done(self) -> bool:
        return self.pending is not None and self.pending.done

    @property
    def samples(self) -> Tensor:
        return self.utterance.samples

    @property
    def turns(self) -> tuple[Turn, ...]:
        assert self.pending is not None, "a window has text when it is done"
        assert self.pending.result is not None, "a window has text when it is done"
        result = self.pending.result
        is_whole = result.reply.finished and not loops(result.reply.ids)
        return merged_turns(segments_in_time(result)) if is_whole else ()

    def submit(self, engine: Engine) -> None:
        self.pending = engine.submit(self.utterance)

    def cancel(self, engine: Engine) -> None:
        if self.pending is not None:
            engine.cancel(self.pending)

    def event(self) -> WindowDone:
        assert self.pending is not None, "a window has an event when it is done"
        assert self.pending.result is not None, "a window has an event when it is done"
        done = self.assembly.add(self.pending.result, self.reading.duration_s, self.pending.compute_s)
        if self.record is not None:
            self.record.add(self.utterance.start, len(self.utterance.samples), done)
        self.utterance = replace(self.utterance, previous=None)  # or all windows before would be kept
        return self.assembly.shown(done)


@dataclass(frozen=True)
class KnownWindow:
    """A window that the journal has."""

    assembly: Assembly
    record: Record
    start: int
    samples: Tensor | None = None
    """Where the next window continues it."""
    done = True

    @property
    def turns(self) -> tuple[Turn, ...]:
        event = self.record.window(self.assembly.source, self.start)
        is_whole = not any(warning.code in ("cut", "loop") for warning in event.warnings)
        return merged_turns(event.segments) if is_whole else ()

    @property
    def duration_s(self) -> float:
        return self.record.windows[self.start].n / RATE_HZ

    def event(self) -> WindowDone:
        return self.assembly.shown(self.assembly.add_done(self.record.window(self.assembly.source, self.start)))


@dataclass(frozen=True)
class Speakers:
    """The speakers of a source, behind its last window."""

    assembly: Assembly
    reading: Reading
    record: Record | None
    is_known: bool = False
    done = True

    def event(self) -> WindowDone:
        duration_s = self.reading.duration_s
        assert duration_s is not None, "a source has a length when all of it is read"
        if self.is_known:
            assert self.record is not None, "what is not read is in the journal"
            turns, warnings = self.record.turns()
        else:
            assert self.reading.diarization is not None, "speakers are asked for"
            turns, warnings = self.reading.diarization.turns(duration_s)
        if self.record is not None and not self.is_known:
            self.record.keep_turns(turns, warnings)
        return self.assembly.attribute(turns, duration_s, warnings)


@dataclass(frozen=True)
class End:
    """The end of a source; `is_known` where the journal has it."""

    assembly: Assembly
    reading: Reading
    record: Record | None
    is_known: bool = False
    done = True

    def event(self) -> RecordingDone:
        duration_s, damage = self.reading.duration_s, self.reading.warnings
        assert duration_s is not None, "a source has a length when all of it is read"
        if self.record is not None and not self.is_known:
            self.record.finish(duration_s, damage, len(self.assembly.windows))
        return self.assembly.finish(duration_s, damage, is_known=self.is_known)


@dataclass(frozen=True)
class Failed:
    error: RecordingDone
    done = True

    def event(self) -> RecordingDone:
        return self.error


def merged_turns(segments: Iterable[Segment]) -> tuple[Turn, ...]:
    """Turns of segments in order: those of one speaker in a row are one."""
    return tuple(
        Turn(speaker, " ".join(" ".join(segment.text for segment in group).split()))
        for speaker, group in groupby(segments, key=lambda segment: segment.speaker)
    )


Item: TypeAlias = NewWindow | KnownWindow | Speakers | End | Failed
