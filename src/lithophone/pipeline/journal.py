"""Journal of a run: an append-only file of finished windows and recordings, so that a killed run continues.

One JSON object per line. The first names the run, which a later one must equal; then, group by group:

    {"journal": 1, "version": "0.2.0", "model": "lithophone-tiny", "fingerprint": "0f3a...", "options": {...}}
    {"recording": 0, "source": {"path": "/data/talk.mp3", ...}, "file": {"size": 31044, "mtime_ns": ...},
     "language": {"fr": 0.98, ...}}
    {"window": 0, "start": 16000, "n": 41000, "segments": [...], "warnings": [...], ...}
    {"done": 0, "n": 3, "duration_s": 61.5, "damage": []}
    {"group": 4}

A group without its last line, or with a damaged one, does not count: its windows are computed again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import Any

from lithophone.checkpoint import Checkpoint
from lithophone.errors import JournalError, JournalWriteError
from lithophone.pipeline.assembly import WindowDone
from lithophone.pipeline.fingerprint import fingerprint
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.sources import AudioSource
from lithophone.transcript import LanguageGuess, Segment, TranscriptWarning
from lithophone.version import __version__

FORMAT = 1

FREE_OPTIONS = ("batch_size",)
"""Options that a resumed run may change: results do not depend on them beyond rounding."""


class Journal:
    """The journal of a run, at `path`, for `Transcriber.events` and `Transcriber.transcribe_many`.

        with Journal("out/journal.jsonl") as journal:
            for source, result in transcriber.transcribe_many(paths, journal=journal):
                ...

    A journal that exists is continued: what it holds is not computed again, and comes as the same events. Recordings
    are known by path, part, channel and options; those that failed are tried again. Sources that are neither paths of
    files nor bytes are always computed. One process may have it open.

    Raises JournalError where another process has it open; JournalWriteError where the disk fails or is full, then all
    lines written before are kept.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._records: dict[str, Record] = {}
        self._by_number: dict[int, Record] = {}
        self._header: dict[str, Any] | None = None
        self._is_journal = True
        self._numbers = 0
        self._end = 0
        self._waiting: list[_Line] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise JournalWriteError(f"{path} cannot be opened ({error.strerror}): choose another place") from error
        try:
            self._lock()
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if not self._file.closed:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
            self._file.close()

    @property
    def is_new(self) -> bool:
        """Whether no run has begun."""
        return self._header is None

    @property
    def n_done(self) -> int:
        """Recordings that are finished."""
        return sum(record.is_done for record in self._records.values())

    @property
    def n_open(self) -> int:
        """Recordings that have windows and are not finished."""
        return sum(bool(record.windows) and not record.is_done for record in self._records.values())

    def begin(self, checkpoint: Checkpoint, options: TranscribeOptions, diarizer: str | None = None) -> None:
        """Name the run in a new journal; JournalError where an older one has another model, version or options.

        `diarizer`: name of the one that finds speakers.
        """
        run = _run(checkpoint, options) | ({} if diarizer is None else {"diarizer": diarizer})
        if not self._is_journal:
            raise JournalError(f"{self.path} is no journal of this version: choose another folder, or remove it")
        if self._header is None:
            self._write([_encoded({"journal": FORMAT, **run})])
            self._header = run
        different = list(differences(run, self._header, "journal"))
        if different:
            raise JournalError(
                f"{self.path} is the journal of another run: {'; '.join(different)}. Continue with what the journal "
                "has, or start over in another folder"
            )

    def record(self, source: AudioSource) -> Record | None:
        """What is known of a recording; None for one that cannot be known again.

        Raises JournalError where the file is another one than the journal's.
        """
        known = _identity(source)
        if known is None:
            return None
        name, file = known
        key = json.dumps(name, sort_keys=True)
        record = self._records.get(key) or self._add(self._numbers, name, file)
        different = "; ".join(differences(file, record.file, "journal"))
        if different:
            raise JournalError(
                f"{name['path']} is another file than the one in {self.path}: {different}. Put the first one back, or "
                "start over in another folder"
            )
        return record

    def commit(self) -> None:
        """Write the waiting lines as a group, and force them to the disk."""
        if not self._waiting:
            return
        at = self._write([*(line.data for line in self._waiting), _encoded({"group": len(self._waiting)})])
        for line in self._waiting:
            _keep(line, at)
            at += len(line.data)
        self._waiting = []

    def discard(self) -> None:
        """Drop the lines that are not written."""
        for line in self._waiting:
            line.record.is_written &= not line.is_first
        self._waiting.clear()

    # --- file

    def _add(self, number: int, name: dict[str, Any], file: dict[str, Any]) -> Record:
        record = Record(self, number, name, file)
        self._numbers = max(self._numbers, number + 1)
        self._records[json.dumps(name, sort_keys=True)] = self._by_number[number] = record
        return record

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(
                f"{self.path} is in use by another process: wait for its end, or choose another folder"
            ) from error

    def _read(self) -> None:
        """Index all groups, and drop what is behind the last."""
        end, group = 0, list[bytes]()
        with open(self.path, "rb") as file:
            for line in file:
                end += len(line)
                group.append(line)
                if end == len(line) and line.endswith(b"\n"):
                    self._read_header(_parsed(line))
                elif "group" in _parsed(line) and line.endswith(b"\n"):
                    self._index(group)
                else:
                    continue
                self._end, group = end, []
        self._file.truncate(self._end)

    def _read_header(self, values: dict[str, Any]) -> None:
        self._is_journal = values.pop("journal", None) == FORMAT
        self._header = values

    def _index(self, group: list[bytes]) -> None:
        """Keep the lines of a group, unless one is damaged."""
        parsed = [_parsed(line) for line in group]
        if parsed[-1]["group"] != len(group) - 1 or not all(parsed):
            return
        at = self._end
        for data, values in zip(group, parsed, strict=True):
            if "recording" in values:
                added = self._add(values["recording"], values["source"], values["file"])
                added.guess, added.is_written = LanguageGuess(values.get("language", {})), True
            else:
                record = self._by_number.get(values.get("window", values.get("done", -1)))
                if record is not None:
                    _keep(_Line(record, data, values.get("start"), values.get("n", 0)), at)
            at += len(data)

    def _write(self, lines: Sequence[bytes]) -> int:
        """Write lines; those that cannot all be written are removed. Gives their place."""
        data = b"".join(lines)
        try:
            _write(self._file, data)
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            raise JournalWriteError(
                f"{self.path} cannot be written ({error.strerror}); {self.n_done} recordings are finished and kept: "
                "free space on the disk, then resume"
            ) from error
        self._end += len(data)
        return self._end - len(data)

    def _line(self, place: Place) -> dict[str, Any]:
        self._file.seek(place.offset)
        return _parsed(self._file.read(place.length))


@dataclasses.dataclass(frozen=True)
class Place:
    """A line in the file; `n` samples of a window, or windows of a recording."""

    offset: int
    length: int
    n: int


class Record:
    """A recording in a journal; windows are known by their first sample."""

    def __init__(self, journal: Journal, number: int, name: dict[str, Any], file: dict[str, Any]) -> None:
        self.number, self.name, self.file = number, name, file
        self.windows: dict[int, Place] = {}
        self.end: Place | None = None
        self.guess = LanguageGuess({})
        """Of the language, where it was detected and there is one."""
        self.is_written = False
        self._turns: dict[str, Any] = {}
        self._journal = journal

    @property
    def is_done(self) -> bool:
        """Whether the end and all windows are kept: a group that is damaged may be missing."""
        return self.end is not None and len(self.windows) == self.end.n

    def has(self, start: int, n: int) -> bool:
        """Whether the window of `n` samples at `start` is finished."""
        return start in self.windows and self.windows[start].n == n

    def window(self, source: Any, start: int) -> WindowDone:
        """The event of a finished window."""
        values = self._journal._line(self.windows[start])
        return WindowDone(
            source,
            tuple(map(Segment.from_dict, values["segments"])),
            tuple(map(TranscriptWarning.from_dict, values["warnings"])),
            values["end_s"],
            values["duration_s"],
            values["compute_s"],
            is_known=True,
        )

    def ending(self) -> tuple[float, list[str]]:
        """Seconds of a finished recording, and what was damaged in it."""
        assert self.end is not None, "the recording is finished"
        values = self._journal._line(self.end)
        return values["duration_s"], values["damage"]

    def turns(self) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
        """Turns of the speakers of a finished recording, and warnings of them."""
        assert self.end is not None, "the recording is finished"
        values = self._journal._line(self.end)
        return tuple(map(Segment.from_dict, values.get("turns", ()))), tuple(values.get("speaker_warnings", ()))

    def keep_turns(self, turns: Sequence[Segment], warnings: Sequence[str]) -> None:
        """Turns for the line of the recording's end."""
        self._turns = {"turns": [turn.to_dict() for turn in turns], "speaker_warnings": list(warnings)}

    def add(self, start: int, n: int, done: WindowDone) -> None:
        values = {
            "window": self.number,
            "start": start,
            "n": n,
            "end_s": done.end_s,
            "duration_s": done.duration_s,
            "compute_s": round(done.compute_s, 4),
            "segments": [segment.to_dict() for segment in done.segments],
            "warnings": [warning.to_dict() for warning in done.warnings],
        }
        self._append(values, start, n)

    def finish(self, duration_s: float, damage: Sequence[str], n_windows: int) -> None:
        values = {"done": self.number, "n": n_windows, "duration_s": duration_s, "damage": list(damage), **self._turns}
        self._append(values, n=n_windows)

    def _append(self, values: dict[str, Any], start: int | None = None, n: int = 0) -> None:
        """A line that waits for the end of its group."""
        if not self.is_written:
            first: dict[str, Any] = {"recording": self.number, "source": self.name, "file": self.file}
            if self.guess.language:
                first["language"] = dict(self.guess.probabilities)
            self._journal._waiting.append(_Line(self, _encoded(first), is_first=True))
            self.is_written = True
        self._journal._waiting.append(_Line(self, _encoded(values), start, n))


@dataclasses.dataclass(frozen=True)
class _Line:
    """A line of a recording: its first, that of the window of `n` samples at `start`, or its end."""

    record: Record
    data: bytes
    start: int | None = None
    n: int = 0
    is_first: bool = False


def _keep(line: _Line, offset: int) -> None:
    """Index a line that is written."""
    place = Place(offset, len(line.data), line.n)
    if line.start is not None:
        line.record.windows[line.start] = place
    elif not line.is_first:
        line.record.end = place


def _encoded(values: Mapping[str, Any]) -> bytes:
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace") + b"\n"


# --- what runs and files are known by


def _run(checkpoint: Checkpoint, options: TranscribeOptions) -> dict[str, Any]:
    dtype = next(checkpoint.network.parameters()).dtype
    return {
        "version": __version__,
        "model": checkpoint.folder.name,
        "dtype": str(dtype).removeprefix("torch."),
        "fingerprint": fingerprint(checkpoint),
        "options": as_json({k: v for k, v in dataclasses.asdict(options).items() if k not in FREE_OPTIONS}),
    }


def _identity(source: AudioSource) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """What names a recording, and what tells its file from another; None for streams and samples."""
    name: dict[str, Any] = {"start_s": source.start_s, "end_s": source.end_s, "channel": source.channel}
    if source.options is not None:
        name["options"] = as_json(dataclasses.asdict(source.options))
    if isinstance(source.file, bytes):
        digest = hashlib.sha256(source.file).hexdigest()
        return {"path": f"sha256:{digest}", **name}, {"size": len(source.file)}
    if isinstance(source.file, str | os.PathLike):
        path = Path(os.fsdecode(source.file))
        with contextlib.suppress(OSError, ValueError):
            status = path.stat()
            if path.is_file():
                file = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
                return {"path": os.path.abspath(path), **name}, file
    return None


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], place: str) -> Iterator[str]:
    """`language is 'fr', in the journal None`, for every name; `place` has theirs."""
    for name in sorted({*ours, *theirs}):
        mine, other = ours.get(name), theirs.get(name)
        if isinstance(mine, dict) and isinstance(other, dict):
            yield from differences(mine, other, place)
        elif mine != other:
            yield f"{name} is {mine!r}, in the {place} {other!r}"


def as_json(values: Any) -> Any:
    """As it is read from JSON: tuples are lists."""
    return json.loads(json.dumps(values))


def _parsed(line: bytes) -> dict[str, Any]:
    """An object; an empty one for a line that is damaged."""
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _write(file: RawIOBase, data: bytes) -> None:
    """Write all bytes. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]
