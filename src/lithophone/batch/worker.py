"""A loaded model that transcribes recordings of a batch to files."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lithophone.batch.job import Job, is_disk_error
from lithophone.batch.recording import Recording
from lithophone.batch.urls import Fetched, fetched_ahead
from lithophone.errors import LithophoneError
from lithophone.files import write_whole
from lithophone.formats.files import write_outputs
from lithophone.pipeline.assembly import RecordingDone
from lithophone.pipeline.sources import AudioSource
from lithophone.pipeline.transcriber import Transcriber
from lithophone.transcript import Transcript

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a recording."""

    name: str
    error: str | None = None
    may_succeed: bool = False
    """Whether another attempt may."""
    ends_batch: bool = False
    """Whether no other output can be written."""
    is_known: bool = False
    """Whether its outputs were there before."""
    duration_s: float = 0.0
    compute_s: float = 0.0
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Outcome:
        values = json.loads(text)
        return Outcome(**{**values, "warnings": tuple(values["warnings"])})


class Worker:
    """Transcribes chunks of recordings; those of a chunk share batches of the model.

    Outputs are written as soon as a recording is done, each to another name first, so that a worker that is killed
    leaves whole files alone. What has its outputs is skipped.
    """

    def __init__(self, job: Job, transcriber: Transcriber) -> None:
        self.job, self.transcriber = job, transcriber

    def outcomes(self, chunks: Iterable[Sequence[Recording]]) -> Iterator[Outcome]:
        """One of every recording. Raises no error of a recording."""
        for chunk in fetched_ahead(self._open(chunk) for chunk in chunks):
            for recording, file in chunk:
                if isinstance(file, LithophoneError):
                    yield Outcome(recording.name, str(file), may_succeed=True)
            yield from self._transcribed([(one, file) for one, file in chunk if isinstance(file, Path)])

    def _open(self, chunk: Sequence[Recording]) -> list[Recording]:
        return [one for one in chunk if not self.job.is_done(one)]

    def _transcribed(self, files: Sequence[Fetched]) -> Iterator[Outcome]:
        sources = {id(source): (one, source) for one, file in files for source in [self._source(one, file)]}
        left = {one.name for one, _ in files}
        try:
            for event in self.transcriber.events([source for _, source in sources.values()], options=self.job.options):
                if isinstance(event, RecordingDone):
                    recording, _ = sources[id(event.source)]
                    left.discard(recording.name)
                    yield self._written(recording, event)
        except Exception as error:  # of the model: memory, a device
            logger.exception("a chunk of %d recordings failed", len(files))
            yield from (Outcome(name, _line(error), may_succeed=True) for name in sorted(left))

    def _source(self, recording: Recording, file: object) -> AudioSource:
        options = recording.options(self.job.options)
        own = None if options == self.job.options else options
        return AudioSource(
            file, start_s=recording.start_s, end_s=recording.end_s, channel=recording.channel, options=own
        )

    def _written(self, recording: Recording, event: RecordingDone) -> Outcome:
        result = event.result
        if not isinstance(result, Transcript):
            return Outcome(recording.name, str(result))
        job = self.job
        try:
            write_outputs(job.folder, recording.output, job.formats, result, job.cues, write_whole)
        except OSError as error:
            return Outcome(recording.name, _line(error), may_succeed=True, ends_batch=is_disk_error(error))
        warnings = tuple(f"{w.start_s:.1f} to {w.end_s:.1f} s: {w.message} [{w.code}]" for w in result.warnings)
        return Outcome(recording.name, duration_s=result.duration_s, compute_s=event.compute_s, warnings=warnings)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
