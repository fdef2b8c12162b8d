"""One recording of a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from lithophone.pipeline.options import TranscribeOptions


@dataclass(frozen=True)
class Recording:
    """A file or URL, or a part of it."""

    name: str
    """Its id, and the path of its outputs without suffix."""
    audio: str
    """Absolute path, or URL."""
    start_s: float | None = None
    end_s: float | None = None
    channel: int | None = None
    language: str | None = None
    """In place of the option."""
    keywords: tuple[str, ...] | None = None
    """In place of the option."""

    @property
    def output(self) -> PurePosixPath:
        return PurePosixPath(self.name)

    def options(self, common: TranscribeOptions) -> TranscribeOptions:
        """The options with its own language and keywords. Raises OptionError where they cannot go together."""
        own: dict[str, Any] = {"language": self.language, "keywords": self.keywords}
        return replace(common, **{name: value for name, value in own.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """A line of a manifest."""
        keys = {"name": "id", "start_s": "start", "end_s": "end", "language": "lang"}
        return {keys.get(name, name): value for name, value in asdict(self).items() if value is not None}


def encoded(recordings: list[Recording]) -> str:
    return json.dumps([asdict(one) for one in recordings])


def decoded(text: str) -> list[Recording]:
    return [_from_dict(values) for values in json.loads(text)]


def _from_dict(values: Mapping[str, Any]) -> Recording:
    keywords = values["keywords"]
    return Recording(**{**values, "keywords": None if keywords is None else tuple(keywords)})
