"""Dockerfile, compose.yaml and the unit of systemd: parsed, since nothing here can build or start them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from lithophone.cli.main import app
from lithophone.server.settings import Settings, environment_names
from tests.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
UNIT = (ROOT / "deploy" / "lithophone.service").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    return re.findall(r"^([A-Z]+) (.*)$", re.sub(r"\\\n", " ", lines), re.MULTILINE)


def serve(*arguments: str) -> dict[str, Any]:
    return get_command(app).commands["serve"].make_context("serve", list(arguments)).params  # type: ignore[attr-defined]


def test_files_that_are_copied_exist_and_are_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        word for kind, text in instructions() if kind == "COPY" and "--from" not in text for word in text.split()[:-1]
    ]
    assert "src" in copied
    assert [name for name in copied if not (ROOT / name).exists() or f"!{name}" not in ignored] == []


def test_the_image_runs_as_a_user_without_rights() -> None:
    last = instructions()[[kind for kind, _ in instructions()].index("FROM") :]
    users = [text for kind, text in last if kind == "USER"]
    assert users == ["10001"]
    assert [kind for kind, _ in instructions()][-1] == "ENTRYPOINT"


def test_the_image_installs_the_pinned_releases() -> None:
    installed = re.findall(r"pip install (.*)", DOCKERFILE)
    assert len(installed) == 2
    assert all("-c constraints.txt" in line for line in installed)
    assert "serve" in installed[1]


def test_the_entry_point_is_the_command() -> None:
    assert json.loads(dict(instructions())["ENTRYPOINT"]) == ["lithophone", "serve"]


def test_the_health_check_asks_a_path_without_keys() -> None:
    check = dict(instructions())["HEALTHCHECK"]
    command = json.loads(check[check.index("[") :])
    assert command[0] == "python"
    compile(command[2], "HEALTHCHECK", "exec")
    assert "/ready" in command[2]


def test_variables_are_read() -> None:
    known = set(environment_names().values())
    for text in (DOCKERFILE, UNIT, json.dumps(COMPOSE)):
        named = set(re.findall(r"LITHOPHONE_\w+", text))
        assert named
        assert named <= known


def test_the_image_asks_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    host = re.findall(r"LITHOPHONE_HOST=(\S+)", DOCKERFILE)
    with pytest.raises(Exception, match="api_key_file"):
        Settings(host=host[0])


def test_compose_starts_the_command_with_its_secret() -> None:
    service = COMPOSE["services"]["lithophone"]
    assert serve(*service["command"])["model"] == "lithophone-tiny"
    [secret] = service["secrets"]
    assert service["environment"]["LITHOPHONE_API_KEY_FILE"] == f"/run/secrets/{secret}"
    assert secret in COMPOSE["secrets"]
    assert [volume.partition(":")[0] for volume in service["volumes"]] == list(COMPOSE["volumes"])


def test_compose_takes_rights_away_and_waits_for_the_drain() -> None:
    service = COMPOSE["services"]["lithophone"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert float(service["stop_grace_period"].rstrip("s")) > Settings().drain_s + 1
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_unit_starts_the_command_and_waits_for_the_drain() -> None:
    [line] = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    program, command, *arguments = line.split()
    assert (program, command) == ("/opt/lithophone/bin/lithophone", "serve")
    assert serve(*arguments)["model"] == "lithophone-tiny"
    [stop_s] = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert float(stop_s) > Settings().drain_s + 1
    [credential] = re.findall(r"^LoadCredential=(\w+):", UNIT, re.MULTILINE)
    assert f"LITHOPHONE_API_KEY_FILE=%d/{credential}" in UNIT


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "lithophone.service"
    unit.write_text(UNIT.replace("/opt/lithophone/bin/lithophone", sys.executable), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
