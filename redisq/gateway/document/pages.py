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
from redisq.gateway.requests.bodies import JSON, NDJSON
from redisq.gateway.requests.queries import query


def routes(root_path: str) -> list[Route]:
    """Return the routes, of a gateway that stands under a path."""

    async def show_document(request: Request) -> Response:
        """Return the document."""
        query(request)
        return Response(_written(root_path), media_type="application/json")

    async def show_page(request: Request) -> Response:
        """Show the document."""
        query(request)
        page, policy = _shown(root_path)
        return Response(page, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})

    return [
        Route("/_openapi.json", show_document, methods=["GET"]),
        Route("/_docs", show_page, methods=["GET"]),
    ]


@cache
def _written(root_path: str) -> bytes:
    return json.dumps(document(root_path), separators=(",", ":")).encode()


def read_all(root_path: str) -> None:
    """Make the document and its page now, as their files may be missing later."""
    _written(root_path)
    _shown(root_path)


@cache
def _shown(root_path: str) -> tuple[bytes, str]:
    """Make the page, and the policy that lets its own style sheet in and nothing else."""
    import jinja2

    folder = files("redisq.gateway.document")
    style = folder.joinpath("docs.css").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"sample": _sample, "marked": _marked, "form": _form}
    template = environment.from_string(folder.joinpath("docs.html").read_text("utf-8"))
    page = template.render(document=document(root_path), root=root_path, style=style)
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
    """Return in words what a parameter's schema says."""
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


def _sample(value: Any, kind: str = JSON) -> str:
    """Write an example for people, as a body of its type is written."""
    if kind == NDJSON:
        return "\n".join(json.dumps(line, ensure_ascii=False) for line in value)
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
