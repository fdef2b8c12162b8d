"""README and docs against the program: commands, options, values, snippets, names of files."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import io
import pkgutil
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from typer.main import get_command

import lithophone
from lithophone.cli.main import app
from lithophone.cli.options import WORDS
from lithophone.cli.train import find_recipe
from lithophone.evaluation.plans import plans_of
from lithophone.hub import DEFAULT_MODEL, bundled_models
from lithophone.metrics.wer import score
from lithophone.pipeline.options import TranscribeOptions
from tests.conftest import DEMO, ROOT
from tests.test_architecture import LEVELS

README = ROOT / "README.md"
DOCS = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "runs" / "README.md", ROOT / "CHANGELOG.md"]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCS}

VARIABLES = {"set": "ami", "M": "M", "demo": "src/lithophone/assets/demo"}
"""What the shell variables of the docs stand for."""

PLACES = (ROOT, ROOT / "src" / "lithophone", ROOT / "docs", ROOT / "runs")
FOLDERS = "|".join(
    sorted({p.name for place in PLACES for p in place.iterdir() if p.is_dir() and not p.name.startswith((".", "_"))})
)
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./*{{}}-]+\.\w+)`")
WIDE = ("docs/training.md", "docs/finetune.md", "docs/evaluation.md")
IN_HISTORY = {f"bench/{name}.py" for name in ("relative_bias", "checks", "drafts", "int8_closeness")}
"""Files that `docs/experiments.md` names with the commit that has them."""


def code_lines(text: str) -> Iterator[str]:
    """Lines of fenced and indented code, with continued lines joined."""
    fenced = re.findall(r"^```(?:bash|sh|)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^(?: {4,}|\t).*$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE)
    for block in (*fenced, "\n".join(indented)):
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())


def parts_of(line: str) -> list[str]:
    """The commands of a pipeline or list, without variables set in front of them."""
    return [re.sub(r"^(?:\w+=\S+\s+)+", "", part) for part in re.split(r"\s(?:\|\|?|&&|;)\s+", line)]


def commands(program: str) -> list[tuple[str, str]]:
    """Document and arguments of every command of that program, in pipelines too."""
    return [
        (name, part.removeprefix(program))
        for name, text in TEXTS.items()
        for line in code_lines(text)
        for part in parts_of(line)
        if re.match(rf"{re.escape(program)}\s", part)
    ]


def test_commands_behind_a_pipe_are_found() -> None:
    assert parts_of("X=1 Y=2 a -b | lithophone listen - && c; d ; e") == ["a -b", "lithophone listen -", "c; d", "e"]
    assert {line.split()[0] for name, line in commands("lithophone") if name == "docs/captions.md"} >= {"listen"}
    assert any(line.startswith(" listen - --language") for _, line in commands("lithophone"))


def words_of(line: str) -> list[str]:
    """A shell command's arguments; redirections and comments are left out."""
    for name, value in VARIABLES.items():
        line = re.sub(rf"\${name}\b", value, line)
    words = shlex.split(line, comments=True)
    ends = [i for i, word in enumerate(words) if word in (">", "<", "|", ";", "&&")]
    return words[: ends[0]] if ends else words


def values_of(command: str, arguments: list[str]) -> dict[str, Any]:
    """The values that the parser gives the command; SystemExit or an error where it refuses them."""
    return get_command(app).commands[command].make_context(command, arguments).params  # type: ignore[attr-defined]


def options_of(values: dict[str, Any]) -> TranscribeOptions:
    types = get_type_hints(TranscribeOptions)
    given = {f.name: values[f.name] for f in dataclasses.fields(TranscribeOptions) if f.name in values}
    return TranscribeOptions(**{k: tuple(v.split(",")) if types[k] == WORDS else v for k, v in given.items()})


@pytest.mark.parametrize(("document", "line"), commands("lithophone"))
def test_commands_are_accepted_with_their_values(document: str, line: str) -> None:
    command, *arguments = words_of(line)
    if command == "train":
        recipe, *given = arguments
        check_recipe(recipe, given)
        return
    values = values_of(command, arguments)
    if command in ("transcribe", "evaluate", "listen"):
        options = options_of({n: v for n, v in values.items() if (command, n) != ("evaluate", "speakers")})
        if values.get("also"):
            plans_of(values.get("model") or [DEFAULT_MODEL], values["also"], options, biased=bool(values.get("bias")))


@pytest.mark.parametrize(
    ("document", "line"),
    [(d, line) for p in ("python", "torchrun") for d, line in commands(p) if "recipes/" in line or " train " in line],
)
def test_recipes_are_there_with_their_options(document: str, line: str) -> None:
    words = words_of(line)
    if "train" in words:
        at = words.index("train") + 1
        check_recipe(words[at], words[at + 1 :])
    else:
        at = next(i for i, word in enumerate(words) if "recipes/" in word)
        check_recipe(str(ROOT / words[at]), words[at + 1 :])


def check_recipe(name: str, arguments: list[str]) -> None:
    """The recipe exists, and its help has all options that are given."""
    path = find_recipe(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path.parent))
        patch.setitem(sys.modules, path.stem, recipe)  # where dataclasses look their annotations up
        spec.loader.exec_module(recipe)
        patch.setattr(sys, "stdout", io.StringIO())
        with pytest.raises(SystemExit) as stopped:
            recipe.main(["--help"])
    assert stopped.value.code == 0
    assert missing_options(path, arguments) == []


def missing_options(recipe: Path, arguments: list[str]) -> list[str]:
    sources = (recipe, ROOT / "src" / "lithophone" / "train" / "run" / "arguments.py")
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    return [word for word in arguments if word.startswith("--") and word != "--help" and f'"{word}"' not in text]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.py")), ids=lambda path: path.stem)
def test_the_commands_that_a_recipe_shows_have_options_that_it_has(path: Path) -> None:
    """Faults, N3."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    calls = [words_of(line) for line in code_lines(docstring) if line.startswith("lithophone train ")]
    assert calls
    assert {words[2] for words in calls} == {path.stem}
    assert [missing_options(path, words[3:]) for words in calls] == [[]] * len(calls)


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", TEXTS)
def test_python_compiles(document: str) -> None:
    for block in python_blocks(TEXTS[document]):
        compile(block, document, "exec")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(DEFAULT_MODEL not in bundled_models(), reason=f"the bundled model {DEFAULT_MODEL} is not there")
def test_the_first_snippet_prints_what_the_readme_says() -> None:
    (expected,) = re.findall(r"^```text\n(.*?)^```$", TEXTS["README.md"], re.MULTILINE | re.DOTALL)
    printed = run(python_blocks(TEXTS["README.md"])[0])
    # Another processor may round another way, and flip a word: all but a tenth of them must be the same.
    assert score([(expected, printed)], "en").rate <= 0.1


@pytest.mark.full
def test_the_other_snippets_of_the_readme_run() -> None:
    for block in python_blocks(TEXTS["README.md"])[2:]:
        assert "missing.wav does not exist" in run(block)


@pytest.mark.full
def test_the_snippet_of_the_server_says_what_the_first_one_says() -> None:
    first, client = python_blocks(TEXTS["README.md"])[:2]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "lithophone", "serve", "--port", str(port)])
    try:
        client = re.sub(r"base_url=\S+,", f'base_url="http://127.0.0.1:{port}/v1", max_retries=8,', client)
        assert run(client).strip() == run(first).strip()
    finally:
        server.terminate()
        assert server.wait(timeout=60) in (0, -signal.SIGTERM)


def test_options_in_the_readme_are_all_that_there_are() -> None:
    rows = re.findall(r"^\| (.*) \|$", TEXTS["README.md"], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {field.name for field in dataclasses.fields(TranscribeOptions)} <= named


# --- installing

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
EXTRAS = set(
    re.findall(r"^([\w-]+) = \[", PROJECT.partition("[project.optional-dependencies]")[2].partition("\n[")[0], re.M)
)
INSTALLED = re.compile(r"""(?:['"]\.|lithophone|\.whl)\[([\w,-]+)\]""")


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")) + DOCS, ids=lambda path: path.name)
def test_extras_that_are_named_exist(path: Path) -> None:
    named = {extra for list_ in INSTALLED.findall(path.read_text(encoding="utf-8")) for extra in list_.split(",")}
    assert named <= EXTRAS


@pytest.mark.parametrize("document", TEXTS)
def test_commands_install_from_what_the_reader_has(document: str) -> None:
    """Of a checkout or a wheel: no index has the package."""
    lines = [line for line in code_lines(TEXTS[document]) if line.startswith("pip install") and "lithophone" in line]
    assert [line for line in lines if ".whl" not in line] == []


def test_the_environment_is_activated_before_the_first_command_of_the_readme() -> None:
    """Faults, N5: `make demo` installs into .venv, where no shell looks."""
    lines = list(code_lines(TEXTS["README.md"]))
    first = next(i for i, line in enumerate(lines) if re.match(r"(lithophone|python3?)\s", line))
    assert [line.split()[0] for line in lines[:first]] == ["make", "source"]
    assert lines[1] == "source .venv/bin/activate"


def test_wheels_that_are_named_have_the_version_of_the_project() -> None:
    named = {found for text in TEXTS.values() for found in re.findall(r"lithophone-([\d.]+)-py3", text)}
    assert named == {lithophone.__version__}


# --- files


@pytest.mark.parametrize("document", TEXTS)
def test_files_that_are_named_exist(document: str) -> None:
    text, folder = TEXTS[document], (ROOT / document).parent
    links = [link for link in re.findall(r"\]\(([^):#]+)[^)]*\)", text) if not (folder / link).exists()]
    named = {name for name in PATH.findall(text) if not any(list(place.glob(name)) for place in PLACES)}
    assert links == []
    assert named - (IN_HISTORY if document == "docs/experiments.md" else set()) == set()


@pytest.mark.parametrize("document", [name for name in TEXTS if name != "CHANGELOG.md"])
def test_python_names_that_are_given_in_full_exist(document: str) -> None:
    for name in re.findall(r"`(lithophone(?:\.\w+)+)[`(]", TEXTS[document]):
        assert pkgutil.resolve_name(name) is not None, name


def test_terms_of_the_glossary_are_where_it_says() -> None:
    rows = re.findall(r"^\| .* \| `(\S+\.py)` \| (?:`(\w+)`)? ?\|$", TEXTS["docs/glossary.md"], re.MULTILINE)
    assert len(rows) > 50
    source = ROOT / "src" / "lithophone"
    assert [(file, name) for file, name in rows if name not in (source / file).read_text(encoding="utf-8")] == []


def test_layers_are_those_that_are_checked() -> None:
    table = TEXTS["docs/architecture.md"].partition("## Layers")[2].partition("## Decisions")[0]
    rows = re.findall(r"^\| \d+ \| (.*?) \|", table, re.MULTILINE)
    named = tuple(set(re.findall(r"`(\w+)/?`", row)) for row in rows)
    assert named == tuple({room for room in level if not room.startswith("__")} for level in LEVELS)


def reading_path() -> list[str]:
    return re.findall(r"^\| \d+ \| `(\S+\.py)` \|", TEXTS["docs/architecture.md"], re.MULTILINE)


def test_the_reading_path_is_short() -> None:
    assert 20 <= len(reading_path()) <= 25


@pytest.mark.full
def test_the_reading_path_is_the_one_that_is_taken() -> None:
    code = """
import sys, threading, lithophone
from lithophone.formats import render
files = set()
def called(frame, event, _):
    if event == "call":
        files.add(frame.f_code.co_filename.replace("\\\\", "/").rpartition("/lithophone/")[2])
transcriber = lithophone.load()
threading.setprofile(called)
sys.setprofile(called)
render("txt", transcriber.transcribe(sys.argv[1]))
sys.setprofile(None)
print(*files)
"""
    done = subprocess.run([sys.executable, "-c", code, str(DEMO)], capture_output=True, text=True, check=True)
    assert set(reading_path()) <= set(done.stdout.split())


@pytest.mark.parametrize("document", [name for name in TEXTS if name not in WIDE])
def test_lines_have_at_most_120_columns(document: str) -> None:
    assert [line for line in TEXTS[document].splitlines() if len(line) > 120 and not line.startswith("| ")] == []
