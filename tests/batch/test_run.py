"""Rounds of a batch with scripted workers: what is tried again, reported and listed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lithophone.batch import run
from lithophone.batch.job import HEADER, Job
from lithophone.batch.recording import Recording
from lithophone.batch.run import CHUNK, FAILURES, LOST, Batch
from lithophone.batch.worker import Outcome
from lithophone.errors import JournalError, JournalWriteError
from lithophone.formats import CueOptions
from lithophone.pipeline.options import TranscribeOptions

Script = Callable[[int, Recording], Outcome | None]
"""Attempt from 1 and recording -> outcome; None: its worker ends."""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PAUSE_S", 0.0)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"123")
    return Job(tmp_path / "model", tmp_path / "out", ("txt", "json"), TranscribeOptions(), CueOptions())


class Scripted:
    def __init__(self, job: Job, script: Script) -> None:
        self.job, self.script = job, script
        self.rounds: list[list[list[str]]] = []

    def outcomes(self, chunks: Sequence[Sequence[Recording]]) -> Iterator[Outcome]:
        self.rounds.append([[one.name for one in chunk] for chunk in chunks])
        for chunk in reversed(chunks):
            for one in chunk:
                outcome = self.script(len(self.rounds), one)
                if outcome is None:
                    break
                if outcome.error is None:
                    write(self.job, one.name)
                yield outcome


def write(job: Job, name: str, formats: Sequence[str] = ("txt", "json")) -> None:
    for format in formats:
        path = job.folder / f"{name}.{format}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text", encoding="utf-8")


def recordings(n: int) -> list[Recording]:
    return [Recording(f"{i:03d}", f"memory://{i}.wav") for i in range(n)]


def good(attempt: int, one: Recording) -> Outcome:
    return Outcome(one.name, duration_s=2.0)


def ran(job: Job, many: Sequence[Recording], script: Script, retries: int = 2) -> tuple[Batch, Scripted, list[Outcome]]:
    workers, reported = Scripted(job, script), list[Outcome]()
    batch = Batch(job, many, retries, reported.append)
    with job.opened():
        batch.run(lambda: workers)
    return batch, workers, reported


def listed(job: Job) -> list[tuple[str, str, int]]:
    path = job.folder / FAILURES
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.exists() else ()
    return [(row["id"], row["error"], row["attempts"]) for row in rows]


def test_chunks_are_those_of_the_whole_batch_without_what_is_done(job: Job) -> None:
    many = recordings(2 * CHUNK + 3)
    done = {3, *range(CHUNK, 2 * CHUNK)}
    for i in done:
        write(job, f"{i:03d}")
    write(job, "005", ["txt"])  # the other file is missing
    batch, workers, reported = ran(job, many, good)
    first = [f"{i:03d}" for i in range(CHUNK) if i != 3]
    assert workers.rounds == [[first, [f"{i:03d}" for i in range(2 * CHUNK, 2 * CHUNK + 3)]]]
    assert (batch.summary.n_known, batch.summary.n_done, len(reported)) == (len(done), CHUNK + 2, CHUNK + 2)
    assert listed(job) == []


def test_nothing_is_started_where_all_is_done(job: Job) -> None:
    write(job, "000")
    with job.opened():
        assert Batch(job, recordings(1), 2).run(lambda: pytest.fail("no model is needed")).n_known == 1


def test_failures_are_tried_again_one_by_one_and_then_listed(job: Job) -> None:
    def script(attempt: int, one: Recording) -> Outcome:
        flaky = {"001": 2, "002": 9}.get(one.name, 0)
        if one.name == "003":
            return Outcome(one.name, "no audio")
        return Outcome(one.name, "unreachable", may_succeed=True) if attempt <= flaky else good(attempt, one)

    batch, workers, reported = ran(job, recordings(5), script)
    assert workers.rounds[1:] == [[["001"], ["002"]]] * 2
    assert batch.summary.failed == {"003": "no audio", "002": "unreachable"}
    assert listed(job) == [("002", "unreachable", 3), ("003", "no audio", 1)]
    assert sorted(outcome.name for outcome in reported) == ["000", "001", "002", "003", "004"]
    # The next run tries the failures alone, and its list is a new one.
    batch, workers, _ = ran(job, recordings(5), good)
    assert workers.rounds == [[["002", "003"]]]
    assert listed(job) == []


def test_what_a_worker_had_that_ended_is_tried_again(job: Job) -> None:
    def script(attempt: int, one: Recording) -> Outcome | None:
        if one.name == "004":
            write(job, one.name)  # its outputs are there, its outcome is lost
        return None if one.name in ("001", "004") or (one.name == "002" and attempt == 1) else good(attempt, one)

    batch, workers, reported = ran(job, recordings(CHUNK + 1), script, retries=1)
    assert workers.rounds[1] == [[f"{i:03d}"] for i in range(1, CHUNK)]
    assert listed(job) == [("001", LOST, 2)]
    assert (batch.summary.n_done, len(reported)) == (CHUNK, CHUNK + 1)
    assert len({outcome.name for outcome in reported}) == CHUNK + 1


def test_outcomes_that_come_twice_count_once(job: Job) -> None:
    class Twice(Scripted):
        def outcomes(self, chunks: Sequence[Sequence[Recording]]) -> Iterator[Outcome]:
            for outcome in super().outcomes(chunks):
                yield from (outcome, outcome)

    reported: list[Outcome] = []
    with job.opened():
        summary = Batch(job, recordings(3), 2, reported.append).run(lambda: Twice(job, good))
    assert (summary.n_done, summary.audio_s, len(reported)) == (3, 6.0, 3)


def test_a_full_disk_ends_the_batch_and_keeps_what_is_done(job: Job) -> None:
    def script(attempt: int, one: Recording) -> Outcome:
        full = one.name == "002"
        return Outcome(one.name, "No space left", may_succeed=True, ends_batch=True) if full else good(attempt, one)

    with pytest.raises(JournalWriteError, match="2 recordings are finished and kept: free space"):
        ran(job, recordings(9), script)
    assert job.is_done(recordings(9)[1])
    assert [name for name, _, _ in listed(job)] == ["002"]


def test_without_retries_there_is_one_attempt(job: Job) -> None:
    _, workers, _ = ran(job, recordings(2), lambda attempt, one: Outcome(one.name, "x", may_succeed=True), retries=0)
    assert len(workers.rounds) == 1
    assert [attempts for _, _, attempts in listed(job)] == [1, 1]


# --- the folder


def test_outputs_older_than_their_recording_are_made_again(job: Job, tmp_path: Path) -> None:
    audio = tmp_path / "a.wav"
    audio.write_bytes(b"")
    one = Recording("a", str(audio))
    assert not job.is_done(one)
    write(job, "a")
    assert job.is_done(one)
    later = (job.folder / "a.txt").stat().st_mtime_ns + 10**9
    os.utime(audio, ns=(later, later))
    assert not job.is_done(one)


def test_a_folder_is_for_one_model_and_the_same_options(job: Job) -> None:
    with job.opened():
        pass
    with replace(job, formats=("srt",), options=TranscribeOptions(batch_size=3)).opened():
        pass
    with (
        pytest.raises(JournalError, match="language is 'fr', in the folder None"),
        replace(job, options=TranscribeOptions(language="fr")).opened(),
    ):
        pass
    (job.model / "weights").write_bytes(b"124")
    with pytest.raises(JournalError, match="files is '"), job.opened():
        pass


def test_two_batches_cannot_write_to_one_folder(job: Job) -> None:
    with job.opened(), pytest.raises(JournalError, match="written to by another batch"), job.opened():
        pass


def test_a_header_that_was_cut_is_written_anew(job: Job) -> None:
    job.folder.mkdir()
    (job.folder / HEADER).write_bytes(b'{"version": "0.')
    with job.opened():
        pass
    assert json.loads((job.folder / HEADER).read_bytes())["model"] == "model"
