"""Imports go down or stay in their room, walls hold, there are no cycles, files stay short."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
LEVELS = (
    {"errors", "languages", "version"},
    {"files", "memory"},
    {"transcript", "model", "runtime"},
    {"formats", "audio", "text", "hub"},
    {"ctc"},
    {"decode", "metrics"},
    {"data", "checkpoint"},
    {"diarization"},
    {"pipeline", "train"},
    {"evaluation", "server", "batch"},
    {"scale"},
    {"cli", "__init__", "__main__"},
)
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
WALLS = (
    ("model", {"audio", "text", "ctc", "decode", "languages", "transcript", "formats", "runtime", "hub", "checkpoint"}),
    ("decode", {"audio", "text", "data", "transcript", "formats", "hub", "checkpoint", "pipeline"}),
    ("ctc", {"data", "formats", "hub", "checkpoint"}),
    ("text", {"audio", "ctc", "formats", "hub", "checkpoint"}),
    ("audio", {"model", "text", "ctc", "transcript", "hub", "checkpoint"}),
    ("hub", {"text", "audio", "checkpoint"}),
    ("diarization", {"model", "text", "ctc", "decode", "hub", "checkpoint", "runtime"}),
)
"""Rooms that know nothing of others, though these may lie below: tensors know no text, decoders no transcript."""
STANDARD_LIBRARY_ONLY = ("errors", "files", "languages", "transcript", "formats")
FILES = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}


def imported(module: str) -> Iterator[str]:
    """Every module that is imported anywhere in the file, under TYPE_CHECKING and inside functions as well."""
    yield from imports_of(FILES[module].read_text(encoding="utf-8"), module)


def imports_of(source: str, module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            name = str(node.module)
            yield from (f"{name}.{a.name}" if f"{name}.{a.name}" in FILES else name for a in node.names)


def own(module: str) -> set[str]:
    """Modules of ours that `module` imports; a package stands for its `__init__`."""
    names = (name if name in FILES else f"{name}.__init__" for name in imported(module))
    return {name for name in names if name in FILES}


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_go_down_or_stay_in_the_room(module: str) -> None:
    assert room(module) in LEVEL, f"{module} is in no room of the plan"
    for name in own(module) - {"lithophone.__init__"}:
        below = LEVEL[room(name)] < LEVEL[room(module)] or room(name) == room(module)
        assert below or module == "lithophone.__main__", f"{module} imports {name}, which is not below it"


def breaches(room_name: str, imports: Iterable[str]) -> list[str]:
    """Imports that go through a wall."""
    forbidden = dict(WALLS).get(room_name, set())
    return [name for name in imports if name.startswith("lithophone.") and room(name) in forbidden]


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_import_goes_through_a_wall(module: str) -> None:
    assert breaches(room(module), imported(module)) == []


@pytest.mark.parametrize(
    ("room_name", "line"),
    [
        ("model", "from lithophone.audio.reader import load_audio"),
        ("model", "from lithophone.languages import LANGUAGES"),
        ("model", "def late():\n    from lithophone.text import prompts"),
        ("decode", "from lithophone.text.tokenizer import Tokenizer"),
        ("decode", "if TYPE_CHECKING:\n    from lithophone.transcript import Transcript"),
        ("decode", "import lithophone.checkpoint"),
    ],
)
def test_a_breach_of_a_wall_is_noticed(room_name: str, line: str) -> None:
    assert len(breaches(room_name, imports_of(line, "a module"))) == 1
    assert (
        breaches(room_name, imports_of("from lithophone.errors import LithophoneError\nimport torch", "a module")) == []
    )


def test_there_are_no_cycles() -> None:
    graphlib.TopologicalSorter({module: own(module) for module in FILES}).prepare()


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_results_and_their_formats_need_the_standard_library_only(name: str) -> None:
    for module in (module for module in FILES if room(module) == name):
        foreign = {top for top in (i.split(".")[0] for i in imported(module)) if top != "lithophone"}
        assert foreign <= set(sys.stdlib_module_names)
        assert {room(other) for other in own(module)} <= set(STANDARD_LIBRARY_ONLY)


def test_no_file_is_longer_than_500_lines() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in FILES.items()}
    assert {module: length for module, length in lengths.items() if length > 500} == {}
