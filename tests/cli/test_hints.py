"""Options of other programs are answered with ours."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from lithophone.cli.hints import ELSEWHERE
from lithophone.cli.main import app


def options_of(command: str) -> set[str]:
    parameters = get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--initial_prompt", "Dashwood"], "--keywords"),
        (["--vad_filter=True"], "voice activity detection is always on"),
        (["--max_words_per_line", "5"], "--max-line-width"),
        (["--beam_size", "5"], "--num-beams"),
        (["--compute-type", "int8"], "--dtype"),
    ],
)
@pytest.mark.parametrize("command", ["transcribe", "evaluate"])
def test_options_of_whisper_are_answered(command: str, arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(app, [command, "a.wav", *arguments])
    assert done.exit_code == 2
    assert f"there is no option {arguments[0].partition('=')[0]} here" in done.stderr
    assert words in done.stderr


def test_underscores_stand_for_dashes() -> None:
    done = CliRunner().invoke(app, ["transcribe", "a.wav", "--output_format=doc", "--batch_size", "2"])
    assert "unknown output format 'doc'" in done.stderr
    done = CliRunner().invoke(app, ["transcribe", __file__, "--highlight_words", "-f", "srt"])
    assert "--highlight-words needs --word-timestamps" in done.stderr


def test_arguments_of_a_recipe_are_left_alone() -> None:
    done = CliRunner().invoke(app, ["train", "no-such-recipe", "--initial_prompt", "x"])
    assert "no recipe 'no-such-recipe'" in done.stderr


def test_hints_name_options_that_are_there_and_stand_for_none_that_is() -> None:
    known = options_of("transcribe")
    named = {option for hint in ELSEWHERE.values() for option in re.findall(r"--[a-z-]+", hint)}
    assert named <= known
    assert not set(ELSEWHERE) & known


def test_a_recording_in_the_place_of_a_manifest_is_recognised() -> None:
    done = CliRunner().invoke(app, ["evaluate", "talk.WAV"])
    assert done.exit_code == 2
    assert "talk.WAV is a recording" in done.stderr
    assert "lithophone transcribe talk.WAV" in done.stderr
