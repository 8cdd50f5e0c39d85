"""`RedisQ` and `AsyncRedisQ` are one client: same methods, same arguments, same types."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from redisq import AsyncRedisQ, InvalidArgument, Message, RedisQ, Settings
from redisq.async_client import acting_for

METHODS = sorted(name for name, _ in inspect.getmembers(RedisQ, inspect.isfunction) if not name.startswith("_"))
#: What is iterated over, not called or awaited.
ITERATED = {"wait_for": (Iterator[Message], AsyncIterator[Message])}
TWINS = {"__enter__": "__aenter__", "__exit__": "__aexit__"}


def test_both_have_the_same_public_names() -> None:
    ours, theirs = ({name for name in vars(kind) if not name.startswith("_")} for kind in (RedisQ, AsyncRedisQ))
    assert ours == theirs
    assert {"queue_message", "queue_messages", "get_message", "delete_message", "close"} <= set(METHODS)


@pytest.mark.parametrize("name", [*METHODS, "__init__", "__repr__", "__enter__", "__exit__"])
def test_both_take_and_give_the_same(name: str) -> None:
    ours, theirs = getattr(RedisQ, name), getattr(AsyncRedisQ, TWINS.get(name, name))
    given = [inspect.get_annotations(method, eval_str=name in ITERATED) for method in (ours, theirs)]
    if name in ITERATED:
        assert tuple(annotations.pop("return") for annotations in given) == ITERATED[name]
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    assert given[0] == given[1]


@pytest.mark.parametrize("name", [*METHODS, "__enter__", "__exit__"])
def test_one_is_called_and_the_other_awaited(name: str) -> None:
    assert not inspect.iscoroutinefunction(getattr(RedisQ, name))
    if name not in {*ITERATED, "within"}:
        assert inspect.iscoroutinefunction(getattr(AsyncRedisQ, TWINS.get(name, name)))


@pytest.mark.parametrize("kind", [RedisQ, AsyncRedisQ])
@pytest.mark.parametrize("name", METHODS)
def test_each_method_tells_what_it_does(kind: type, name: str) -> None:
    assert inspect.getdoc(getattr(kind, name))


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("close", "within")])
def test_each_operation_takes_a_token(name: str) -> None:
    assert inspect.signature(getattr(RedisQ, name)).parameters["token"].default is None


@pytest.mark.parametrize("kind", [RedisQ, AsyncRedisQ])
@pytest.mark.parametrize("pass_on", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_that_is_passed_on_says_what_to_do_instead(kind: Any, pass_on: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="make one in each process"):
        pass_on(kind(settings=Settings(url="redis://localhost", auth="none")))


def test_a_client_that_acts_for_another_application_shares_all_but_its_name() -> None:
    class Own(AsyncRedisQ):
        pass

    mq = Own(settings=Settings(url="redis://localhost", auth="none"))
    other = acting_for(mq, "shop")
    assert type(other) is Own
    assert (other._caller.application, mq._caller.application) == ("shop", "")
    assert vars(other).keys() == vars(mq).keys()
    assert all(vars(other)[name] is value for name, value in vars(mq).items() if name != "_caller")


@pytest.mark.parametrize("kind", [RedisQ, AsyncRedisQ])
def test_a_client_within_another_deadline_shares_all_but_that(kind: Any) -> None:
    class Own(kind):  # type: ignore[misc]
        pass

    mq = Own(settings=Settings(url="redis://localhost", auth="none"))
    other = mq.within(0.5)
    assert type(other) is Own
    assert (other.settings.retry_deadline, mq.settings.retry_deadline) == (0.5, 10)
    assert all(vars(other)[name] is value for name, value in vars(mq).items() if name != "_caller")
    assert other._caller._known is mq._caller._known
    assert (
        other.within(2).settings.retry_deadline == kind("redis://localhost", retry_deadline=2).settings.retry_deadline
    )


@pytest.mark.parametrize("kind", [RedisQ, AsyncRedisQ])
@pytest.mark.parametrize("seconds", ["5", True, None, -1, 3601, float("nan"), float("inf"), [5]], ids=repr)
def test_what_is_no_deadline_is_refused(kind: Any, seconds: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"retry_deadline= and within\(\) take seconds, from 0 to 3,600"):
        kind("redis://localhost").within(seconds)
    if seconds is not None:
        with pytest.raises(InvalidArgument, match="retry_deadline="):
            kind("redis://localhost", retry_deadline=seconds)
