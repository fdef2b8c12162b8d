"""Processes of tests, forked from one server that has imported torch and the runs: a start costs no import."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")


def start(
    function: Callable[..., None], *arguments: Any, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """Call a function of a module in a process of its own."""
    CONTEXT.set_forkserver_preload(["tests.train.points", "tests.train.listener"])
    process = CONTEXT.Process(target=_call, args=(function, arguments, dict(environment or {})))
    process.start()
    return process


def _call(function: Callable[..., None], arguments: tuple[Any, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    function(*arguments)
