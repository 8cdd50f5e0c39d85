"""The table of operations: every route is one of its rows, and no row's handler is reached without its right."""

from __future__ import annotations

import dataclasses
import inspect
import re
import uuid
from typing import Any, get_args

import pytest

from redisq.gateway import operation, routes
from redisq.gateway.operation import Operation, Right
from redisq.gateway.table import OPERATIONS
from redisq.tokens import OPS
from tests.gateway.conftest import QUEUE, Gateway, MakeGateway
from tests.unit.test_layers import SOURCES, name_of

#: What stands in the place of what a token has to allow.
OTHERS = {"metrics", "secret", "none"}
rows = pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: f"{row.method} {row.path}")


def call(gateway: Gateway, row: Operation, token: str | None, query: str = "") -> Any:
    path = row.path.replace("{queue}", QUEUE).replace("{id}", str(uuid.uuid4())).replace("{chapter}", "http")
    kind = next(iter(row.body), None)
    how = {"content": b"{}", "headers": {"Content-Type": kind}} if kind else {}
    return gateway.call(row.method.upper(), path + query, token=token, **how)


def test_every_route_is_a_row(gateway: Gateway) -> None:
    made = [route for route in gateway.app.routes if not route.path.startswith("/_ui")]
    assert {(*route.methods - {"HEAD"}, route.path_format) for route in made} == {
        (row.method.upper(), row.path) for row in OPERATIONS
    }
    assert len(made) == len(OPERATIONS)
    assert {type(route.app) for route in made} == {operation._Endpoint}, "each is made of its row"


def test_every_route_of_a_module_is_in_the_table() -> None:
    """Handlers take what the guard admitted, so that none is put on a path in another way."""
    in_rows = {row.handler for row in OPERATIONS}
    for name, module in inspect.getmembers(routes, inspect.ismodule):
        handlers = {
            value
            for word, value in vars(module).items()
            if not word.startswith("_") and inspect.iscoroutinefunction(value) and value.__module__ == module.__name__
        }
        assert handlers <= in_rows, name


def test_requests_are_admitted_in_one_place() -> None:
    made = {name_of(source) for source in SOURCES if re.search(r"\bAdmitted\((?!Request\))", source.read_text("utf-8"))}
    assert made == {"gateway/operation.py"}


@rows
def test_a_row_states_its_right(row: Operation) -> None:
    assert row.right in get_args(Right)
    assert set(get_args(Right)) == OPS | OTHERS
    right = inspect.signature(Operation).parameters["right"]
    assert right.default is inspect.Parameter.empty, "it has no default"


@rows
def test_without_its_right_a_row_refuses(gateway: Gateway, row: Operation) -> None:
    bare, lacking = call(gateway, row, None), call(gateway, row, gateway.token(OPS - {row.op}))
    elsewhere = call(gateway, row, gateway.token(queues=["elsewhere"]))
    if row.op is None:
        assert row.right in ("secret", "none")
        assert {answer.status_code for answer in (bare, lacking, elsewhere)} == {401 if row.right == "secret" else 200}
    else:
        assert (bare.status_code, bare.json()["error"]["code"]) == (401, "invalid_token")
        for answer in (lacking, elsewhere):
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


@rows
def test_no_handler_runs_before_the_guard(make_gateway: MakeGateway, row: Operation) -> None:
    ran: list[str] = []

    async def handler(request: operation.Admitted) -> Any:
        ran.append(request.grant.app)
        raise AssertionError

    gateway = make_gateway()
    (route,) = (route for route in gateway.app.routes if getattr(route.app, "_operation", None) is row)
    route.app._operation = dataclasses.replace(row, handler=handler)
    call(gateway, row, None)
    call(gateway, row, gateway.token(OPS - {row.op}))
    assert bool(ran) == (row.op is None)
    if row.op is not None:
        call(gateway, row, gateway.token([row.op]))
        assert len(ran) == 1, "and it is what runs with it"


@rows
def test_no_row_takes_a_parameter_that_it_does_not_know(gateway: Gateway, row: Operation) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    answer = call(gateway, row, "" if row.op else None, "?nope=1")
    assert answer.status_code == 400
    assert "The query has a parameter that is not known here." in answer.text
