"""OpenAI's contract by its client for JavaScript."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lithophone.formats import render
from lithophone.pipeline.transcriber import Transcriber
from tests.server.running import SHORT, Running, wav

SCRIPT = Path(__file__).with_name("openai_client.cjs")
WAV = wav()


def node_modules() -> dict[str, str]:
    """The environment in which node finds the package openai; skips where there is none."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    environment = dict(os.environ)
    if "NODE_PATH" not in environment and shutil.which("npm"):
        found = subprocess.run(["npm", "root", "--global"], capture_output=True, text=True, check=True)
        environment["NODE_PATH"] = found.stdout.strip()
    command = ["node", "-e", "require.resolve('openai')"]
    if subprocess.run(command, env=environment, capture_output=True, check=False).returncode:
        pytest.skip("node has no package openai: npm install --global openai, or name its node_modules as NODE_PATH")
    return environment


@pytest.mark.full
def test_the_client_of_openai_for_javascript(server: Running, tiny: Transcriber, tmp_path: Path) -> None:
    environment = node_modules()
    path = tmp_path / "a.wav"
    path.write_bytes(WAV)
    command = ["node", str(SCRIPT), server.url, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    said = tiny.transcribe(WAV, **SHORT)
    assert {found[name] for name in ("json", "memory", "chat", "chunks")} == {said.text}
    assert found["text"] == f"{said.text}\n"
    assert [found[kind] for kind in ("srt", "vtt")] == [render(kind, said) for kind in ("srt", "vtt")]
    assert found["translation"] == tiny.transcribe(WAV, task="translate", language="fr", to="en", **SHORT).text
    assert (found["verbose"]["text"], found["verbose"]["language"]) == (
        tiny.transcribe(WAV, language="en", **SHORT).text,
        "english",
    )
    assert {"segments", "words", "duration", "usage"} <= found["verbose"].keys()
    assert found["stream"]["text"] == said.text
    assert found["stream"]["kinds"][-1] == "transcript.text.done"
    assert (found["models"], found["model"]) == (["tiny", "other"], "tiny")
    wrong = {"kind": "BadRequestError", "status": 400}
    missing = {"kind": "NotFoundError", "status": 404, "code": "model_not_found", "param": "model"}
    assert found["unknownModel"] == missing
    assert found["unknownField"] == {**wrong, "code": "unknown_parameter", "param": "lanugage"}
    assert found["brokenFile"] == {**wrong, "code": "invalid_audio", "param": "file"}
    assert found["chatWithoutAudio"] == {**wrong, "code": "invalid_audio_count", "param": "messages"}
