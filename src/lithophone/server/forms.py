"""Bodies of requests: multipart forms and JSON, kept in memory and bounded.

Clients differ: lists come as `name[]`, booleans as texts, unset values as empty texts, the file first or last.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from lithophone.server.errors import ApiError
from lithophone.server.settings import MEGABYTE

MAX_PARTS = 1000
PART_SIZE = 16 * MEGABYTE
"""Largest field that is no file: a voice as a data URL has some megabytes."""

FILE_LIMIT = 1 << 62


class _InMemoryParser(MultiPartParser):
    """Nothing of users' audio is written to a disk."""

    spool_max_size = FILE_LIMIT

    async def parse(self) -> FormData:
        """Raises MultiPartException for a file that ends without a boundary, which the parent passes over."""
        form = await super().parse()
        whole = sum(isinstance(value, UploadFile) for _, value in form.multi_items())
        if whole != len(self._files_to_close_on_error):  # all that were begun
            for file in self._files_to_close_on_error:
                file.close()
            raise MultiPartException("a file ends without the boundary")
        return form


@dataclass(frozen=True)
class Upload:
    """A file of a form."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Form:
    """Fields by name without `[]`; every value of a field in order, without empty texts."""

    fields: dict[str, list[str]]
    files: dict[str, list[Upload]]

    def file(self, name: str) -> Upload:
        """The one file of that name. Raises ApiError."""
        found = self.files.get(name, [])
        if len(found) != 1:
            what = "is missing" if not found else f"was sent {len(found)} times"
            raise ApiError(
                400, f"{name} {what}: send one recording as multipart/form-data", code="missing_file", param=name
            )
        if not found[0].data:
            raise ApiError(400, f"{found[0].name} is empty (0 bytes): send a recording", code="empty_file", param=name)
        return found[0]


async def read_body(request: Request, max_mb: float) -> bytes:
    """The whole body; ApiError 413 beyond the limit, before or while it is read."""
    data = bytearray()
    async for part in _limited(request, max_mb):
        data += part
    return bytes(data)


async def read_json(request: Request, max_mb: float, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """A body that is one JSON object; `default` for an empty one. Raises ApiError."""
    body = await read_body(request, max_mb)
    if not body and default is not None:
        return dict(default)
    try:
        found = json.loads(body)
        if rb"\ud" in body.lower():  # half of a surrogate pair is no text, and could not be sent back
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        why = "half of a surrogate pair" if isinstance(error, UnicodeEncodeError) else error
        raise ApiError(400, f"the body is no JSON: {why}", code="invalid_json") from error
    if not isinstance(found, dict):
        raise ApiError(400, f"the body is a JSON {type(found).__name__}: send an object", code="invalid_json")
    return found


async def read_form(request: Request, max_mb: float) -> Form:
    """A multipart or URL-encoded form. Raises ApiError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    stream = _limited(request, max_mb)
    try:
        if kind == "multipart/form-data":
            parser = _InMemoryParser(
                request.headers, stream, max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=PART_SIZE
            )
            items = (await parser.parse()).multi_items()
        elif kind == "application/x-www-form-urlencoded":
            items = (await FormParser(request.headers, stream).parse()).multi_items()
        else:
            raise ApiError(
                415,
                f"the body is {kind or 'of no stated type'}: send multipart/form-data",
                code="unsupported_media_type",
            )
    except (MultiPartException, KeyError, ValueError) as error:
        message = getattr(error, "message", str(error))
        raise ApiError(400, f"the form cannot be read: {message}", code="invalid_form") from error
    return await _form(items)


async def _form(items: list[tuple[str, UploadFile | str]]) -> Form:
    form = Form({}, {})
    for name, value in items:
        name = name.removesuffix("[]")
        if isinstance(value, UploadFile):
            form.files.setdefault(name, []).append(Upload(value.filename or "the upload", _content(value)))
            await value.close()
        elif value != "":
            form.fields.setdefault(name, []).append(value)
    return form


def _content(upload: UploadFile) -> bytes:
    """Without a copy, which `read` makes: a film has hundreds of megabytes."""
    in_memory: Any = upload.file
    content: bytes = in_memory._file.getvalue()
    return content


async def _limited(request: Request, max_mb: float) -> AsyncGenerator[bytes, None]:
    limit = max_mb * MEGABYTE
    stated = request.headers.get("content-length", "")
    too_large = ApiError(
        413, f"the body is larger than {max_mb:g} MB: send less, or compressed audio", code="body_too_large"
    )
    if stated.isdecimal() and int(stated) > limit:
        raise too_large
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        yield part


def decoded_base64(text: Any, param: str) -> bytes:
    """Bytes of a base64 text. Raises ApiError."""
    try:
        if not isinstance(text, str):
            raise ValueError(f"a {type(text).__name__} is no text")
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"{param} is no base64: {error}", code="invalid_base64", param=param) from error
