"""The bell of a queue, as its worker waits for it: when a wait ends, and what is left of it."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, cast

import pytest

from redisq.claims import doorbell
from redisq.claims.doorbell import Doorbell
from redisq.errors import Unavailable
from redisq.link.aio import AsyncLink
from redisq.settings import Settings
from redisq.store.call import Call
from redisq.store.keys import partition_keys

_LONG = 3600.0
_CLAIM = cast(Call[Any], None)


def on_a_loop(test: Callable[..., Any]) -> Callable[..., None]:
    """Run a test on an event loop of its own."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


class Line:
    """Stands in for a listener: answers when it is told to, and counts who gave up on it."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.begun = asyncio.Event()
        self.given_up = 0

    async def wait_with(self, timeout: float, call: object) -> Any:
        self.begun.set()
        try:
            return await self.answer
        except asyncio.CancelledError:
            self.given_up += 1
            raise


def a_bell() -> tuple[Doorbell, Line]:
    bell, line = Doorbell(AsyncLink(Settings()), partition_keys("test", "orders"), {}), Line()
    bell._listener = line  # type: ignore[assignment]
    return bell, line


@on_a_loop
async def test_what_a_claim_behind_the_bell_gave_is_returned():
    bell, line = a_bell()
    waiting = asyncio.create_task(bell.claims(_LONG, _CLAIM))
    await line.begun.wait()
    line.answer.set_result("claim")
    assert await waiting == "claim"
    assert not bell.is_listening


@on_a_loop
async def test_a_wait_with_a_claim_is_ended_at_once_however_often_that_is_asked():
    bell, line = a_bell()
    waiting = asyncio.create_task(bell.claims(_LONG, _CLAIM))
    await line.begun.wait()
    for _ in range(3):
        bell.hush()
        bell.hush()
        await asyncio.sleep(0)
    assert await waiting is None
    assert line.given_up == 1
    bell.hush()  # nobody waits


@on_a_loop
async def test_a_wait_with_a_claim_ends_by_our_own_clock_when_no_answer_comes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doorbell, "_OVERDUE", 0.0)
    bell, line = a_bell()
    assert await bell.claims(0.0, _CLAIM) is None
    assert line.given_up == 1


@on_a_loop
async def test_who_is_cancelled_in_a_wait_with_a_claim_is_cancelled():
    bell, line = a_bell()
    waiting = asyncio.create_task(bell.claims(_LONG, _CLAIM))
    await line.begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert line.given_up == 1


@on_a_loop
async def test_a_bell_that_cannot_be_heard_is_counted_until_it_is_heard():
    bell, line = a_bell()
    line.answer.set_exception(Unavailable("away"))
    assert await bell.claims(_LONG, _CLAIM) is None
    assert bell.broken == 1
    line.answer = asyncio.get_running_loop().create_future()
    line.answer.set_result("claim")
    assert await bell.claims(_LONG, _CLAIM) == "claim"
    assert bell.broken == 0
