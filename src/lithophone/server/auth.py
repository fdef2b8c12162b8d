"""API keys, `Authorization: Bearer KEY`, compared in constant time; and client secrets, which a key has signed.

A client secret opens live sessions until it expires. It holds its session, so nothing is kept, and every process with
the same keys accepts it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from lithophone.errors import OptionError
from lithophone.server.errors import ApiError
from lithophone.server.pages import is_page
from lithophone.server.settings import Settings

OPEN_PATHS = frozenset({"/health", "/ready", "/docs", "/openapi.json"})
"""Paths that need no API key, besides those of the page."""

KEY_PROTOCOL = "openai-insecure-api-key."
"""Subprotocol of browsers' WebSockets, which cannot send headers."""

SECRET_PREFIX = "ek_"
MAC_SIZE = 16
SECRET_LIMIT = 4096
"""Longest client secret in characters, since it travels in a header."""


class Keys:
    """Accepted keys, kept as digests; without any, everybody is served."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(_digest(key) for key in keys)
        self._signing = hashlib.sha256(b"client secrets" + b"".join(sorted(self._digests))).digest()

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

    def unchecked(self) -> Keys:
        """For a replica, whose front has checked the keys: nobody needs one, and client secrets are the same."""
        keys = Keys(())
        keys._signing = self._signing
        return keys

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

    def check(self, headers: Headers, *keys: str) -> None:
        """Raise ApiError 401 unless the request has an accepted key, in its headers or else among `keys`."""
        if not self.needed or any(self.accepts(key) for key in keys):
            return
        key = _bearer(headers)
        if not key:
            raise ApiError(
                401, "an API key is needed: send the header Authorization: Bearer KEY", code="missing_api_key"
            )
        if not self.accepts(key):
            raise ApiError(401, "this API key is not accepted", code="invalid_api_key")

    def check_socket(self, scope: Scope) -> dict[str, Any] | None:
        """As `check`, for a WebSocket: client secrets count too -> the session of that secret. Raises ApiError 401."""
        headers, protocols = Headers(scope=scope), scope.get("subprotocols", [])
        keys = [part.removeprefix(KEY_PROTOCOL) for part in protocols if part.startswith(KEY_PROTOCOL)]
        for key in (*keys, _bearer(headers)):
            if key.startswith(SECRET_PREFIX) and not self.accepts(key):
                session = self.session_of(key)
                if session is None and self.needed:
                    raise ApiError(401, "this client secret has expired, or is none", code="invalid_client_secret")
                return session
        self.check(headers, *keys)
        return None

    def client_secret(self, session: dict[str, Any], expires_at: int) -> str:
        """A secret for sessions like this one. Raises ApiError where it would be too long."""
        content = zlib.compress(json.dumps([expires_at, session]).encode())
        secret = SECRET_PREFIX + base64.urlsafe_b64encode(self._mac(content) + content).decode().rstrip("=")
        if len(secret) > SECRET_LIMIT:
            raise ApiError(
                400,
                f"the session makes a secret of {len(secret)} characters, above {SECRET_LIMIT}: send fewer keywords",
                code="invalid_value", param="session",
            )  # fmt: skip
        return secret

    def session_of(self, secret: str) -> dict[str, Any] | None:
        """The session of a client secret; None where it has expired, or was not made with these keys."""
        text = secret[len(SECRET_PREFIX) : SECRET_LIMIT]
        try:
            signed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            return None
        mac, content = signed[:MAC_SIZE], signed[MAC_SIZE:]
        if not hmac.compare_digest(mac, self._mac(content)):
            return None
        expires_at, session = json.loads(zlib.decompress(content))
        return dict(session) if time.time() < expires_at else None

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._signing, content, "sha256")[:MAC_SIZE]


def _bearer(headers: Headers) -> str:
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
