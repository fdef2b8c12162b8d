"""Fetching of recordings: from public addresses only, whatever a URL, a resolver or a redirect says."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from lithophone.pipeline.transcriber import Transcriber
from lithophone.server import fetch
from lithophone.server.errors import ApiError
from lithophone.server.fetch import Fetcher, is_public
from lithophone.server.settings import Settings
from tests.server.running import running, wav
from tests.server.tls import client_context, server_context

WAV = wav(0.2)
PUBLIC, OTHER = "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        path = self.path
        if path == "/a.wav":
            self._send(200, WAV)
        elif path.startswith("/to/"):
            self._send(302, b"", location=unquote(path[4:]))
        elif path == "/big":
            self._send(200, b"", **{"content-length": "999999999"})
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            self._write_on(b"x" * 65_536, 0.0)
        elif path == "/slow":
            self.send_response(200)
            self.end_headers()
            self._write_on(b"x", 0.05)
        elif path == "/cut":
            self._send(200, b"abc", **{"content-length": "100"})
        elif path == "/junk":
            self.wfile.write(b"\0\1\2 no HTTP\r\n\r\n")
        elif path == "/gzip":
            self._send(200, b"abc", **{"content-encoding": "gzip"})
        elif path == "/echo%20%C3%A9?q=1%202":
            self._send(200, WAV)
        else:
            self._send(404, b"nothing here")

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _write_on(self, data: bytes, pause_s: float) -> None:
        try:
            for _ in range(2000):
                self.wfile.write(data)
                time.sleep(pause_s)
        except OSError:  # the client has gone
            return

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = server_context().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


class Net:
    """A network in which `PUBLIC` is the server of the test; other addresses connect to nothing."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.names = {"good.example": [PUBLIC], "below.good.example": [PUBLIC], "bad.example": [PUBLIC]}
        self.resolved: list[str] = []
        self.connected: list[str] = []
        self._open = asyncio.open_connection

    async def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        if host not in self.names:
            raise OSError("no such name")
        return self.names[host]

    async def open_connection(self, address: str, port: int, **given: Any) -> Any:
        self.connected.append(address)
        if address != PUBLIC:
            raise ConnectionRefusedError(address)
        return await self._open("127.0.0.1", self.port, **given)


@pytest.fixture
def net(port: int, monkeypatch: pytest.MonkeyPatch) -> Net:
    made = Net(port)
    monkeypatch.setattr(fetch, "resolve", made.resolve)
    monkeypatch.setattr("lithophone.server.http_client.asyncio.open_connection", made.open_connection)
    return made


def fetched(url: str, **settings: Any) -> bytes:
    given = {"fetch_urls": True, "max_upload_mb": 0.5, "fetch_timeout_s": 5.0, **settings}

    async def run() -> bytes:
        fetcher = Fetcher(Settings(**given))
        fetcher.tls = client_context()
        return await fetcher.fetch(url, "url")

    return asyncio.run(run())


def refusal(url: str, **settings: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        fetched(url, **settings)
    assert error.value.param == "url"
    assert "127.0.0.1" not in error.value.message
    return error.value


# --- what is fetched


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example/a.wav",
        "HTTPS://GOOD.example:443/a.wav#part",
        "https://good.example./a.wav",
        "https://good.example/to/%2Fa.wav",
        "https://good.example/to//to//to//a.wav",
        "https://good.example/to/https:%2F%2Fbelow.good.example%2Fa.wav",
        "https://good.example/echo%20é?q=1%202",
    ],
)
def test_public_urls_and_their_redirects_are_fetched(net: Net, url: str) -> None:
    assert fetched(url) == WAV
    assert set(net.connected) == {PUBLIC}


def test_the_connection_is_made_to_the_address_that_was_checked(net: Net) -> None:
    assert fetched("https://good.example/a.wav") == WAV
    assert (net.resolved, net.connected) == (["good.example"], [PUBLIC])


def test_a_further_address_is_tried_where_one_does_not_answer(net: Net) -> None:
    net.names["good.example"] = [OTHER, PUBLIC]
    assert fetched("https://good.example/a.wav") == WAV
    assert net.connected == [OTHER, PUBLIC]


def test_proxies_of_the_environment_are_not_used(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetched("https://good.example/a.wav") == WAV


def test_domains_limit_hosts_also_after_a_redirect(net: Net) -> None:
    assert fetched("https://good.example/a.wav", fetch_domains=("good.example",)) == WAV
    assert fetched("https://below.good.example/a.wav", fetch_domains=("*.GOOD.example",)) == WAV
    for url, domain in [
        ("https://good.example/a.wav", "*.good.example"),
        ("https://below.good.example/a.wav", "good.example"),
        ("https://good.example/to/https:%2F%2Fbelow.good.example%2Fa.wav", "good.example"),
    ]:
        assert refusal(url, fetch_domains=(domain,)).code == "url_not_allowed"


# --- what is not


def test_nothing_is_fetched_by_default(net: Net) -> None:
    assert refusal("https://good.example/a.wav", fetch_urls=False).code == "url_not_allowed"
    assert net.resolved == []


@pytest.mark.parametrize(
    "url",
    [
        "http://good.example/a.wav",
        "file:///etc/passwd",
        "ftp://good.example/a.wav",
        "//good.example/a.wav",
        "https:///a.wav",
        "https://",
        "https://user@good.example/a.wav",
        "https://user:password@good.example/a.wav",
        "https://@good.example/a.wav",
        "https://good.example\\@bad.example/a.wav",
        "https://good.example/a wav",
        "https://good.example/a\r\nx: y",
        "https://good.example/\x00",
        "https://good.example:99999/a.wav",
        "https://good.example:x/a.wav",
        "https://[::1/a.wav",
        "https://[fe80::1%25eth0]/a.wav",
        "https://good%2eexample/a.wav",
        "https://" + "a" * 64 + ".example/",
        "https://good.example/" + "a" * 9000,
    ],
)
def test_other_urls_are_refused_before_anything_is_resolved(net: Net, url: str) -> None:
    assert refusal(url).code == "url_not_allowed"
    assert net.resolved == []


PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
    "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.0.8", "192.0.2.1", "198.18.0.1", "203.0.113.9",
    "192.88.99.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "2002:a00:1::", "2002:c0a8:101::",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "::127.0.0.1", "::7f00:1", "2001::1", "100::1",
    "3fff::1", "4000::1", "no address", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_of_the_public_internet(net: Net, address: str) -> None:
    assert not is_public(address)
    net.names["good.example"] = [PUBLIC, address]
    assert refusal("https://good.example/a.wav").code == "url_not_allowed"
    assert net.connected == []


@pytest.mark.parametrize(
    "address",
    [PUBLIC, OTHER, "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "2001:4860:4860::8888"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost", "127.1", "0177.0.0.1"])
def test_names_of_this_machine_are_resolved_and_refused(host: str) -> None:
    """By the system's own resolver."""
    assert refusal(f"https://{host}/a.wav").code in ("url_not_allowed", "url_failed")


@pytest.mark.parametrize("path", ["127.0.0.1/a", "inside.example/a", "[::ffff:10.0.0.1]/a"])
def test_redirects_into_private_networks_are_refused(net: Net, path: str) -> None:
    net.names |= {"inside.example": ["10.0.0.7"], "127.0.0.1": ["127.0.0.1"], "::ffff:10.0.0.1": ["::ffff:10.0.0.1"]}
    assert refusal(f"https://good.example/to/https:%2F%2F{path}").code == "url_not_allowed"
    assert net.connected == [PUBLIC]


def test_redirects_to_other_schemes_are_refused(net: Net) -> None:
    assert refusal("https://good.example/to/http:%2F%2Fgood.example%2Fa.wav").code == "url_not_allowed"
    assert refusal("https://good.example/to/file:%2F%2F%2Fetc%2Fpasswd").code == "url_not_allowed"


def test_a_name_that_changes_its_address_is_refused(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second resolution, after a redirect, is checked as the first was."""
    addresses = iter([[PUBLIC], ["127.0.0.1"]])

    async def resolve(host: str, port: int) -> list[str]:
        return next(addresses)

    monkeypatch.setattr(fetch, "resolve", resolve)
    assert refusal("https://good.example/to/%2Fa.wav").code == "url_not_allowed"
    assert net.connected == [PUBLIC]


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("https://good.example/nothing", 400, "url_failed"),
        ("https://good.example/to//to//to//to//a.wav", 400, "url_failed"),
        ("https://good.example/big", 413, "body_too_large"),
        ("https://good.example/endless", 413, "body_too_large"),
        ("https://good.example/slow", 400, "url_failed"),
        ("https://good.example/cut", 400, "url_failed"),
        ("https://good.example/junk", 400, "url_failed"),
        ("https://good.example/gzip", 400, "url_failed"),
        ("https://bad.example/a.wav", 400, "url_failed"),
        ("https://unknown.example/a.wav", 400, "url_failed"),
    ],
)
def test_answers_that_cannot_be_used(net: Net, url: str, status: int, code: str) -> None:
    """bad.example has no certificate of its own."""
    error = refusal(url, fetch_timeout_s=1.0)
    assert (error.status, error.code) == (status, code)


def test_a_chat_request_may_name_a_url(net: Net, tiny: Transcriber) -> None:
    """Through the whole server, which reaches nothing but the fetched host."""
    with running(Settings(model=("tiny",), fetch_urls=True), lambda name: tiny) as server:
        server.app.state.fetcher.tls = client_context()
        data = f"data:;base64,{base64.b64encode(WAV).decode()}"
        texts = [
            server.post(
                "/v1/chat/completions",
                json={"messages": [{"role": "user", "content": [{"audio_url": {"url": url}}]}], "decode": "greedy"},
            ).json()["choices"][0]["message"]["content"]
            for url in ("https://good.example/a.wav", data)
        ]
    assert texts[0] == texts[1] != ""
