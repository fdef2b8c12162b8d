from __future__ import annotations

from collections.abc import Iterator

import pytest

from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.settings import Settings
from tests.detectors import by_loudness
from tests.server.running import Running, running
from tests.tiny_checkpoint import spelling_checkpoint


@pytest.fixture(scope="session")
def tiny() -> Transcriber:
    """A random model with CTC heads, whose words have times; takes tones for speech."""
    return Transcriber(spelling_checkpoint(), detector=by_loudness())


@pytest.fixture(scope="module")
def server(tiny: Transcriber) -> Iterator[Running]:
    """With defaults, two names for the tiny model, and requests of 5 MB."""
    with running(Settings(model=("tiny", "other=elsewhere"), max_upload_mb=5), lambda name: tiny) as one:
        yield one
