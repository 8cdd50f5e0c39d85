"""What is thrown into a thread after its handler has returned, as by timeouts, costs neither it nor a message.

The exception comes by a trace function, before each line in turn that our own code runs once the handler has returned.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest

from redisq.model.delivery import Receipt
from redisq.runtime import loops
from redisq.worker import schedule
from redisq.worker.handlers import runners
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.held import Held
from redisq.worker.handlers.runners import Handler, Surroundings, ThreadRunner
from redisq.worker.handlers.verdicts import Verdict

FILES = {runners.__file__, loops.__file__, schedule.__file__}
LINES = range(40)


class Late(BaseException):
    """A timeout that comes too late."""


class Thrower:
    """Throws once, in the thread that arms it, after so many lines of ours. It has to be traced from its start."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._thread = 0
        self.thrown = False

    def arm(self) -> None:
        if not self._thread:
            self._thread = threading.get_ident()

    def trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line" and self._thread == threading.get_ident() and not self.thrown:
            self._left -= 1
            if self._left < 0:
                self.thrown = True
                raise Late
        return self.trace


class Counting:
    """What a runner reports to."""

    def __init__(self) -> None:
        self.ends: list[tuple[Held, Any]] = []
        self.returns: list[Held] = []
        self.all_back = asyncio.Event()
        self.expected = 2

    def ended(self, held: Held, verdict: bytes | Verdict) -> None:
        self.ends.append((held, verdict))

    def overran(self, held: Held, *, thread: object = None) -> None:
        raise AssertionError

    def returned(self, held: Held) -> None:
        self.returns.append(held)
        if len({*self.returns}) == self.expected:
            self.all_back.set()


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    before = threading.gettrace()
    yield
    threading.settrace(before)  # type: ignore[arg-type]


def held() -> Held:
    return Held("orders", Receipt(b"0" * 16, 1, "nonce"), datetime.now(UTC), 0.0, lambda: None)


@pytest.mark.parametrize("timeout", [None, 60])
@pytest.mark.parametrize("after", LINES)
def test_each_delivery_is_reported_once_and_the_thread_goes_on(after: int, timeout: float | None) -> None:
    asyncio.run(_each_delivery_is_reported_once_and_the_thread_goes_on(after, timeout))


async def _each_delivery_is_reported_once_and_the_thread_goes_on(after: int, timeout: float | None) -> None:
    thrower, owner, threads = Thrower(after), Counting(), []

    def handle(delivery: Delivery) -> int:
        threads.append(threading.current_thread())
        thrower.arm()
        return 1

    threading.settrace(thrower.trace)
    runner = ThreadRunner(Handler("orders", handle, 1, timeout), owner, Surroundings.here("w"))
    first, second = held(), held()
    runner.start(first, Delivery(1, first, {}))
    for _ in range(100):  # give the exception a chance to come while nothing else waits
        if thrower.thrown or owner.returns:
            break
        await asyncio.sleep(0.001)
    runner.start(second, Delivery(2, second, {}))
    await asyncio.wait_for(owner.all_back.wait(), 30)
    await asyncio.sleep(0)
    assert sorted(map(id, owner.returns)) == sorted(map(id, (first, second)))
    assert len(owner.ends) == 2
    assert len({*threads}) == 1
    assert threads[0].is_alive()
    thrower.thrown = True  # nothing into a thread that ends
    runner.close()
    threads[0].join(30)
    assert not threads[0].is_alive()


@pytest.mark.parametrize("after", LINES)
def test_a_call_in_a_thread_of_asyncio_is_answered(after: int) -> None:
    asyncio.run(_a_call_in_a_thread_of_asyncio_is_answered(after))


async def _a_call_in_a_thread_of_asyncio_is_answered(after: int) -> None:
    thrower, threads = Thrower(after), loops.DaemonThreads()
    asyncio.get_running_loop().set_default_executor(threads)
    threading.settrace(thrower.trace)

    def call() -> threading.Thread:
        thrower.arm()
        return threading.current_thread()

    answers = [await asyncio.wait_for(_outcome(asyncio.to_thread(call)), 30) for _ in range(3)]
    thrower.thrown = True  # nothing into a thread that ends
    assert sum(isinstance(answer, Late) for answer in answers) <= 1
    assert all(thread.is_alive() for thread in answers if isinstance(thread, threading.Thread))


@pytest.mark.parametrize("after", range(15))
def test_a_schedules_function_in_a_thread_is_answered(after: int) -> None:
    asyncio.run(_a_schedules_function_in_a_thread_is_answered(after))


async def _a_schedules_function_in_a_thread_is_answered(after: int) -> None:
    thrower = Thrower(after)
    threading.settrace(thrower.trace)

    def make() -> int:
        thrower.arm()
        return 1

    answer = await asyncio.wait_for(_outcome(schedule._in_thread(make)), 30)
    assert answer == 1 or isinstance(answer, Late)


async def _outcome(call: Any) -> Any:
    try:
        return await call
    except Late as late:
        return late
