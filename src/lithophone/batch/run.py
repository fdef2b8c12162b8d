"""A batch from its first chunk to its list of failures: rounds of attempts, of any kind of workers."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lithophone.batch.job import Job
from lithophone.batch.recording import Recording
from lithophone.batch.worker import Outcome
from lithophone.errors import JournalWriteError
from lithophone.files import write_whole

CHUNK = 32
"""Recordings that a worker gets at once: enough that batches of the model are full."""

FAILURES = "failed.jsonl"
"""The list of failures: a manifest, with errors."""

PAUSE_S = 1.0
"""Before the second attempt; twice as long before each further one."""

LOST = "the worker that had it ended: it was killed, or had too little memory"


class Workers(Protocol):
    """Processes that transcribe chunks."""

    def outcomes(self, chunks: Sequence[Sequence[Recording]]) -> Iterator[Outcome]:
        """Of recordings in any order; none of those whose worker ended, and of some perhaps two."""


@dataclass
class Summary:
    n_done: int = 0
    n_known: int = 0
    """Finished by an earlier run."""
    audio_s: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)
    """Name -> error of the last attempt."""


@dataclass
class Batch:
    """`report` gets every outcome once; `say` what happens between attempts."""

    job: Job
    recordings: Sequence[Recording]
    retries: int
    report: Callable[[Outcome], None] = lambda outcome: None
    say: Callable[[str], None] = lambda text: None
    summary: Summary = field(default_factory=Summary)

    def run(self, workers: Callable[[], Workers]) -> Summary:
        """Transcribe what is not done, and list the failures. Raises JournalWriteError where the disk is full."""
        known = {one.name for one in self.recordings if self.job.is_done(one)}
        self.summary.n_known = len(known)
        chunks = [
            [one for one in self.recordings[at : at + CHUNK] if one.name not in known]
            for at in range(0, len(self.recordings), CHUNK)
        ]
        attempts: dict[str, int] = {}
        try:
            if any(chunks):
                self._rounds([chunk for chunk in chunks if chunk], workers(), attempts)
        finally:
            self._list_failures(attempts)
        return self.summary

    def _rounds(self, chunks: list[list[Recording]], workers: Workers, attempts: dict[str, int]) -> None:
        for number in range(self.retries + 1):
            left = self._attempt(chunks, workers, attempts, is_last=number == self.retries)
            if not left:
                return
            # One by one: what ends a worker takes no other recording with it.
            chunks = [[one] for one in left]
            self.say(f"{len(left)} recordings are tried again")
            time.sleep(PAUSE_S * 2**number)

    def _attempt(
        self, chunks: list[list[Recording]], workers: Workers, attempts: dict[str, int], is_last: bool
    ) -> list[Recording]:
        """Those to try again."""
        given = {one.name: one for chunk in chunks for one in chunk}
        left, again = dict(given), set[str]()
        for name in given:
            attempts[name] = attempts.get(name, 0) + 1
        for outcome in workers.outcomes(chunks):
            if left.pop(outcome.name, None) and self._took(outcome, is_last):
                again.add(outcome.name)
        for name, recording in left.items():
            is_done = self.job.is_done(recording)
            if self._took(Outcome(name, None if is_done else LOST, may_succeed=not is_done), is_last):
                again.add(name)
        return [one for name, one in given.items() if name in again]

    def _took(self, outcome: Outcome, is_last: bool) -> bool:
        """Whether it is to be tried again."""
        summary = self.summary
        if outcome.error is None:
            summary.failed.pop(outcome.name, None)
            summary.n_done += 1
            summary.audio_s += outcome.duration_s
        else:
            summary.failed[outcome.name] = outcome.error
        if outcome.ends_batch:
            raise JournalWriteError(
                f"{self.job.folder} cannot be written ({outcome.error}); {summary.n_done + summary.n_known} recordings "
                "are finished and kept: free space on the disk, then run the command again"
            )
        if outcome.error is not None and outcome.may_succeed and not is_last:
            return True
        self.report(outcome)
        return False

    def _list_failures(self, attempts: dict[str, int]) -> None:
        """Write the list, or remove an older one."""
        path = self.job.folder / FAILURES
        rows = [
            {**one.to_dict(), "error": self.summary.failed[one.name], "attempts": attempts[one.name]}
            for one in self.recordings
            if one.name in self.summary.failed
        ]
        with contextlib.suppress(OSError):  # a full disk is an error of the run already
            if rows:
                write_whole(path, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
            else:
                path.unlink(missing_ok=True)
