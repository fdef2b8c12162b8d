"""What `import lithophone` gives, and that it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lithophone


@pytest.mark.parametrize("name", lithophone.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(lithophone, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sing'"):
        _ = lithophone.sing


def test_importing_the_package_or_the_command_line_does_not_import_torch() -> None:
    code = "import sys, lithophone, lithophone.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_module_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "lithophone", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"lithophone {lithophone.__version__}\n"
