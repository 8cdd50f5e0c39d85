"""The routes of the document: as JSON, and as a page that needs no script and nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redisq.gateway.document.build import document
from redisq.gateway.queries import query


def routes() -> list[Route]:
    """Give the routes."""
    return [
        Route("/_openapi.json", _document, methods=["GET"]),
        Route("/_docs", _page, methods=["GET"]),
    ]


def read_all() -> None:
    """Make the document and its page now, as their files may be missing later."""
    _written()
    _shown()


async def _document(request: Request) -> Response:
    """Give the document."""
    query(request)
    return Response(_written(), media_type="application/json")


async def _page(request: Request) -> Response:
    """Show the document."""
    query(request)
    page, policy = _shown()
    return Response(page, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


@cache
def _written() -> bytes:
    return json.dumps(document(), separators=(",", ":")).encode()


@cache
def _shown() -> tuple[bytes, str]:
    """Make the page, and the policy that lets its own style sheet in and nothing else."""
    import jinja2

    folder = files("redisq.gateway.document")
    style = folder.joinpath("docs.css").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"sample": _sample, "marked": _marked, "form": _form}
    template = environment.from_string(folder.joinpath("docs.html").read_text("utf-8"))
    page = template.render(document=document(), style=style)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.encode(), policy


def _marked(text: str) -> Markup:
    """Set what stands between backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)
    )


def _form(schema: dict[str, Any]) -> str:
    """Say in words what a parameter's schema says."""
    told: str = {"string": "text", "integer": "whole number"}.get(schema["type"], schema["type"])
    if "enum" in schema:
        told = "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if "minimum" in schema:
        told += f" from {schema['minimum']:,} to {schema['maximum']:,}"
    if "exclusiveMinimum" in schema:
        told += f" above {schema['exclusiveMinimum']:,}, to {schema['maximum']:,}"
    if "pattern" in schema:
        told += f", `{schema['pattern']}`"
    if "default" in schema:
        told += f"; {schema['default']} if left out"
    return {"date-time": "time", "uuid": "UUID"}.get(schema.get("format", ""), told)


def _sample(value: Any) -> str:
    """Write an example for people."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
