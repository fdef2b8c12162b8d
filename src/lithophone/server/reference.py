"""The OpenAPI document as a page to read, at `/docs`: HTML without scripts, and without requests elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from lithophone.server.openapi import WITHOUT_EFFECT

router = APIRouter(include_in_schema=False)

STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
summary { cursor: pointer; padding: .4rem 0; }
code { font-family: ui-monospace, monospace; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8884; }
td:first-child { white-space: nowrap; }
"""
STYLE_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{STYLE_DIGEST}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.get("/docs")
async def reference(request: Request) -> HTMLResponse:
    return HTMLResponse(page(request.app.openapi()), headers=HEADERS)


def page(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    operations = "".join(
        _operation(method.upper(), path, described)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(info["title"])}: routes</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f'<p>{escape(info["description"])} For programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"{operations}</body></html>"
    )


def _operation(method: str, path: str, described: dict[str, Any]) -> str:
    bodies = described.get("requestBody", {}).get("content", {})
    tables = [_fields(f"{kind} fields", _of_schema(content["schema"])) for kind, content in bodies.items()]
    if described.get("parameters"):
        tables.insert(0, _fields("Parameters", _of_parameters(described["parameters"])))
    answers = "".join(
        f"<tr><td>{status}</td><td>{escape(one['description'])}</td>"
        f"<td>{escape(', '.join(one.get('content', {})))}</td></tr>"
        for status, one in described["responses"].items()
    )
    return (
        f"<details><summary><code>{method} {escape(path)}</code> {escape(described['summary'])}</summary>"
        f"{''.join(tables)}<table><caption>Answers</caption>{answers}</table></details>"
    )


def _of_schema(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, field in schema.get("properties", {}).items():
        yield name, field, name in schema.get("required", ())


def _of_parameters(parameters: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for one in parameters:
        yield one["name"], {"description": one.get("description", ""), **one["schema"]}, one.get("required", False)


def _fields(title: str, fields: Iterable[tuple[str, dict[str, Any], bool]]) -> str:
    """A table: those that are needed first, those without effect last."""
    ordered = sorted(fields, key=lambda one: (not one[2], one[1].get("description") == WITHOUT_EFFECT))
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(field))}{', needed' if needed else ''}</td>"
        f"<td>{escape(field.get('description', ''))}</td></tr>"
        for name, field, needed in ordered
    )
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"


def _kind(field: dict[str, Any]) -> str:
    """A type in words."""
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    kinds = field.get("type", "any")
    shown = " or ".join(kinds) if isinstance(kinds, list) else kinds
    return "file" if field.get("format") == "binary" else shown
