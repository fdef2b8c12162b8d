"""A tiny teacher and its statistics."""

from __future__ import annotations

from pathlib import Path

import pytest

from lithophone.train.transplant.statistics import Statistics, measure
from lithophone.train.transplant.whisper import WhisperEncoder
from lithophone.train.transplant.whisper_decoder import TextTeacher
from tests.train.transplant.tiny_whisper import noise_windows, tiny_whisper, write_transformers


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformers(tiny_whisper(), tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture
def teacher(whisper_folder: Path) -> WhisperEncoder:
    return WhisperEncoder.from_folder(whisper_folder)


@pytest.fixture(scope="session")
def text_teacher(whisper_folder: Path) -> TextTeacher:
    return TextTeacher.from_folder(whisper_folder)


@pytest.fixture
def statistics(teacher: WhisperEncoder) -> Statistics:
    return measure(teacher, noise_windows(3))
