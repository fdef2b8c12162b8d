"""The page at `/`: static files of `page/`, under a strict Content-Security-Policy.

Files other than index.html have the digest of all files in their URL, so browsers may keep them for good, and files of
two versions never meet.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

FOLDER = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
REVALIDATE = "no-cache"
KEEP = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


def is_page(path: str) -> bool:
    """Whether the path is of the page, which needs no API key."""
    return path in ("/", "/favicon.ico") or path.startswith("/page/")


@dataclass(frozen=True)
class Page:
    """Files by name, the same by gzip, and the digest of all of them."""

    files: dict[str, bytes]
    packed: dict[str, bytes]
    version: str


@cache
def page() -> Page:
    """The files as they are sent."""
    files = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}
    version = hashlib.sha256(b"".join(name.encode() + b"\0" + data for name, data in files.items())).hexdigest()[:16]
    files["index.html"] = files["index.html"].replace(b'="page/', f'="page/{version}/'.encode())
    return Page(files, {name: gzip.compress(data, mtime=0) for name, data in files.items()}, version)


@router.api_route("/", methods=["GET", "HEAD"])
def index(request: Request) -> Response:
    return _reply(request, "index.html", REVALIDATE)


@router.api_route("/page/{version}/{name}", methods=["GET", "HEAD"])
def file(request: Request, version: str, name: str) -> Response:
    """A file by name; one of another version is not kept by browsers."""
    return _reply(request, name, KEEP if version == page().version else REVALIDATE)


@router.api_route("/favicon.ico", methods=["GET", "HEAD"])
def icon(request: Request) -> Response:
    """Browsers ask for it on pages that name no icon, such as JSON replies."""
    return _reply(request, "icon.svg", REVALIDATE)


def _reply(request: Request, name: str, caching: str) -> Response:
    if name not in page().files:
        raise HTTPException(404, f"the page has no file {name!r:.100}")
    is_packed = "gzip" in request.headers.get("accept-encoding", "")
    data = page().packed[name] if is_packed else page().files[name]
    tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    headers = {**HEADERS, "Cache-Control": caching, "ETag": tag, "Vary": "Accept-Encoding"}
    headers |= {"Content-Encoding": "gzip"} if is_packed else {}
    if _has_tag(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=TYPES[Path(name).suffix])


def _has_tag(header: str, tag: str) -> bool:
    tags = {one.strip().removeprefix("W/") for one in header.split(",")}
    return tag in tags or "*" in tags
