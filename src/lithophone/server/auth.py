"""API keys: `Authorization: Bearer KEY`, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Scope

from lithophone.errors import OptionError
from lithophone.server.errors import ApiError
from lithophone.server.pages import is_page
from lithophone.server.settings import Settings

OPEN_PATHS = frozenset({"/health", "/ready"})
"""Paths that need no API key, besides those of the page."""

KEY_PROTOCOL = "openai-insecure-api-key."
"""Subprotocol of browsers' WebSockets, which cannot send headers."""


class Keys:
    """Accepted keys, kept as digests; without any, everybody is served."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(_digest(key) for key in keys)

    @classmethod
    def of(cls, settings: Settings) -> Keys:
        """Keys of the settings and their file; OptionError where the file cannot be read or has none."""
        keys = list(settings.api_key)
        if settings.api_key_file is not None:
            try:
                lines = Path(settings.api_key_file).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise OptionError(f"{settings.api_key_file} cannot be read ({error}): give a text file") from error
            found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
            if not found:
                raise OptionError(f"{settings.api_key_file} holds no API key: write one on each line")
            keys += found
        return cls(keys)

    @property
    def needed(self) -> bool:
        return bool(self._digests)

    def accepts(self, key: str) -> bool:
        """Compares with every key, however early one matches."""
        digest = _digest(key)
        return sum([hmac.compare_digest(digest, known) for known in self._digests]) > 0

    def check_request(self, scope: Scope) -> None:
        """Raise ApiError 401 unless the HTTP request has an accepted key, or needs none."""
        if not (scope["path"] in OPEN_PATHS or is_page(scope["path"]) or scope["method"] == "OPTIONS"):
            self.check(Headers(scope=scope))

    def check_socket(self, scope: Scope) -> None:
        """Raise ApiError 401 unless the WebSocket has an accepted key."""
        protocols = scope.get("subprotocols", [])
        keys = [part.removeprefix(KEY_PROTOCOL) for part in protocols if part.startswith(KEY_PROTOCOL)]
        self.check(Headers(scope=scope), *keys)

    def check(self, headers: Headers, *keys: str) -> None:
        """Raise ApiError 401 unless the request has an accepted key, in its headers or else among `keys`."""
        if not self.needed or any(self.accepts(key) for key in keys):
            return
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not key:
            raise ApiError(
                401, "an API key is needed: send the header Authorization: Bearer KEY", code="missing_api_key"
            )
        if not self.accepts(key.strip()):
            raise ApiError(401, "this API key is not accepted", code="invalid_api_key")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
