"""Recordings at URLs, by fsspec: `s3://`, `gs://`, `https://`, ... Imports fsspec on first use."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from lithophone.batch.recording import Recording
from lithophone.errors import FetchError, OptionError

FETCHES = 4
"""Files that are fetched at once."""

PACKAGES = {
    "http": "'lithophone[urls]'", "https": "'lithophone[urls]'", "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs",
    "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
}  # fmt: skip
"""Packages of file systems; fsspec names others."""

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")


def is_url(text: str) -> bool:
    return _URL.match(text) is not None


def check_protocols(urls: Iterable[str]) -> None:
    """OptionError for a protocol that cannot be read: unknown, or without its package."""
    for url in {urlsplit(url).scheme.lower(): url for url in urls}.values():
        _filesystem(url)


def read(url: str) -> bytes:
    """Content of a small file. Raises FetchError, OptionError."""
    system, path = _filesystem(url)
    with _fetching(url):
        return bytes(system.cat_file(path))


def fetch(url: str, folder: Path) -> Path:
    """A copy in `folder` with the suffix of the URL. Raises FetchError."""
    system, path = _filesystem(url)
    suffix = PurePosixPath(urlsplit(url).path).suffix
    with tempfile.NamedTemporaryFile(dir=folder, suffix=suffix, delete=False) as file:
        copy = Path(file.name)
    with _fetching(url):
        system.get_file(path, str(copy))
    return copy


def found(url: str, suffixes: frozenset[str]) -> list[str]:
    """URLs that match a pattern, or have one of `suffixes` below a folder, by name; else the URL itself.

    Raises FetchError where there is none.
    """
    system, path = _filesystem(url)
    with _fetching(url):
        if any(sign in path for sign in "*[") or ("?" in path and not urlsplit(url).scheme.startswith("http")):
            paths = sorted(system.glob(path))
        elif not urlsplit(url).scheme.startswith("http") and system.isdir(path):
            paths = sorted(one for one in system.find(path) if PurePosixPath(one).suffix.lower() in suffixes)
        else:
            return [url]
    if not paths:
        raise FetchError(f"{url} names no recording: check the pattern or folder")
    return [str(system.unstrip_protocol(one)) for one in paths]


def joined(base: str, name: str) -> str:
    """A path in a manifest at the URL `base`: absolute URLs stay, others are beside it."""
    return name if is_url(name) else f"{base.rpartition('/')[0]}/{name}"


def path_of(url: str) -> PurePosixPath:
    """The path of a URL with its host or bucket, without query."""
    parts = urlsplit(url)
    return PurePosixPath(parts.netloc.rpartition("@")[2], unquote(parts.path).lstrip("/"))


def _filesystem(url: str) -> tuple[Any, str]:
    """File system of a URL, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise OptionError(f"{url} needs fsspec: pip install 'lithophone[urls]'") from error
    scheme = urlsplit(url).scheme.lower()
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(scheme)
        advice = f"pip install {package}" if package else str(error)
        raise OptionError(f"{url} cannot be read, a package for {scheme}:// is missing: {advice}") from error
    except ValueError as error:
        raise OptionError(f"{url} cannot be read ({error}): give a URL whose protocol fsspec knows") from error
    return system, str(path)


@contextlib.contextmanager
def _fetching(url: str) -> Iterator[None]:
    """Errors of any file system -> FetchError."""
    try:
        yield
    except Exception as error:  # file systems raise what their libraries do
        reason = str(error) or type(error).__name__
        raise FetchError(f"{url} cannot be fetched ({type(error).__name__}: {reason:.300})") from error


# --- ahead of the model

Fetched = tuple[Recording, "Path | FetchError"]
"""A recording, and its file on this machine."""


def fetched_ahead(chunks: Iterable[Sequence[Recording]]) -> Iterator[list[Fetched]]:
    """The same chunks with files on this machine; of each next one the URLs are fetched meanwhile.

    Copies are removed when the chunk behind is asked for.
    """
    with tempfile.TemporaryDirectory(prefix="lithophone-") as place:
        threads = ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch")
        try:
            waiting: deque[_Chunk] = deque()
            for number, recordings in enumerate(chunks):
                waiting.append(_Chunk(recordings, Path(place, str(number)), threads))
                if len(waiting) > 1:
                    yield from waiting.popleft().fetched()
            for chunk in waiting:
                yield from chunk.fetched()
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


class _Chunk:
    """Recordings whose URLs are being fetched to `folder`."""

    def __init__(self, recordings: Sequence[Recording], folder: Path, threads: ThreadPoolExecutor) -> None:
        folder.mkdir()
        self.folder = folder
        self._files: list[tuple[Recording, Future[Path] | None]] = [
            (one, threads.submit(fetch, one.audio, folder) if is_url(one.audio) else None) for one in recordings
        ]

    def fetched(self) -> Iterator[list[Fetched]]:
        """Once."""
        try:
            yield [(one, Path(one.audio) if file is None else _result(file)) for one, file in self._files]
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def _result(file: Future[Path]) -> Path | FetchError:
    try:
        return file.result()
    except FetchError as error:
        return error
