"""Recordings fetched from https URLs: off by default, and never from this machine or its network.

The host is resolved once, every address is checked, and the connection is made to a checked address; again for every
redirect.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, urljoin, urlsplit

from lithophone.server.errors import ApiError
from lithophone.server.http_client import Answer, Outgoing, OutgoingError, TooLargeError, exchange
from lithophone.server.settings import MEGABYTE, Settings

MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
MAX_URL = 8192

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64 = ipaddress.ip_network("64:ff9b::/96")
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
    )
)
"""Networks that some releases of Python take for global."""


@dataclass(frozen=True)
class Place:
    """A checked URL, without what it fetches."""

    host: str
    port: int
    target: str


@dataclass
class Fetcher:
    """Fetches for requests, a bounded number at once."""

    settings: Settings

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.settings.max_running)

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    async def fetch(self, url: str, param: str) -> bytes:
        """The body of the answer. Raises ApiError 400, or 413 where it is larger than an upload may be."""
        if not self.settings.fetch_urls:
            raise _refused("this server fetches no URLs: send the recording as a data: URL", param)
        async with self._places:
            try:
                return await asyncio.wait_for(self._followed(url, param), self.settings.fetch_timeout_s)
            except asyncio.TimeoutError:
                limit_s = self.settings.fetch_timeout_s
                raise _failed(f"the URL was not fetched within {limit_s:g} s", param) from None

    async def _followed(self, url: str, param: str) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._answer(self._checked(url, param), param)
            if answer.status in REDIRECTS and "location" in answer.headers:
                url = _joined(url, answer.headers["location"])
            elif answer.status == 200:
                return answer.body
            else:
                raise _failed(f"the URL was answered with status {answer.status}", param)
        raise _failed(f"the URL redirects more than {MAX_REDIRECTS} times", param)

    async def _answer(self, place: Place, param: str) -> Answer:
        failure: OutgoingError | None = None
        for address in await self._addresses(place, param):
            asked = Outgoing("GET", place.host, place.port, address, place.target, self.tls, (("accept", "*/*"),))
            try:
                answer = await exchange(asked, round(self.settings.max_upload_mb * MEGABYTE))
            except TooLargeError as error:
                limit = f"{self.settings.max_upload_mb:g} MB"
                raise ApiError(413, f"the URL has more than {limit}", code="body_too_large", param=param) from error
            except OutgoingError as error:
                failure = error
                continue
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise _failed("the URL is answered in a compressed form that was not asked for", param)
            return answer
        raise _failed(f"the URL cannot be fetched: {failure}", param) from failure

    def _checked(self, url: str, param: str) -> Place:
        """The parts of an https URL of an allowed host. Raises ApiError."""
        place = _place(url, param)
        allowed = self.settings.fetch_domains
        if allowed and not any(_is_of(place.host, domain) for domain in allowed):
            raise _refused("the URL's host is not among those that this server fetches from", param)
        return place

    async def _addresses(self, place: Place, param: str) -> list[str]:
        """Addresses of the host; all must be public, so that none is chosen by chance. Raises ApiError."""
        try:
            found = await resolve(place.host, place.port)
        except (OSError, UnicodeError) as error:
            raise _failed("the URL's host has no address", param) from error
        if not found or not all(is_public(address) for address in found):
            raise _refused("the URL's host is not on the public internet", param)
        return found


async def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host, as the system finds them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Whether an address, and every IPv4 address embedded in it, is of the public internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = _embedded(ip)
        if embedded:
            return all(is_public(str(one)) for one in embedded)
        if ip not in GLOBAL_UNICAST or ip.scope_id:
            return False
    special = any(ip in network for network in SPECIAL if network.version == ip.version)
    return ip.is_global and not (special or ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _embedded(ip: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses that a gateway would take the packets to: mapped, 6to4, NAT64."""
    nat64 = ipaddress.IPv4Address(ip.packed[-4:]) if ip in NAT64 else None
    return [one for one in (ip.ipv4_mapped, ip.sixtofour, nat64) if one is not None]


def _place(url: str, param: str) -> Place:
    if len(url) > MAX_URL or re.search(r"[\x00-\x20\x7f\\]", url):
        raise _refused(f"the URL has spaces, control characters, backslashes or over {MAX_URL} characters", param)
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode("ascii"), parts.port
    except (ValueError, UnicodeError) as error:
        raise _refused("the URL cannot be read", param) from error
    if parts.scheme != "https":
        raise _refused("URLs are fetched by https only", param)
    if "@" in parts.netloc:
        raise _refused("the URL must have no user and password", param)
    if not re.fullmatch(r"[a-z0-9_.-]+|[0-9a-f:.]+", host):
        raise _refused("the URL has no host that can be resolved", param)
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (f"?{_quoted(parts.query)}" if parts.query else "")
    return Place(host.rstrip("."), port or 443, target)


def _quoted(query: str) -> str:
    return quote(query, safe="/%:@!$&'()*+,;=~?")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # refused as a URL that cannot be read


def _is_of(host: str, domain: str) -> bool:
    """`example.com` is that host, `*.example.com` every host below it."""
    domain = domain.lower()
    return host.endswith(domain[1:]) if domain.startswith("*.") else host == domain


def _refused(message: str, param: str) -> ApiError:
    return ApiError(400, message, code="url_not_allowed", param=param)


def _failed(message: str, param: str) -> ApiError:
    return ApiError(400, message, code="url_failed", param=param)
