"""The notebook of the fine-tuning guide: it was run from top to bottom, and it still runs."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT


def code_cells() -> list[dict[str, Any]]:
    notebook = json.loads((ROOT / "docs" / "finetune.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    lines: list[str] = cell["source"] if isinstance(cell["source"], list) else cell["source"].splitlines(True)
    return "".join(line for line in lines if not line.startswith("%"))


def test_it_was_run_in_order_and_learned() -> None:
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    printed = "".join(str(output.get("text", "")) for cell in cells for output in cell["outputs"])
    assert "error on the dev clips" in printed
    assert "Error" not in printed


def test_the_options_it_gives_are_those_of_the_recipe(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    calls = [node for cell in code_cells() for node in ast.walk(ast.parse(source(cell))) if isinstance(node, ast.Call)]
    (call,) = (call for call in calls if ast.unparse(call.func) == "finetune.main")
    assert isinstance(call.args[0], ast.List)
    given = {e.value for e in call.args[0].elts if isinstance(e, ast.Constant) and str(e.value).startswith("--")}
    with pytest.raises(SystemExit):
        importlib.import_module("finetune").main(["--help"])
    shown = capsys.readouterr().out
    assert given
    assert all(option in shown for option in given)


@pytest.mark.full
def test_it_runs_and_the_names_are_learned(tmp_path: Path) -> None:
    """All cells as one program, where `docs/` and the recipes beside it are."""
    pytest.importorskip("py_nanotts")
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    program = "\n\n".join(source(cell) for cell in code_cells())
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "docs", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after = map(float, re.findall(r"([\d.]+) % of the names are right", done.stdout))
    assert before <= 20
    assert after >= 80
