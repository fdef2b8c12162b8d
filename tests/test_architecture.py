"""The plan of the house, checked: imports go down or stay in their room, there are no cycles, files stay short."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
LEVELS = (
    {"errors", "languages"},
    {"files"},
    {"transcript", "model", "runtime"},
    {"formats", "audio", "text", "hub"},
    {"ctc"},
    {"decode", "metrics"},
    {"data", "checkpoint"},
    {"pipeline", "train"},
    {"evaluation"},
    {"cli", "__init__", "__main__"},
)
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
STANDARD_LIBRARY_ONLY = ("errors", "files", "languages", "transcript", "formats")
FILES = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}


def imported(module: str) -> Iterator[str]:
    """Every module that is imported anywhere in the file, under TYPE_CHECKING and inside functions as well."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
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
