"""Journals: a run that was cut off continues, computes nothing twice, and ends with the results of an unbroken one."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from io import RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from lithophone.checkpoint import Checkpoint
from lithophone.errors import AudioError, JournalError, JournalWriteError
from lithophone.model.speech import GraniteSpeech
from lithophone.pipeline.assembly import Event, RecordingDone
from lithophone.pipeline.engine import Engine, Pending
from lithophone.pipeline.fingerprint import fingerprint
from lithophone.pipeline.journal import Journal
from lithophone.pipeline.sources import AudioSource
from lithophone.pipeline.transcriber import Transcriber
from lithophone.pipeline.utterance import Utterance
from lithophone.transcript import Transcript
from tests.detectors import by_loudness
from tests.sounds import silence, tone
from tests.tiny_checkpoint import spelling_checkpoint

RATE_HZ = 16_000
OPTIONS: dict[str, Any] = {"decode": "greedy", "max_new_tokens": 6, "batch_size": 3, "word_timestamps": True}


class CountingEngine(Engine):
    """Counts what is decoded."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.decoded = 0

    def submit(self, utterance: Utterance) -> Pending:
        self.decoded += 1
        return super().submit(utterance)


@pytest.fixture(scope="module", autouse=True)
def small_groups() -> Iterator[None]:
    """Three windows each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lithophone.pipeline.groups.GROUP", 1)
        yield


def kept(path: Path) -> int:
    """Windows in a journal."""
    return sum(line.startswith(b'{"window"') for line in path.read_bytes().splitlines())


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return spelling_checkpoint()


def transcriber(checkpoint: Checkpoint) -> Transcriber:
    return Transcriber(checkpoint, detector=by_loudness(), engine=CountingEngine(checkpoint))


def engine_of(one: Transcriber) -> CountingEngine:
    assert isinstance(one.engine, CountingEngine)
    return one.engine


def talk(*lengths_s: float, first_hz: float = 300.0) -> np.ndarray:
    parts = [(silence(1.2), tone(s, frequency_hz=first_hz + 70 * i)) for i, s in enumerate(lengths_s)]
    return np.concatenate([part for pair in parts for part in pair])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five recordings, one of nine windows, one of silence."""
    folder = tmp_path_factory.mktemp("talks")
    lengths = [(0.6,), (0.8, 0.5), (0.7, 1.1, 0.4, 0.9, 0.5, 1.3, 0.6, 0.8, 0.7), (), (1.0, 0.4)]
    for i, some in enumerate(lengths):
        samples = talk(*some, first_hz=250.0 + 40 * i) if some else silence(1.0)
        soundfile.write(folder / f"{i}.wav", samples, RATE_HZ, subtype="FLOAT")
    return sorted(folder.iterdir())


def documents(events: Iterator[Event]) -> list[str]:
    """Results as JSON, with all digits."""
    results = [event.result for event in events if isinstance(event, RecordingDone)]
    return [json.dumps(result.to_dict()) for result in results if isinstance(result, Transcript)]


@pytest.fixture(scope="module")
def unbroken(checkpoint: Checkpoint, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    with Journal(tmp_path_factory.mktemp("whole") / "journal") as journal:
        return documents(transcriber(checkpoint).events(files, journal=journal, **OPTIONS))


N_WINDOWS = 14


@pytest.mark.parametrize(("n_events", "n_kept"), [(1, 0), (4, 0), (5, 3), (10, 6), (13, 9), (19, 12)])
def test_a_run_that_was_cut_off_ends_with_the_same_bytes_and_decodes_nothing_twice(
    checkpoint: Checkpoint, files: list[Path], unbroken: list[str], tmp_path: Path, n_events: int, n_kept: int
) -> None:
    first, second = transcriber(checkpoint), transcriber(checkpoint)
    with Journal(tmp_path / "journal") as journal:
        events = first.events(files, journal=journal, **OPTIONS)
        for _ in range(n_events):
            next(events)
        events.close()
    assert kept(tmp_path / "journal") == n_kept
    with Journal(tmp_path / "journal") as journal:
        assert documents(second.events(files, journal=journal, **OPTIONS)) == unbroken
    assert engine_of(second).decoded == N_WINDOWS - n_kept
    first.engine.step()
    assert not first.engine.busy


def test_a_finished_run_computes_nothing_and_reads_nothing(
    checkpoint: Checkpoint, files: list[Path], unbroken: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path / "journal") as journal:
        list(transcriber(checkpoint).events(files, journal=journal, **OPTIONS))
    size = (tmp_path / "journal").stat().st_size
    monkeypatch.setattr(GraniteSpeech, "encode", None)
    monkeypatch.setattr("lithophone.pipeline.sources.open_audio", None)
    with Journal(tmp_path / "journal") as journal:
        events = list(transcriber(checkpoint).events(files, journal=journal, **OPTIONS))
        assert (journal.n_done, journal.n_open) == (5, 0)
    assert documents(iter(events)) == unbroken
    assert all(event.is_known for event in events)
    assert (tmp_path / "journal").stat().st_size == size


def test_recordings_that_are_new_are_transcribed_beside_finished_ones(
    checkpoint: Checkpoint, files: list[Path], unbroken: list[str], tmp_path: Path
) -> None:
    with Journal(tmp_path / "journal") as journal:
        documents(transcriber(checkpoint).events(files[:2], journal=journal, **OPTIONS))
    second = transcriber(checkpoint)
    with Journal(tmp_path / "journal") as journal:
        assert len(documents(second.events(files, journal=journal, **OPTIONS))) == len(unbroken)
    assert engine_of(second).decoded == N_WINDOWS - 3


@pytest.mark.parametrize("n_cut", [1, 2, 20, 300])
def test_a_group_whose_last_line_was_torn_is_computed_again(
    checkpoint: Checkpoint, files: list[Path], unbroken: list[str], tmp_path: Path, n_cut: int
) -> None:
    path = tmp_path / "journal"
    with Journal(path) as journal:
        events = transcriber(checkpoint).events(files, journal=journal, **OPTIONS)
        for _ in range(9):
            next(events)
        events.close()
    assert kept(path) == 6
    path.write_bytes(path.read_bytes()[:-n_cut])
    again = transcriber(checkpoint)
    with Journal(path) as journal:
        assert documents(again.events(files, journal=journal, **OPTIONS)) == unbroken
    assert engine_of(again).decoded == N_WINDOWS - 3
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_group_with_a_damaged_line_is_computed_again(
    checkpoint: Checkpoint, files: list[Path], unbroken: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    with Journal(path) as journal:
        list(transcriber(checkpoint).events(files, journal=journal, **OPTIONS))
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if line.startswith(b'{"window":2'))
    lines[at + 5] = b"\0" * 30 + b"\n"
    path.write_bytes(b"".join(lines))
    again = transcriber(checkpoint)
    with Journal(path) as journal:
        assert documents(again.events(files, journal=journal, **OPTIONS)) == unbroken
    assert engine_of(again).decoded == 3


def test_another_model_or_other_options_are_refused_and_named(
    checkpoint: Checkpoint, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with Journal(path) as journal:
        list(transcriber(checkpoint).events(files[:1], journal=journal, **OPTIONS))
    before = path.read_bytes()
    for changes, words in (
        ({"language": "fr"}, "language is 'fr', in the journal None"),
        ({"decode": "ctc", "max_new_tokens": None}, "decode is 'ctc', in the journal 'greedy'; max_new_tokens is None"),
        ({"keywords": ("stone",)}, r"keywords is \['stone'\], in the journal \[\]"),
    ):
        with Journal(path) as journal, pytest.raises(JournalError, match=words):
            transcriber(checkpoint).events(files, journal=journal, **{**OPTIONS, **changes})
    other = replace(spelling_checkpoint(), folder=Path("other"))
    with torch.no_grad():
        next(other.network.parameters()).mul_(1.01)
    with Journal(path) as journal, pytest.raises(JournalError, match=r"fingerprint is .*; model is 'other'"):
        transcriber(other).events(files, journal=journal, **OPTIONS)
    monkeypatch.setattr("lithophone.pipeline.journal.__version__", "9.9")
    with Journal(path) as journal, pytest.raises(JournalError, match=r"version is '9\.9', in the journal"):
        transcriber(checkpoint).events(files, journal=journal, **OPTIONS)
    assert path.read_bytes() == before


def test_the_batch_size_may_change(checkpoint: Checkpoint, files: list[Path], tmp_path: Path) -> None:
    """After a run that ended for lack of memory."""
    with Journal(tmp_path / "journal") as journal:
        events = transcriber(checkpoint).events(files, journal=journal, **OPTIONS)
        next(events)
        events.close()
    with Journal(tmp_path / "journal") as journal:
        done = documents(transcriber(checkpoint).events(files, journal=journal, **{**OPTIONS, "batch_size": 1}))
    assert len(done) == 5


def test_a_file_that_was_replaced_is_refused_alone(checkpoint: Checkpoint, files: list[Path], tmp_path: Path) -> None:
    changed, same = tmp_path / "changed.wav", tmp_path / "same.wav"
    for path in (changed, same):
        path.write_bytes(files[0].read_bytes())
    with Journal(tmp_path / "journal") as journal:
        list(transcriber(checkpoint).events([changed, same], journal=journal, **OPTIONS))
    changed.write_bytes(files[1].read_bytes())
    os.utime(same, ns=(1, 2))
    with Journal(tmp_path / "journal") as journal:
        results = list(transcriber(checkpoint).transcribe_many([changed, files[1], same], journal=journal, **OPTIONS))
    assert [type(result) for _, result in results] == [JournalError, Transcript, JournalError]
    assert f"size is {files[1].stat().st_size}, in the journal {files[0].stat().st_size}" in str(results[0][1])
    assert "mtime_ns is 2, in the journal" in str(results[2][1])


def test_parts_channels_and_bytes_are_recordings_of_their_own(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([talk(0.5, 0.7), talk(0.7, 0.5)], axis=1), RATE_HZ, subtype="FLOAT")
    sources = [AudioSource(path, channel=0), AudioSource(path, channel=1), AudioSource(path, start_s=1.5)]
    given = [*sources, path, path.read_bytes(), talk(0.5)]
    rates = [*given[:-1], AudioSource(given[-1], RATE_HZ)]
    with Journal(tmp_path / "journal") as journal:
        first = documents(transcriber(checkpoint).events(rates, journal=journal, **OPTIONS))
        assert journal.n_done == 5
    again = transcriber(checkpoint)
    with Journal(tmp_path / "journal") as journal:
        second = documents(again.events(rates, journal=journal, **OPTIONS))
    assert second[:5] == first[:5]
    assert len(second) == 6
    assert engine_of(again).decoded == 1, "samples are computed again"


def test_a_recording_that_failed_is_tried_again(checkpoint: Checkpoint, files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "late.wav"
    broken.write_bytes(b"RIFF")
    with Journal(tmp_path / "journal") as journal:
        [(_, failed)] = transcriber(checkpoint).transcribe_many([broken], journal=journal, **OPTIONS)
        assert (journal.n_done, journal.n_open) == (0, 0)
    assert isinstance(failed, AudioError)
    with Journal(tmp_path / "journal") as journal:
        [(_, failed)] = transcriber(checkpoint).transcribe_many([broken], journal=journal, **OPTIONS)
    assert isinstance(failed, AudioError)


def test_a_list_may_name_a_recording_twice(checkpoint: Checkpoint, files: list[Path], tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        twice = documents(transcriber(checkpoint).events([files[2], files[0], files[2]], journal=journal, **OPTIONS))
    assert len(twice) == 3
    assert twice[0] == twice[2]


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(
    checkpoint: Checkpoint, files: list[Path], unbroken: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    room = [3000]

    def limited(file: RawIOBase, data: bytes) -> None:
        """Half of the line that is too long is written."""
        room[0] -= len(data)
        file.write(data if room[0] >= 0 else data[: len(data) // 2])
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, Journal(path) as journal:
        patch.setattr("lithophone.pipeline.journal._write", limited)
        first = transcriber(checkpoint)
        with pytest.raises(JournalWriteError, match=r"No space left on device.*free space on the disk, then resume"):
            list(first.events(files, journal=journal, **OPTIONS))
        first.engine.step()
        assert not first.engine.busy
    n_kept = kept(path)
    assert n_kept > 0
    again = transcriber(checkpoint)
    with Journal(path) as journal:
        assert documents(again.events(files, journal=journal, **OPTIONS)) == unbroken
    assert engine_of(again).decoded == N_WINDOWS - n_kept


def test_one_process_has_a_journal_open(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with Journal(tmp_path / "journal"), pytest.raises(JournalError, match="in use by another process"):
        Journal(tmp_path / "journal")
    with Journal(tmp_path / "journal") as journal:
        assert journal.is_new


@pytest.mark.parametrize("content", [b"no journal\n", b'{"journal":99}\n', b"[]\n"])
def test_another_file_is_no_journal_and_stays(
    checkpoint: Checkpoint, files: list[Path], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "journal").write_bytes(content)
    with Journal(tmp_path / "journal") as journal, pytest.raises(JournalError, match="no journal of this version"):
        transcriber(checkpoint).events(files, journal=journal, **OPTIONS)
    assert (tmp_path / "journal").read_bytes() == content


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JournalWriteError, match="file/journal cannot be opened"):
        Journal(tmp_path / "file" / "journal")


def test_a_fingerprint_tells_models_apart(checkpoint: Checkpoint) -> None:
    same, other = spelling_checkpoint(), spelling_checkpoint()
    assert fingerprint(same) == fingerprint(checkpoint)
    with torch.no_grad():
        next(iter(other.network.buffers())).add_(1)
    assert fingerprint(other) != fingerprint(checkpoint)
    assert fingerprint(replace(same, min_confidence=0.5)) != fingerprint(checkpoint)
    assert fingerprint(replace(same, network=same.network.to(torch.bfloat16))) != fingerprint(checkpoint)
