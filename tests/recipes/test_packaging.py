"""Recipes in a checkout and in an installed wheel: each stands alone, and `lithophone train NAME` finds it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lithophone
from lithophone.cli.main import app
from lithophone.cli.train import find_recipe, train
from tests.conftest import ROOT

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.py"))


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_imports_another(name: str) -> None:
    tree = ast.parse((ROOT / "recipes" / f"{name}.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_shows_how_it_is_called(name: str) -> None:
    """By the command that works after an installation."""
    tree = ast.parse((ROOT / "recipes" / f"{name}.py").read_text(encoding="utf-8"))
    assert f"    lithophone train {name} " in str(ast.get_docstring(tree))


@pytest.mark.parametrize("name", ["encoder", "tokenizer"])
def test_the_help_of_a_recipe_has_its_command_defaults_and_descriptions(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [])
        patch.setattr(sys, "path", [*sys.path])
        with pytest.raises(SystemExit):
            train(name, ["--help"])
        text = capsys.readouterr().out
        with pytest.raises(SystemExit):
            train(name, ["--no-such-option"])
    assert text.startswith(f"usage: lithophone train {name} ")
    assert f"lithophone train {name}: error:" in capsys.readouterr().err
    assert "(default: " in text
    assert "(default: None)" not in text
    options = re.split(r"\n  (?=-)", text.partition("\noptions:")[2])[1:]
    assert [one for one in options if not re.search(r"( {2,}|\n)\s*\S+ \S", one)] == []


def test_the_help_of_train_lists_the_recipes() -> None:
    done = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "300"})
    assert all(name in done.stdout for name in RECIPES)


def test_recipes_of_an_installed_package_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither the working directory nor the folders above the package have any."""
    package = tmp_path / "lib" / "site-packages" / "lithophone"
    (package / "recipes").mkdir(parents=True)
    (package / "recipes" / "encoder.py").write_text("")
    monkeypatch.setattr(lithophone, "__file__", str(package / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    assert find_recipe("encoder") == package / "recipes" / "encoder.py"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "encoder.py").write_text("")
    assert find_recipe("encoder").resolve() == tmp_path / "recipes" / "encoder.py"


@pytest.mark.full
def test_a_wheel_has_all_recipes_and_runs_them(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(name).stem for name in archive.namelist() if name.startswith("lithophone/recipes/")}
        archive.extractall(tmp_path / "installed")
    assert packed == set(RECIPES)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    for name in ("encoder", "finetune", "interpolate"):
        command = [sys.executable, "-m", "lithophone", "train", name, "--help"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"lithophone train {name}" in done.stdout
        assert "--out" in done.stdout
