"""What all tests share: tiny transcribers, speech found without a voice detector, marks that skip loudly."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lithophone.checkpoint import save_checkpoint
from lithophone.model import quantize
from lithophone.model.int8_kernels import ACTIVATION_LEVELS, Plain
from lithophone.model.quantize import products_are_exact
from lithophone.pipeline.transcriber import Transcriber
from tests.detectors import by_loudness
from tests.tiny_checkpoint import spelling_checkpoint, tiny_checkpoint

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
DEMO = ROOT / "src" / "lithophone" / "assets" / "demo" / "demo.flac"


def pytest_configure() -> None:
    torch.set_num_threads(min(2, torch.get_num_threads()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="the shared folder is not beside the repository"))


NOBODY = 65534


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user whom permissions bind; a test that runs as root is that user meanwhile."""
    if sys.platform == "win32":
        pytest.skip("needs permissions of POSIX")
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        if is_root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if is_root:
                os.seteuid(0)


@pytest.fixture(scope="session")
def tiny() -> Transcriber:
    """A random model of the base kind, which takes tones for speech."""
    return Transcriber(tiny_checkpoint(), detector=by_loudness())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(tiny_checkpoint(), folder)
    return folder


@pytest.fixture(scope="session")
def spelling_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with the family's characters, as a folder."""
    folder = tmp_path_factory.mktemp("models") / "spelling"
    save_checkpoint(spelling_checkpoint(), folder)
    return folder


@pytest.fixture
def tones_are_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that run in this process take tones for speech."""
    monkeypatch.setattr("lithophone.audio.segmenter.bundled_detector", by_loudness)


@pytest.fixture
def int8_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 on every CPU: by the slow form of the products where torch's kernels are not exact."""
    if not products_are_exact():
        monkeypatch.setattr(quantize, "packed", lambda values, scale, *, few_rows: Plain(values, scale))
        monkeypatch.setattr(quantize, "activation_levels", lambda: ACTIVATION_LEVELS[0])
