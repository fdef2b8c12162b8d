"""Arguments of the command line -> recordings, each with an output of its own."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from lithophone.cli.sources import InputFile, find_inputs, listed
from lithophone.errors import OptionError


def made(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return [str(folder / name) for name in names]


def outputs(*arguments: str) -> list[str]:
    inputs, refused = find_inputs(arguments)
    assert refused == []
    return [one.output.as_posix() for one in inputs]


def reasons(*arguments: str) -> list[str]:
    inputs, refused = find_inputs(arguments)
    assert inputs == []
    return [str(one) for one in refused]


def test_files_keep_their_order_and_give_their_stems(tmp_path: Path) -> None:
    assert outputs(*made(tmp_path, "b.wav", "a.mp3", "no_ending")) == ["b", "a", "no_ending"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/talk.wav", "b/talk.wav"], ["a/talk", "b/talk"]),
        (["a/talk.wav", "b/talk.wav", "c/other.wav"], ["a/talk", "b/talk", "other"]),
        (["talk.wav", "sub/talk.wav"], ["talk", "sub/talk"]),
        (["talk.mp3", "talk.wav"], ["talk.mp3", "talk.wav"]),
        (["a/talk.mp3", "a/talk.wav", "b/talk.wav"], ["a/talk.mp3", "a/talk.wav", "b/talk"]),
        (["a/Talk.wav", "b/talk.wav"], ["a/Talk", "b/talk"]),
        (["a/cafe\u0301.wav", "b/caf\u00e9.wav"], ["a/cafe\u0301", "b/caf\u00e9"]),
    ],
)
def test_recordings_of_one_stem_keep_their_folders_apart(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    assert outputs(*made(tmp_path, *names)) == expected


def test_a_recording_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    made(tmp_path, "a.wav")
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    assert outputs(str(tmp_path / "a.wav"), str(tmp_path), f"{tmp_path}/./a.wav") == ["a"]


def test_a_folder_gives_its_recordings_in_order_with_their_folders(tmp_path: Path) -> None:
    made(tmp_path, "b.WAV", "a/x.mkv", "a/x.txt", ".hidden.wav", ".git/y.wav", "c/z.opus", "notes.md")
    assert outputs(str(tmp_path)) == ["b", "a/x", "c/z"]


def test_recordings_of_one_stem_in_a_folder_keep_their_folders_too(tmp_path: Path) -> None:
    made(tmp_path, "a/x.wav", "b/x.mp3", "b/x.wav", "c/deep/y.mp3", "c/deep/y.wav")
    assert outputs(str(tmp_path)) == ["a/x", "b/x.mp3", "b/x.wav", "c/deep/y.mp3", "c/deep/y.wav"]


def test_folders_that_hold_the_same_names_are_told_apart(tmp_path: Path) -> None:
    made(tmp_path, "one/d/x.wav", "two/d/x.wav", "two/d/y.wav")
    assert outputs(str(tmp_path / "one"), str(tmp_path / "two")) == ["one/d/x", "two/d/x", "d/y"]


def test_a_pattern_is_expanded_where_no_file_has_its_name(tmp_path: Path) -> None:
    made(tmp_path, "1.wav", "2.wav", "x.txt", "deep/3.wav")
    assert outputs(str(tmp_path / "*.wav")) == ["1", "2"]
    assert outputs(str(tmp_path / "**" / "*.wav")) == ["1", "2", "3"]
    made(tmp_path, "[1].wav")
    assert outputs(str(tmp_path / "[1].wav")) == ["[1]"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("https://example.org/talk.mp3", "is a URL, and only files are read: curl -sL"),
        ("s3://bucket/talk.mp3", "is a URL"),
        ("missing.wav", "does not exist: check the path (now in"),
        ("x" * 300 + ".wav", "cannot be opened (File name too long)"),
        ("nothing-*.wav", "matches no file"),
        ("True", "options that are on or off take no value"),
        ("a\0b.wav", "cannot be opened"),
    ],
)
def test_what_names_no_recording_says_why(argument: str, words: str) -> None:
    (reason,) = reasons(argument)
    assert reason.startswith(argument)
    assert words in reason


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    made(tmp_path, "notes.txt")
    assert "is a folder without recordings" in reasons(str(tmp_path))[0]


def test_what_may_not_be_entered_or_read_is_refused_and_the_rest_is_found(unprivileged: Path) -> None:
    made(unprivileged, "a.wav", "locked/b.wav", "secret.wav")
    (unprivileged / "locked").chmod(0)
    (unprivileged / "secret.wav").chmod(0)
    try:
        inputs, refused = find_inputs([str(unprivileged / "secret.wav"), str(unprivileged)])
    finally:
        (unprivileged / "locked").chmod(0o700)
    assert [one.output.name for one in inputs] == ["a", "secret"]
    assert len(refused) == 2
    assert all("Permission denied" in one.reason for one in refused)


def test_a_fifo_is_an_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    ((one,), refused) = find_inputs([str(tmp_path / "pipe")])
    assert (one, refused) == (InputFile(str(tmp_path / "pipe"), tmp_path / "pipe", Path("pipe")), [])


class Stdin(io.TextIOWrapper):
    terminal = False

    def isatty(self) -> bool:
        return self.terminal


def test_a_dash_is_standard_input_unless_that_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = Stdin(io.BytesIO(b"RIFF"))
    monkeypatch.setattr(sys, "stdin", stdin)
    ((one,), _) = find_inputs(["-"])
    assert (one.label, one.source, one.output.name) == ("stdin", stdin.buffer, "stdin")
    stdin.terminal = True
    assert "nothing is piped into it" in reasons("-")[0]


@pytest.mark.parametrize("content", [b"a.wav\nb c.wav\n", b"\xef\xbb\xbfa.wav\r\n\r\nb c.wav", b"a.wav\0b c.wav\0"])
def test_a_list_has_a_recording_a_line_or_between_nul(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list").write_bytes(content)
    assert listed(str(tmp_path / "list")) == ["a.wav", "b c.wav"]


def test_a_list_may_come_by_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("é.wav\n".encode())))
    assert listed("-") == ["é.wav"]


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), (b"\n\n", "names no recording")])
def test_a_list_that_is_missing_or_empty_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    with pytest.raises(OptionError, match=words):
        listed(str(tmp_path / "list"))
