"""docs/serving.md against a server: its curl lines, its options, its names."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
import yaml
from prometheus_client import generate_latest

import lithophone
from lithophone.cli.options import NAMES
from lithophone.pipeline.transcriber import Transcriber
from lithophone.scale.front import Front
from lithophone.server import realtime
from lithophone.server.app import create_app
from lithophone.server.settings import Settings
from tests.conftest import ROOT
from tests.server.running import Running, Short, running
from tests.sounds import silence, tone

TEXT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
RAYS = {"--head", "--address"}
"""Options of the command `ray`."""
CURL = re.findall(r"^curl .*$", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def server(tiny: Transcriber) -> Iterator[Running]:
    with running(Settings(model=("tiny",)), lambda name: cast(Transcriber, Short(tiny))) as one:
        yield one


def test_there_are_lines_to_run() -> None:
    assert len(CURL) > 5
    assert all(ADDRESS in line for line in CURL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", CURL)
def test_curl_lines_are_answered(server: Running, line: str) -> None:
    command = shlex.split(line.replace(ADDRESS, server.url))
    done = subprocess.run(
        [*command, "--silent", "--show-error", "--fail-with-body"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout


def test_options_are_all_that_there_are() -> None:
    """Those of settings, by their names on the command line."""
    names = {NAMES.get(one.name, f"--{one.name.replace('_', '-')}") for one in dataclasses.fields(Settings)}
    named = set(re.findall(r"--[a-z][a-z-]+", TEXT))
    assert (names - named, named - names - {"--threads", "--device", "--help"} - RAYS) == (set(), set())


def test_defaults_are_those_of_the_settings() -> None:
    rows = re.findall(r"^\| ((?:`--[\w-]+`(?:, )?)+) \| ([\d, ]+) \|", TEXT, re.MULTILINE)
    found = {
        option.strip("`-").replace("-", "_"): float(value)
        for options, values in rows
        for option, value in zip(options.split(", "), values.split(", "), strict=True)
    }
    defaults = {one.name: one.default for one in dataclasses.fields(Settings)}
    assert len(found) == 11
    assert found == {name: defaults[name] for name in found}


def test_routes_are_those_of_the_server() -> None:
    table = TEXT.partition("## Routes")[2].partition("```")[0]
    named = set(re.findall(r"`(?:GET |POST |WS )?(/[\w/-]+)`", table))
    sockets = {getattr(route, "path", "") for route in realtime.router.routes}
    served = {*create_app(Settings(model=("tiny",))).openapi()["paths"], *sockets}
    assert len(named) > 8
    assert named - {path.replace("{name}", "NAME") for path in served} == set()


def test_metrics_are_those_of_the_server(server: Running) -> None:
    text = server.get("/metrics").text + generate_latest(Front(Settings(), cast(Any, None)).registry).decode()
    assert [name for name in re.findall(r"`(lithophone_\w+)`", TEXT) if name not in text] == []


def test_variables_are_read() -> None:
    from lithophone.server.settings import environment_names

    assert set(re.findall(r"LITHOPHONE_\w+", TEXT)) <= set(environment_names().values())


def test_yaml_is_yaml() -> None:
    [block] = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    [model] = yaml.safe_load(block)["model_list"]
    assert model["litellm_params"]["model"] == "openai/whisper-1"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_is_javascript() -> None:
    [block] = re.findall(r"^```js\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    subprocess.run(["node", "--check", "--input-type=module", "-"], input=block, text=True, check=True)


def test_the_error_body_is_the_one_that_is_described(server: Running) -> None:
    reply = server.post("/v1/audio/transcriptions", data={"lanugage": "de"}, files={"file": b"x"})
    assert set(json.loads(reply.content)["error"]) == {"message", "type", "param", "code"}


def test_the_lines_of_live_captions_run(
    tiny: Transcriber, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "captions.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    monkeypatch.setattr(lithophone, "load", lambda: tiny)
    short = block.replace('language="en"', 'language="en", max_new_tokens=5, decode="greedy"')
    assert short != block
    speech = np.concatenate([silence(0.6), tone(0.8, frequency_hz=320), silence(1.2)])
    ran: dict[str, Any] = {"blocks": np.array_split(speech, 40)}
    exec(short, ran)
    assert capsys.readouterr().out.strip()
    assert isinstance(ran["events"], list)
