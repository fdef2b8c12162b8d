"""Where transcripts go, whatever the encoding of stdout and the names of files."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lithophone.cli import terminal
from lithophone.cli.output import check_cues, check_outputs, make_sink, output_path, with_word_times
from lithophone.cli.sources import InputFile
from lithophone.errors import OptionError
from lithophone.formats import FILE_FORMATS, CueOptions
from lithophone.pipeline.options import TranscribeOptions
from lithophone.transcript import Segment, Transcript
from tests.conftest import DEMO

JAPANESE = "日本語 \N{GRINNING FACE}"


def file(name: str) -> InputFile:
    return InputFile(f"{name}.wav", Path(f"{name}.wav"), Path(name))


def transcript(text: str) -> Transcript:
    return Transcript((Segment(text, 0.0, 1.0),), 1.0)


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    """What stdout gets from here on, in that encoding."""
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding=encoding, write_through=True))
    return data


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp932"])
def test_lines_that_stdout_cannot_show_are_printed_with_escapes_and_an_error(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    data = printed(monkeypatch, encoding)
    with pytest.raises(terminal.UnprintableTextError, match=rf"encoding {encoding}.*PYTHONIOENCODING=utf-8"):
        make_sink("-", None, several=False).window(file("a"), transcript(JAPANESE).segments)
    assert "\\U0001f600" in data.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8", "utf-16"])
def test_a_json_document_says_the_text_in_any_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    data = printed(monkeypatch, encoding)
    make_sink("-", "json", several=False).recording(file("a"), transcript(JAPANESE))
    assert json.loads(data.getvalue().decode(encoding))["text"] == JAPANESE


def test_text_that_the_encoding_has_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    data = printed(monkeypatch, "cp1252")
    make_sink("-", "txt", several=False).recording(file("a"), transcript("Käse – 5 €"))
    assert data.getvalue().decode("cp1252") == "Käse – 5 €\n"


def test_every_json_document_of_several_names_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    sink = make_sink("-", "json", several=True)
    for name in ("a", "b"):
        sink.recording(file(name), transcript(f"text {name}"))
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["file"], one["text"]) for one in documents] == [("a.wav", "text a"), ("b.wav", "text b")]


def test_other_documents_of_several_stand_below_their_file(capsys: pytest.CaptureFixture[str]) -> None:
    sink = make_sink("-", "txt", several=True)
    sink.recording(file("a\udcff"), transcript("one"))
    sink.recording(file("b"), transcript("two"))
    assert capsys.readouterr().out == "# a\\udcff.wav\none\n# b.wav\ntwo\n"


def test_subtitles_are_laid_out_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    cues = CueOptions(max_line_width=10, max_line_count=1)
    make_sink("-", "srt", several=False, cues=cues).recording(file("a"), transcript("one two three four five"))
    assert max(map(len, capsys.readouterr().out.splitlines())) == len("00:00:00,000 --> 00:00:00,391")
    check_cues("srt", cues, timed=False)


@pytest.mark.parametrize("output_format", [None, "txt", "json"])
def test_a_layout_that_would_change_nothing_is_refused(output_format: str | None) -> None:
    with pytest.raises(OptionError, match=r"--max-line-width.* need --output-format srt or vtt or all"):
        check_cues(output_format, CueOptions(max_line_width=30), timed=True)


def test_highlighted_words_need_times() -> None:
    with pytest.raises(OptionError, match="needs --word-timestamps"):
        check_cues("srt", CueOptions(highlight_words=True), timed=False)
    check_cues("srt", CueOptions(highlight_words=True), timed=True)


@pytest.mark.parametrize("output_format", ["ctm", "TextGrid", "textgrid", "html", "all"])
def test_formats_made_of_words_ask_for_their_times(output_format: str) -> None:
    assert with_word_times(output_format, TranscribeOptions()).word_timestamps
    assert with_word_times(output_format, TranscribeOptions(word_timestamps=True)).word_timestamps


@pytest.mark.parametrize("output_format", [None, "txt", "srt", "vtt", "tsv", "json", "rttm", "docx"])
def test_other_formats_do_not(output_format: str | None) -> None:
    assert with_word_times(output_format, TranscribeOptions()) == TranscribeOptions()


def test_a_translation_has_no_word_times() -> None:
    options = TranscribeOptions(task="translate", language="fr", to="en")
    with pytest.raises(OptionError, match=r"ctm is made of word times, which translations lack: choose vtt or"):
        with_word_times("CTM", options)
    assert with_word_times("all", options) == with_word_times("TextGrid", options) == options


def test_all_formats_are_written_with_the_name_of_the_recording(tmp_path: Path) -> None:
    named = InputFile("talks/a b.wav", Path("talks/a b.wav"), Path("talks/a b"))
    written: list[Path] = []
    make_sink(str(tmp_path), "all", several=False, on_written=written.append).recording(named, transcript("one"))
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [f"talks/a b.{f}" for f in FILE_FORMATS]
    assert (tmp_path / "talks" / "a b.ctm").read_text() == "talks/a_b 1 0.000 1.000 one\n"
    assert (tmp_path / "talks" / "a b.rttm").read_text().startswith("SPEAKER talks/a_b 1 ")
    assert "<h1>talks/a b</h1>" in (tmp_path / "talks" / "a b.html").read_text()
    assert (tmp_path / "talks" / "a b.docx").read_bytes().startswith(b"PK")


def test_a_binary_format_is_not_printed() -> None:
    with pytest.raises(OptionError, match="docx is no text: name a folder with --output-dir"):
        make_sink("-", "docx", several=False)


def test_lines_that_name_their_recording_need_no_heading(capsys: pytest.CaptureFixture[str]) -> None:
    sink = make_sink("-", "ctm", several=True)
    for name in ("a", "b"):
        sink.recording(file(name), transcript(name))
    assert capsys.readouterr().out == "a 1 0.000 1.000 a\nb 1 0.000 1.000 b\n"


def test_a_name_of_240_bytes_is_written(tmp_path: Path) -> None:
    named = file("会" * 80)
    kept, refused = check_outputs(str(tmp_path / "out"), "srt", [named])
    make_sink(str(tmp_path / "out"), "srt", several=False).recording(named, transcript("one"))
    assert (kept, refused) == ([named], [])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["会" * 80 + ".srt"]


def test_a_name_that_is_too_long_with_its_ending_is_refused_before_the_work(tmp_path: Path) -> None:
    fits, too_long = file("x" * 251), file("y" * 252)
    kept, (refused,) = check_outputs(str(tmp_path), "srt", [fits, too_long])
    assert kept == [fits]
    assert "File name too long" in str(refused)


def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    kept, (refused,) = check_outputs(str(tmp_path), None, [file("a"), file("b")])
    assert kept == [file("b")]
    assert "a folder has that name" in str(refused)


@pytest.mark.parametrize("place", ["file/out", "x" * 300])
def test_a_place_that_cannot_be_a_folder_is_wrong_usage(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OptionError, match=r"--output-dir .* cannot be written"):
        check_outputs(str(tmp_path / place), None, [file("a")])


def test_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        make_sink(str(tmp_path), "txt", several=False).recording(file("a"), transcript("one"))
    finally:
        os.umask(before)
    assert output_path(tmp_path, file("a").output, "txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(
    "command", [["transcribe", DEMO, "--decode", "ctc", "--quiet"], ["models"], ["--version"], ["transcribe", "--help"]]
)
def test_a_full_disk_behind_stdout_is_an_error_without_a_traceback(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lithophone", *map(str, command)], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.count("No space left on device") == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
