"""Tasks of the Django project."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tests.integrations.site import HOME

task = import_module(HOME).task


class Declined(Exception):
    """An exception of the project's own."""


@task
def add(left: int, right: int = 0) -> int:
    return left + right


@task
async def add_later(left: int, right: int) -> int:
    return left + right


@task(takes_context=True)
def second_time(context: Any) -> dict[str, Any]:
    if context.attempt < 2:
        raise Declined("not yet")
    return {"attempt": context.attempt, "id": context.task_result.id}


@task
def fail() -> None:
    raise ValueError("out of stock")


@task
def odd_result() -> Any:
    return object()


@task
def connected() -> bool:
    """Say whether a connection was open already, and open one."""
    from django.db import connection

    open_before = connection.connection is not None
    connection.ensure_connection()
    return open_before


def no_task() -> str:
    return "called"
