"""The README tells the truth: its Python runs and prints what it says, its commands and files exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lithophone.cli.main import app
from lithophone.hub import DEFAULT_MODEL, bundled_models
from lithophone.metrics.wer import score

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^lithophone (\w+)(.*)$", README, re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(DEFAULT_MODEL not in bundled_models(), reason=f"the bundled model {DEFAULT_MODEL} is not there")
def test_the_python_prints_what_the_readme_says() -> None:
    [code], [expected] = blocks("python"), blocks("text")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Another processor may round another way, and flip a word: all but a tenth of them must be the same.
    assert score([(expected, done.stdout)], "en").rate <= 0.1


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_commands_and_their_options_exist(command: str, arguments: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    missing = [option for option in re.findall(r"--[\w-]+", arguments) if option not in shown.stdout]
    assert missing == []


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^):]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
