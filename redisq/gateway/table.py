"""All operations of the API. Of these rows the routes are made, the checks of rights, and the document."""

from __future__ import annotations

from typing import Any

from redisq.gateway.document import build, guide, pages
from redisq.gateway.operation import Operation
from redisq.gateway.routes import claims, health, messages, queues, token

OPERATIONS: tuple[Operation, ...] = (
    *messages.OPERATIONS,
    *queues.OPERATIONS,
    *claims.OPERATIONS,
    *token.OPERATIONS,
    *health.OPERATIONS,
    *pages.OPERATIONS,
    *guide.OPERATIONS,
)


def document(root_path: str = "") -> dict[str, Any]:
    """Make the OpenAPI document of a gateway that stands under a path."""
    return build.document(OPERATIONS, root_path)


def read_all(root_path: str) -> None:
    """Make all pages now, as their files may be missing later."""
    guide.read_all(root_path)
    pages.read_all(OPERATIONS, root_path)
