"""`lithophone train`: run a recipe, a Python file, as a script."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

import lithophone
from lithophone.cli import terminal
from lithophone.errors import OptionError


def recipes() -> dict[str, Path]:
    """Recipes by name."""
    return {path.stem: path for folder in recipe_folders() for path in sorted(folder.glob("*.py"))}


def recipe_folders() -> list[Path]:
    """Folders of recipes, last first: working directory, checkout, wheel."""
    package = Path(lithophone.__file__).parent
    return [package / "recipes", package.parents[1] / "recipes", Path("recipes")]


@terminal.with_exit_status
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help=f"A Python file, or one of: {', '.join(recipes())}.")],
    args: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="Options of the recipe.")] = None,
) -> None:
    """Run a training recipe; `lithophone train RECIPE --help` shows its own options."""
    path = find_recipe(recipe)
    sys.argv = [str(path), *(args or [])]
    sys.path.insert(0, str(path.parent))  # as Python does for a script
    with terminal.needs("train"):
        runpy.run_path(str(path), run_name="__main__")


def find_recipe(name: str) -> Path:
    """The recipe's path; OptionError names those available."""
    if Path(name).is_file():
        return Path(name)
    found = recipes()
    if name not in found:
        raise OptionError(f"no recipe {name!r}; there are {', '.join(found) or 'none'}, or give a Python file")
    return found[name]
