from __future__ import annotations

from tests.server.conftest import server, tiny

__all__ = ["server", "tiny"]
