"""The document: as JSON, and as a page that needs no script and nothing from outside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape
from starlette.responses import Response

from redisq.gateway.document.build import document
from redisq.gateway.document.styled import HTML, Page
from redisq.gateway.operation import Admitted, Answer, Operation
from redisq.gateway.requests.bodies import JSON, NDJSON


async def show_document(request: Admitted) -> Response:
    """Return the document."""
    gateway = request.gateway
    return Response(_written(gateway.operations, gateway.context.options.root_path), media_type=JSON)


async def show_page(request: Admitted) -> Response:
    """Show the document."""
    gateway = request.gateway
    return _shown(gateway.operations, gateway.context.options.root_path).answer()


def read_all(operations: Sequence[Operation], root_path: str) -> None:
    """Make the document and its page now, as their files may be missing later."""
    _written(operations, root_path)
    _shown(operations, root_path)


@cache
def _written(operations: Sequence[Operation], root_path: str) -> bytes:
    return json.dumps(document(operations, root_path), separators=(",", ":")).encode()


@cache
def _shown(operations: Sequence[Operation], root_path: str) -> Page:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"sample": _sample, "marked": _marked, "form": _form}
    template = environment.from_string(files("redisq.gateway.document").joinpath("docs.html").read_text("utf-8"))
    return Page(lambda style: template.render(document=document(operations, root_path), root=root_path, style=style))


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


OPERATIONS = (
    Operation(
        "get", "/_openapi.json", "none", show_document, "getDocument", "This document", "",
        [Answer(200, "In OpenAPI 3.1.", "Document")],
    ),
    Operation(
        "get", "/_docs", "none", show_page, "getPage", "This document as a page", "",
        [Answer(200, "The page.", "Text", HTML)],
    ),
)  # fmt: skip
