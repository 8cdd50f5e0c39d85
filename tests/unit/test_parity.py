"""`RedisQ` and `AsyncRedisQ` are one client: same methods, same arguments, same types."""

from __future__ import annotations

import inspect

import pytest

from redisq import AsyncRedisQ, RedisQ

METHODS = sorted(name for name, _ in inspect.getmembers(RedisQ, inspect.isfunction) if not name.startswith("_"))
TWINS = {"__enter__": "__aenter__", "__exit__": "__aexit__"}


def test_both_have_the_same_public_names() -> None:
    ours, theirs = ({name for name in vars(kind) if not name.startswith("_")} for kind in (RedisQ, AsyncRedisQ))
    assert ours == theirs
    assert {"queue_message", "queue_messages", "get_message", "delete_message", "close"} <= set(METHODS)


@pytest.mark.parametrize("name", [*METHODS, "__init__", "__repr__", "__enter__", "__exit__"])
def test_both_take_and_give_the_same(name: str) -> None:
    ours, theirs = getattr(RedisQ, name), getattr(AsyncRedisQ, TWINS.get(name, name))
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert inspect.get_annotations(ours) == inspect.get_annotations(theirs)


@pytest.mark.parametrize("name", [*METHODS, "__enter__", "__exit__"])
def test_one_is_called_and_the_other_awaited(name: str) -> None:
    assert not inspect.iscoroutinefunction(getattr(RedisQ, name))
    assert inspect.iscoroutinefunction(getattr(AsyncRedisQ, TWINS.get(name, name)))


@pytest.mark.parametrize("kind", [RedisQ, AsyncRedisQ])
@pytest.mark.parametrize("name", METHODS)
def test_each_method_tells_what_it_does(kind: type, name: str) -> None:
    assert inspect.getdoc(getattr(kind, name))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "close"])
def test_each_operation_takes_a_token(name: str) -> None:
    assert inspect.signature(getattr(RedisQ, name)).parameters["token"].default is None
