"""Writing: whole or not at all, whatever the name, the umask and the disk."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lithophone.errors import OptionError
from lithophone.files import check_writable, replacing, write_json, write_whole
from tests.conftest import ROOT

LONGEST = 255
"""Bytes of a name, on every file system in use."""


@pytest.mark.parametrize("name", ["会" * 80 + ".srt", "é" * 125 + ".vtt", "a" * LONGEST, "x"])
def test_every_name_that_fits_is_written(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, "text\n")
    assert (tmp_path / name).read_bytes() == b"text\n"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as raised:
        write_whole(tmp_path / ("a" * (LONGEST + 1)), "text")
    assert raised.value.errno == errno.ENAMETOOLONG
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_old_file_and_removes_the_new(tmp_path: Path) -> None:
    def stopped() -> None:
        with replacing(tmp_path / "a.txt") as partial:
            partial.write_text("half")
            raise RuntimeError("stopped")

    write_whole(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError, match="stopped"):
        stopped()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask_also_where_a_library_writes(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a.txt", "text")
        with replacing(tmp_path / "a.safetensors", sync=True) as partial:
            save_file({"x": np.ones(2, np.float32)}, partial)
    finally:
        os.umask(before)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {
        "a.txt": mode,
        "a.safetensors": mode,
    }
    assert load_file(tmp_path / "a.safetensors")["x"].tolist() == [1, 1]


SAVING = re.compile(r"save_file\((?:.|\n)*?, (\w+)(?:, metadata=.*)?\)$", re.MULTILINE)


def test_no_file_of_safetensors_is_written_but_by_a_replacement() -> None:
    """Its own files have the mode 0600, whatever the umask says."""
    code = {
        path: path.read_text(encoding="utf-8") for room in ("src", "recipes") for path in (ROOT / room).rglob("*.py")
    }
    targets = {path.name: SAVING.findall(text) for path, text in code.items() if "save_file(" in text}
    assert {"weights.py", "finetune.py", "language_model.py", "transplant.py"} <= set(targets)
    assert {name for found in targets.values() for name in found} <= {"part", "partial"}
    assert [
        len(targets[path.name]) - text.count("save_file(") for path, text in code.items() if "save_file(" in text
    ] == ([0] * len(targets))


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "there" / "file.txt")
    write_whole(tmp_path / "link.txt", "text")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "there" / "file.txt").read_text() == "text"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a FIFO")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        check_writable(tmp_path / "pipe", "--html")
        write_whole(tmp_path / "pipe", "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_text_that_is_no_unicode_is_escaped(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", json.dumps({"audio": "a\udcff.wav"}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text()) == {"audio": "a\udcff.wav"}


def test_json_is_indented_and_ends_with_a_line_feed(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    assert (tmp_path / "a.json").read_bytes() == b'{\n  "a": 1\n}\n'


def test_what_can_be_written_is_not_touched_by_the_check(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("old")
    check_writable(tmp_path / "a.html", "--html")
    check_writable(tmp_path / "new" / "b.html", "--html")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    assert (tmp_path / "a.html").read_text() == "old"


@pytest.mark.parametrize("place", ["folder", "file/a.html", "a" * 256, "sub/" + "b" * 300 + "/a.html"])
def test_a_place_that_cannot_be_written_is_refused_with_the_option(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"--html .* cannot be written: .+"):
        check_writable(tmp_path / place, "--html")


def test_a_folder_without_permission_to_write_is_refused(unprivileged: Path) -> None:
    (unprivileged / "closed").mkdir(mode=0o500)
    with pytest.raises(OptionError, match=r"--html .* cannot be written: Permission denied"):
        check_writable(unprivileged / "closed" / "new" / "a.html", "--html")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_bytes(_: Path, data: bytes) -> int:
        with open("/dev/full", "wb", buffering=0) as full:
            return full.write(data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OptionError, match=r"--save .* cannot be written: No space left on device"):
        check_writable(tmp_path / "a.jsonl", "--save")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_of_a_large_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "last.pt.part").write_bytes(b"half of it")
    with replacing(tmp_path / "last.pt", sync=True, one_writer=True) as partial:
        assert partial == tmp_path / "last.pt.part"
        assert partial.read_bytes() == b""
        partial.write_bytes(b"all")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"last.pt": b"all"}
