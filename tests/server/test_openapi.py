"""The OpenAPI document against the server."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest

from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.app import create_app
from lithophone.server.options import COMMON, IGNORED, OPTION_TYPES
from lithophone.server.settings import Settings
from tests.conftest import ROOT
from tests.server.running import Running, Short, running

CASES = 5_000
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "missing_required_header", "unsupported_method",
    "allow_header_conformance",
)  # fmt: skip
"""Not negative_data_rejection: in a form everything is a text, and empty values are none."""

LONGEST_S = 30


@pytest.fixture(scope="module")
def brief(tiny: Transcriber) -> Iterator[Running]:
    settings = Settings(model=("tiny",), max_upload_mb=5, max_duration_s=60, request_timeout_s=20)
    with running(settings, lambda name: cast(Transcriber, Short(tiny))) as one:
        yield one


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = create_app(Settings(model=("tiny",))).openapi()
    return made


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By method and path."""
    return {f"{method} {path}": one for path, methods in document["paths"].items() for method, one in methods.items()}


def test_references_lead_to_schemas_and_every_schema_is_used(document: dict[str, Any]) -> None:
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert named == set(document["components"]["schemas"])


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [one["operationId"] for one in operations(document).values()]
    assert sorted(names) == sorted(set(names))


def test_errors_are_those_of_the_manual(document: dict[str, Any]) -> None:
    manual = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| (\d{3}) \|", manual, re.MULTILINE))
    answered = {status for one in operations(document).values() for status in one["responses"]}
    assert answered - {"200"} == described
    for name, one in operations(document).items():
        assert "422" not in one["responses"], name
        assert ("security" in one) == ("401" in one["responses"]), name


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations", "/asr", "/inference"])
def test_forms_have_every_option(document: dict[str, Any], path: str) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    fields = {name.removesuffix("[]") for name in content["properties"]}
    assert {*OPTION_TYPES, *COMMON, *IGNORED} <= fields
    assert content["additionalProperties"] is False


@pytest.mark.parametrize(
    ("path", "file"), [("/v1/audio/transcriptions", "file"), ("/asr", "audio_file"), ("/inference", "file")]
)
def test_every_field_of_the_document_is_known_to_the_route(
    brief: Running, document: dict[str, Any], path: str, file: str
) -> None:
    """All at once with values that none has: names are looked at before values."""
    content = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    fields = {name: "?" for name in content["properties"].keys() - {file}}
    for more, is_unknown in (({}, False), ({"lanugage": "?"}, True)):
        reply = brief.post(path, data={**fields, **more}, files={file: b"junk"})
        assert (reply.json()["error"]["code"] == "unknown_parameter") is is_unknown


def test_types_are_those_of_the_options(document: dict[str, Any]) -> None:
    body = document["paths"]["/v1/audio/transcriptions"]["post"]["requestBody"]["content"]
    form = body["multipart/form-data"]["schema"]["properties"]
    kinds = {name: form[name]["type"] for name in ("num_beams", "limit_s", "punctuate", "to", "keywords[]", "stream")}
    assert list(kinds.values()) == ["integer", "number", "boolean", "string", "array", "boolean"]
    assert "beam" in form["decode"]["enum"]
    assert form["num_beams"]["description"]
    assert "input_audio" in body["application/json"]["schema"]["required"]


def test_the_page_of_routes_has_every_field_and_asks_nothing_of_others(
    brief: Running, document: dict[str, Any]
) -> None:
    reply = brief.get("/docs")
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert re.findall(r"(?:src|href)=.([^\"]+)", reply.text) == ["openapi.json"]
    assert "<script" not in reply.text
    for path, methods in document["paths"].items():
        assert f" {path}</code>" in reply.text
        for one in methods.values():
            for content in one.get("requestBody", {}).get("content", {}).values():
                assert all(f"<code>{name}</code>" in reply.text for name in content["schema"]["properties"])


def test_load_balancers_may_ask_with_head(brief: Running) -> None:
    assert [httpx2.head(f"{brief.url}{path}").status_code for path in ("/health", "/ready")] == [200, 200]


def test_routes_may_be_read_without_a_key(tiny: Transcriber) -> None:
    with running(Settings(api_key=("right",)), lambda name: tiny) as server:
        statuses = [server.get(path).status_code for path in ("/docs", "/openapi.json", "/v1/models")]
        assert statuses == [200, 200, 401]


@pytest.mark.full
def test_schemathesis_finds_no_fault(brief: Running, tmp_path: Path) -> None:
    """Requests by the document, and against it. The server's own clock says how long they took: the client is slow."""
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed: pip install -e '.[test-full]'")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{brief.url}/openapi.json",
        "--checks", ",".join(CHECKS), "--seed", "19", "--max-examples", "110", "--request-timeout", "120",
        "--workers", "2", "--continue-on-failure", "--no-color",
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(Path(__file__).parent / "schemathesis_hooks.py")}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=3600, check=False
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert cases(done.stdout) >= CASES
    assert brief.get("/health").status_code == 200
    measured = brief.get("/metrics").text
    within, counted = (
        {route: float(count) for route, count in re.findall(pattern, measured)}
        for pattern in (
            rf'request_seconds_bucket{{le="{LONGEST_S}.0",route="(.+)"}} (\S+)',
            r'request_seconds_count{route="(.+)"} (\S+)',
        )
    )
    assert within == counted
    assert sum(counted.values()) > CASES


def cases(output: str) -> int:
    [count] = re.findall(r"Test cases:\s+([\d,]+) generated", output)
    return int(count.replace(",", ""))
