"""A key that holds another program's value: every script refuses its call, and has changed nothing."""

from __future__ import annotations

import pytest

from redisq import scripts
from redisq.errors import Unavailable
from tests.scripts.cases import CASES, everything
from tests.scripts.conftest import Orders


def test_there_is_a_case_for_each_script() -> None:
    assert set(CASES) == scripts_there_are() - {"permitted"}  # which reads and writes no key


def scripts_there_are() -> set[str]:
    from importlib.resources import files

    return {path.name.removesuffix(".lua") for path in files(scripts).iterdir() if path.name.endswith(".lua")}


@pytest.mark.parametrize("script", sorted(CASES.keys() - {"survey"}))  # which says what there is instead
def test_a_call_leaves_no_half_written_state(orders: Orders, script: str) -> None:
    if script == "info" and orders.raw.server.kind == "fakeredis":
        pytest.skip("fakeredis knows no INFO")
    call = CASES[script](orders, everything(orders))
    aside = f"{orders.raw.settings.namespace}:aside"
    for name, key in zip(call.script.keys, call.keys, strict=True):
        there = orders.redis.exists(key)
        if there:
            orders.redis.rename(key, aside)
        orders.redis.set(key, "another program's")  # no key of a queue is a string
        with orders.unchanged(), pytest.raises(Unavailable, match="holds a value that is not redisq's"):
            pytest.fail(f"{name} is not checked: {orders.run(call)}")
        orders.redis.delete(key)
        if there:
            orders.redis.rename(aside, key)
    orders.run(call)  # it was the keys, not the call
