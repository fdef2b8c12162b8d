"""Settings of the server: options of `lithophone serve`, else environment (`LITHOPHONE_PORT=9000`), else default."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, fields
from typing import TypeVar
from urllib.parse import urlsplit

from lithophone.decode.options import check_number, check_whole
from lithophone.errors import OptionError
from lithophone.hub import DEFAULT_MODEL

MEGABYTE = 1_000_000
POSITIVE = (
    "max_upload_mb", "max_held_mb", "max_duration_s", "request_timeout_s", "parse_cpu_s", "parse_memory_mb",
    "fetch_timeout_s", "guardian_timeout_s",
)  # fmt: skip
CHOICES = {"guardian_policy": ("flag", "block"), "guardian_failure": ("open", "closed")}

T = TypeVar("T")


def _setting(default: T, help: str, *, secret: bool = False) -> T:
    made: T = field(default=default, repr=not secret, metadata={"help": help})
    return made


@dataclass(frozen=True)
class Settings:
    """How to serve; help texts are in the fields' metadata. Raises OptionError for values that are not allowed."""

    model: tuple[str, ...] = _setting(
        (DEFAULT_MODEL,), "Models, separated by commas: name, folder or NAME=FOLDER; the first is the default."
    )
    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(8000, "Port to listen on; 0 takes a free one.")
    wyoming_port: int | None = _setting(
        None, "Port of the Wyoming protocol, as for Home Assistant; 0 takes a free one (default: not served)."
    )
    replicas: int = _setting(1, "Processes that transcribe, by Ray Serve where there are 2 or more.")
    ray_address: str | None = _setting(
        None, "Ray cluster to run the replicas on, as HOST:PORT or auto (default: one of this machine alone)."
    )
    lazy: bool = _setting(False, "Load the default model with the first request, not at the start.")
    max_models: int = _setting(4, "Models in memory; for another, the one used longest ago is unloaded.")
    api_key: tuple[str, ...] = _setting(
        (), "Accepted API keys; others see a command line, so prefer a file.", secret=True
    )
    api_key_file: str | None = _setting(None, "File with an accepted API key on each line.")
    allow_anonymous: bool = _setting(False, "Serve without API keys on addresses that other machines reach.")
    cors_origin: tuple[str, ...] = _setting((), "Web origins whose pages may call the server.")
    max_upload_mb: float = _setting(500.0, "Largest request body in megabytes.")
    max_held_mb: float = _setting(
        2000.0, "Bodies of all requests together in megabytes; more are answered with status 429, unread."
    )
    max_duration_s: float = _setting(4 * 3600.0, "Longest recording in seconds.")
    max_running: int = _setting(32, "Requests that are transcribed at once.")
    max_waiting: int = _setting(64, "Further requests that wait; more are answered with status 429.")
    max_live: int = _setting(8, "Live sessions at once.")
    request_timeout_s: float = _setting(3600.0, "Longest time for a request in seconds.")
    drain_s: float = _setting(60.0, "Seconds to finish accepted requests after SIGTERM.")
    parse_cpu_s: float = _setting(300.0, "CPU seconds to decode one recording.")
    parse_memory_mb: float = _setting(2000.0, "Address space to decode one recording, in megabytes.")
    fetch_urls: bool = _setting(False, "Fetch recordings from https URLs that chat requests name.")
    fetch_domains: tuple[str, ...] = _setting(
        (), "Hosts to fetch from, *.example.com for those below it (default: every host with public addresses)."
    )
    fetch_timeout_s: float = _setting(30.0, "Longest time to fetch a recording in seconds.")
    guardian_url: str | None = _setting(
        None, "Granite Guardian that judges prompts and transcripts: URL of its OpenAI-compatible API, ending in /v1."
    )
    guardian_model: str = _setting("ibm-granite/granite-guardian-4.1-8b", "Name of the Guardian at its server.")
    guardian_api_key: str | None = _setting(
        None, "API key of the Guardian's server; prefer the environment variable.", secret=True
    )
    guardian_policy: str = _setting("flag", "flag: replies have the verdict; block: harmful content is refused.")
    guardian_failure: str = _setting(
        "closed", "Where the Guardian does not answer: closed refuses the request, open serves it unjudged."
    )
    guardian_timeout_s: float = _setting(10.0, "Longest time for a verdict in seconds.")

    def __post_init__(self) -> None:
        for name in ("model", "api_key", "cors_origin", "fetch_domains"):
            words = tuple(word.strip() for word in getattr(self, name) if word.strip())
            object.__setattr__(self, name, words)
        if not self.model:
            raise OptionError(f"model is empty: name at least one, such as {DEFAULT_MODEL}")
        for name in ("port", "wyoming_port"):
            if not 0 <= (getattr(self, name) or 0) <= 65_535:
                raise OptionError(f"{name} is {getattr(self, name)}: it must be from 0 to 65535")
        for name in ("max_models", "max_running", "max_live", "replicas"):
            check_whole(name, getattr(self, name))
        check_whole("max_waiting", self.max_waiting, least=0)
        for name in POSITIVE:
            check_number(name, getattr(self, name), lambda value: value > 0, "above 0")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} is {getattr(self, name)!r}: allowed are {', '.join(allowed)}")
        if self.guardian_url is not None:
            _check_url("guardian_url", self.guardian_url)
        check_number("drain_s", self.drain_s, lambda value: value >= 0, "0 or more")
        if not (self.api_key or self.api_key_file or self.allow_anonymous or is_loopback(self.host)):
            raise OptionError(
                f"other machines reach {self.host}: give api_key_file, or allow_anonymous to serve without keys"
            )
        if not (self.wyoming_port is None or self.allow_anonymous or is_loopback(self.host)):
            raise OptionError(
                f"other machines reach {self.host}, and the Wyoming protocol has no keys: give allow_anonymous too"
            )
        if self.is_scaled and self.wyoming_port is not None:
            raise OptionError("wyoming is served by one process: give it to a server without replicas")

    @property
    def folders(self) -> dict[str, str]:
        """Models by name; `NAME=FOLDER`, or a name or folder that is its own name."""
        parts = (model.partition("=") for model in self.model)
        return {name: folder if separator else name for name, separator, folder in parts}

    @property
    def is_scaled(self) -> bool:
        """Whether replicas of Ray Serve transcribe, and not this process."""
        return self.replicas > 1 or self.ray_address is not None


def environment_names() -> dict[str, str]:
    """Environment variable of every setting."""
    return {one.name: f"LITHOPHONE_{one.name.upper()}" for one in fields(Settings)}


def _check_url(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        is_readable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_readable = False
    if not is_readable or parts.username or parts.query or not re.fullmatch(r"[!-~]+", url):
        raise OptionError(f"{name} must be like http://127.0.0.1:9000/v1, without user, password and query")


def is_loopback(host: str) -> bool:
    """Whether this machine alone reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
