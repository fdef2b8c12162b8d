"""Names to folders, with a hub of our own on this machine: nothing leaves it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lithophone import hub
from lithophone.checkpoint import load_checkpoint, save_checkpoint
from lithophone.errors import DownloadError
from tests.model.test_weights import assert_same
from tests.tiny_checkpoint import tiny_checkpoint

NAME = "someone/granite-speech-tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import json, sys
from lithophone import hub
from lithophone.errors import DownloadError
try:
    print(json.dumps({"folder": str(hub.resolve(sys.argv[1])), "cached": list(hub.cached_models())}))
except DownloadError as error:
    print(json.dumps({"error": str(error)}))
"""


class Hub(ThreadingHTTPServer):
    """The four questions that are asked of a hub, answered from a folder for one model name."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        status, headers, body = self.find(path)
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def find(self, path: str) -> tuple[int, dict[str, str], bytes]:
        files = {file.name: file.read_bytes() for file in self.server.folder.iterdir()}
        if path == f"/api/models/{NAME}/revision/main":
            siblings = [{"rfilename": name} for name in files]
            return 200, {}, as_json({"id": NAME, "sha": COMMIT, "siblings": siblings})
        if path == f"/api/models/{NAME}/tree/{COMMIT}":
            entries = [{"type": "file", "path": n, "size": len(b), "oid": digest(b)} for n, b in files.items()]
            return 200, {}, as_json(entries)
        root, _, name = path.rpartition("/")
        if root == f"/{NAME}/resolve/{COMMIT}" and name in files:
            return 200, {"ETag": f'"{digest(files[name])}"', "X-Repo-Commit": COMMIT}, files[name]
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"

    def log_message(self, *_: object) -> None:
        """The test's output is not the place."""


def as_json(values: object) -> bytes:
    return json.dumps(values).encode()


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "hub"
    save_checkpoint(tiny_checkpoint(bpe=True), folder)
    (folder / "optimizer.bin").write_bytes(b"not asked for")
    hub_server = Hub(folder)
    thread = threading.Thread(target=hub_server.serve_forever, daemon=True)
    thread.start()
    yield hub_server
    hub_server.shutdown()
    hub_server.server_close()
    thread.join()


def resolve_elsewhere(home: Path, endpoint: str, name: str, *, offline: bool = False) -> tuple[dict[str, Any], str]:
    """`hub.resolve` in a process of its own: the hub's library reads its environment when it is imported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    source = str(Path(hub.__file__).parents[1])
    environment = kept | {
        "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONPATH": source, "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    command = [sys.executable, "-c", SCRIPT, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_a_checkpoint_is_downloaded_once_and_then_found_offline(server: Hub, tmp_path: Path) -> None:
    home, endpoint = tmp_path / "home", f"http://127.0.0.1:{server.server_port}"
    answer, shown = resolve_elsewhere(home, endpoint, NAME)
    folder = Path(answer["folder"])
    assert answer["cached"] == [NAME]
    assert "%" in shown
    wanted = {path.name for path in server.folder.iterdir()} - {"optimizer.bin"}
    assert {path.name for path in folder.iterdir()} == wanted
    assert not any("optimizer.bin" in path for path in server.asked)
    assert_same(load_checkpoint(folder).model, tiny_checkpoint(bpe=True).model)
    server.asked.clear()
    assert resolve_elsewhere(home, endpoint, NAME, offline=True)[0] == answer
    assert server.asked == []


def test_what_the_hub_does_not_have_is_a_download_error(server: Hub, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{server.server_port}"
    error = resolve_elsewhere(tmp_path / "home", endpoint, "someone/nothing")[0]["error"]
    assert "'someone/nothing' cannot be downloaded" in error
    assert "lithophone-tiny" in error


def test_no_network_names_the_bundled_model(tmp_path: Path) -> None:
    for offline in (True, False):
        error = resolve_elsewhere(tmp_path / "home", "http://127.0.0.1:9", NAME, offline=offline)[0]["error"]
        assert "cannot be downloaded" in error
        assert "lithophone-tiny" in error
        assert ("ibm-granite/granite-speech-4.1-2b" in error) is not offline
        assert ("HF_HUB_OFFLINE is set" in error) is offline


def test_a_failed_download_is_not_offered_again(server: Hub, tmp_path: Path) -> None:
    name, endpoint = "ibm-granite/granite-speech-4.1-2b", f"http://127.0.0.1:{server.server_port}"
    for offline in (True, False):
        error = resolve_elsewhere(tmp_path / "home", endpoint, name, offline=offline)[0]["error"]
        assert re.findall(rf"{name}(?![-\w])", error.replace(f"/api/models/{name}", "")) == [name]
        assert ".;" not in error


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert hub.resolve(tmp_path) == tmp_path
    assert hub.resolve(str(tmp_path)) == tmp_path


def test_bundled_models_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ASSETS", tmp_path)
    (tmp_path / "lithophone-tiny").mkdir()
    (tmp_path / "lithophone-tiny" / "config.json").write_text("{}")
    (tmp_path / "demo").mkdir()
    assert hub.bundled_models() == {"lithophone-tiny": tmp_path / "lithophone-tiny"}
    assert hub.resolve() == tmp_path / "lithophone-tiny"


@pytest.mark.parametrize(
    "name",
    ["nothing", "a/b/c", Path("no") / "folder", "a b/c d", "./nothere", "~/models", "x" * 300, "a/" + "x" * 5000,
     "nul\x00byte", "", Path("y" * 300), "../up", "dotless/-x"],
)  # fmt: skip
def test_names_that_can_be_neither_folder_nor_model(name: str | Path) -> None:
    with pytest.raises(DownloadError, match=r"neither a folder nor a model's name; .*lithophone-tiny"):
        hub.resolve(name)


@pytest.mark.parametrize("name", [None, 7, ["lithophone-tiny"], b"lithophone-tiny"])
def test_what_is_no_name_is_said(name: Any) -> None:
    with pytest.raises(DownloadError, match="expected a folder or a name"):
        hub.resolve(name)


def test_a_folder_one_may_not_enter_is_a_download_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_dir = Path.is_dir

    def closed(path: Path) -> bool:
        if "closed" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", closed)
    with pytest.raises(DownloadError, match="cannot be looked at: Permission denied"):
        hub.resolve(tmp_path / "closed" / "model")


@pytest.mark.parametrize(
    ("model_type", "listed"),
    [("granite_speech", True), ("granite_speech_plus", True), ("granite_speech_nar", True), ("nle", True),
     ("llama", False), (["granite_speech"], False), (None, False)],
)  # fmt: skip
def test_models_of_every_kind_that_is_built_are_found_in_the_cache(
    tmp_path: Path, model_type: object, listed: bool
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert hub._is_ours(tmp_path) == listed


def test_known_models_have_names_of_the_hub() -> None:
    assert {name for name in hub.KNOWN if hub.HUB_NAME.fullmatch(name) is None} == set()
    assert {"ibm-granite/granite-speech-5.0-2b", "ibm-granite/granite-speech-4.1-2b-nar"} <= set(hub.KNOWN)


def test_a_connection_that_breaks_is_a_download_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> str:
        raise EOFError("peer closed connection\nwithout sending complete body")

    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    with pytest.raises(DownloadError, match="peer closed connection; without a network"):
        hub.resolve(NAME)
