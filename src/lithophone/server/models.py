"""Models of a server by name, loaded on demand; the one used longest ago is unloaded for another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lithophone.errors import CheckpointError, ConfigError, DownloadError
from lithophone.pipeline.transcriber import Transcriber, load
from lithophone.server.errors import ApiError
from lithophone.server.settings import Settings

OPENAI_NAMES = frozenset(
    {
        "whisper-1", "gpt-transcribe", "gpt-live-transcribe", "gpt-realtime-whisper", "gpt-4o-transcribe",
        "gpt-4o-mini-transcribe", "gpt-4o-mini-transcribe-2025-12-15", "gpt-4o-transcribe-diarize",
    }
)  # fmt: skip
"""Names that clients send without being asked; each stands for the default model."""


@dataclass(eq=False)
class _Loaded:
    transcriber: Transcriber
    users: int = 0
    used_at: float = 0.0


class Models:
    """Thread-safe. `loader` takes a name or folder."""

    def __init__(self, settings: Settings, loader: Callable[[str], Transcriber] = load) -> None:
        self._folders = settings.folders
        self._max = settings.max_models
        self._load = loader
        self._loaded: dict[str, _Loaded] = {}
        self._changed = threading.Condition()
        self.created = int(time.time())

    @property
    def names(self) -> tuple[str, ...]:
        """The default first."""
        return tuple(self._folders)

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(self._loaded)

    def name_of(self, asked: str | None) -> str:
        """The model a request means: its name, one of OpenAI's for the default, or ApiError 404."""
        if asked in self._folders:
            return str(asked)
        if not asked or asked in OPENAI_NAMES:
            return self.names[0]
        raise ApiError(
            404,
            f"the model {asked!r:.100} is not served here: there are {', '.join(self.names)}",
            code="model_not_found",
            param="model",
        )

    @contextmanager
    def using(self, name: str) -> Iterator[Transcriber]:
        """The model of that name, which stays loaded meanwhile. Blocks while it loads. Raises ApiError 503."""
        loaded = self._acquire(name)
        try:
            yield loaded.transcriber
        finally:
            with self._changed:
                loaded.users -= 1
                loaded.used_at = time.monotonic()
                self._changed.notify_all()

    def _acquire(self, name: str) -> _Loaded:
        with self._changed:
            if name not in self._loaded:
                self._make_room()
                try:
                    self._loaded[name] = _Loaded(self._load(self._folders[name]))
                except (CheckpointError, ConfigError, DownloadError) as error:
                    raise ApiError(500, f"the model {name} cannot be loaded: {error}", code="model_failed") from error
            self._loaded[name].users += 1
            return self._loaded[name]

    def _make_room(self) -> None:
        """Unload until there is room for one more; waits for a model that nobody uses."""
        while len(self._loaded) >= self._max:
            idle = [name for name, one in self._loaded.items() if not one.users]
            if idle:
                del self._loaded[min(idle, key=lambda name: self._loaded[name].used_at)]
            else:
                self._changed.wait()
