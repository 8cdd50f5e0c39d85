"""The description of the gateway's API: an OpenAPI document, and pages that show it and the guide.

Beside it: requests, routes, server.
"""

from __future__ import annotations

from starlette.routing import Route

from redisq.gateway.document import guide, pages


def routes(root_path: str) -> list[Route]:
    """Return the routes, of a gateway that stands under a path."""
    return [*guide.routes(root_path), *pages.routes(root_path)]


def read_all(root_path: str) -> None:
    """Make all pages now, as their files may be missing later."""
    guide.read_all(root_path)
    pages.read_all(root_path)
