"""`lithophone serve --replicas`, as far as it goes without Ray."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lithophone.cli.main import app
from lithophone.errors import OptionError
from lithophone.scale.compute import Compute, share_of_cpus
from lithophone.scale.front import bound_socket
from lithophone.server.settings import Settings
from tests.conftest import ROOT


def serve(*arguments: str, **variables: str) -> Any:
    return CliRunner().invoke(app, ["serve", *arguments], env=variables)


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--replicas", "2"], {}),
        (["--ray-address", "auto"], {}),
        ([], {"LITHOPHONE_REPLICAS": "2"}),
        ([], {"LITHOPHONE_RAY_ADDRESS": "10.0.0.1:6379"}),
    ],
)
def test_the_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], variables: dict[str, str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "lithophone.scale.cluster", raising=False)
    done = serve(*arguments, **variables)
    assert done.exit_code == 2
    assert "ray is missing: pip install 'lithophone[ray]'" in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"replicas": 0}, "replicas"),
        ({"replicas": -1}, "replicas"),
        ({"replicas": 2, "wyoming_port": 10300}, "wyoming"),
        ({"ray_address": "auto", "wyoming_port": 0}, "wyoming"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Settings(**given)


def test_one_replica_is_this_process_unless_a_cluster_is_named() -> None:
    assert not Settings().is_scaled
    assert Settings(replicas=2).is_scaled
    assert Settings(ray_address="auto").is_scaled


def test_cores_are_shared_among_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert [share_of_cpus(n) for n in (1, 2, 3, 16, 40)] == [16, 8, 5, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert share_of_cpus(2) == 3
    assert (Compute(threads=4, share=8).cpus, Compute(share=8).cpus) == (4, 8)


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port} cannot be served"):
            bound_socket("127.0.0.1", port)
    with bound_socket("127.0.0.1", 0) as free:
        assert free.getsockname()[1] > 0


def test_the_release_of_ray_is_pinned() -> None:
    assert '"ray[data,serve]==' in (Path(ROOT) / "pyproject.toml").read_text(encoding="utf-8")
