"""Logs of the server: no words of users."""

from __future__ import annotations

import logging


def without_queries() -> None:
    """Leave queries, which may hold words to expect, out of uvicorn's log of requests."""
    logging.getLogger("uvicorn.access").addFilter(_cut_query)


def _cut_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(_path(one) for one in record.args)
    return True


def _path(value: object) -> object:
    return value.partition("?")[0] if isinstance(value, str) and value.startswith("/") else value
