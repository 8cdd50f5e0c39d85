"""What a user's objects raise where a worker reads them costs their own attempt, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Any

import pydantic
import pytest

from redisq import Delivery, RedisQ, Reject, Retry, Status, Worker, embedded
from tests.conftest import settings_for
from tests.contract.test_worker import Bench, asynchronous, plain

ODD = [SystemExit, KeyboardInterrupt, RecursionError, asyncio.CancelledError, GeneratorExit, StopIteration]
kinds = pytest.mark.parametrize("kind", [asynchronous, plain])


@pytest.fixture
def bench(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[Bench]:
    made = Bench(settings_for(real_server.url, namespace, backoff_base=0.01, max_attempts=2, grace=5, lease=10))
    yield made
    made.client.close()


def among_neighbours(bench: Bench, kind: Callable[[Any], Any], bad: Callable[[Delivery], Any]) -> Any:
    """Run something bad amid what is in order, claimed together with it; give what became of the former."""

    def handle(delivery: Delivery) -> Any:
        return bad(delivery) if delivery.request == "bad" else delivery.request

    bench.worker.handler("orders", concurrency=4)(kind(handle))
    first, found, *rest = bench.finish(*bench.client.queue_messages("orders", [1, "bad", 2, 3]))
    assert [(each.status, each.attempts) for each in (first, *rest)] == [(Status.COMPLETE, 1)] * 3
    stats = bench.client.stats("orders")
    assert (stats.in_progress, stats.lost, stats.released) == (0, 0, 0)
    return found


class Bare(Retry):
    def __init__(self) -> None:
        pass


class BareReject(Reject):
    def __init__(self) -> None:
        pass


def hostile(error: type[BaseException]) -> type[Retry]:
    """Make an exception each part of which raises when it is looked at."""

    def refuse(*_: Any) -> Any:
        raise error

    names = ("__str__", "__repr__", "__reduce__", "__reduce_ex__", "__getstate__", "__eq__")
    parts: dict[str, Any] = dict.fromkeys(names, refuse)
    parts |= {
        name: property(refuse) for name in ("after", "args", "__notes__", "__class__", "__cause__", "__context__")
    }

    def begin(self: Any) -> None: ...

    return type("Hostile", (Retry,), {"__init__": begin, "__hash__": BaseException.__hash__, **parts})


def raising(error: Any) -> Callable[[Delivery], Any]:
    def bad(_: Delivery) -> Any:
        raise error() if isinstance(error, type) else error

    return bad


@kinds
@pytest.mark.parametrize("error", ODD)
def test_an_exception_that_raises_wherever_it_is_looked_at(bench: Bench, kind: Any, error: type[BaseException]) -> None:
    found = among_neighbours(bench, kind, raising(hostile(error)))
    assert (found.status, found.attempts) == (Status.ERROR, 2)
    assert found.error["message"].startswith(f"The exception has no text: its __str__ raised {error.__name__}.")


class Nonsense(float):
    def __mul__(self, other: float) -> float:
        raise SystemExit


def with_after(value: Any) -> Retry:
    error = Retry("again")
    error.after = value
    return error


DELAYS = [float("nan"), float("inf"), -1, "5", b"5", object(), timedelta(1), 10**400, True, [], 1j, Nonsense(0.01)]


@pytest.mark.parametrize("error", [Bare, *(with_after(value) for value in DELAYS)], ids=repr)
def test_a_retry_that_says_nothing_of_use_backs_off(bench: Bench, error: Any) -> None:
    found = among_neighbours(bench, plain, raising(error))
    assert (found.status, found.attempts) == (Status.ERROR, 2)


def test_a_reject_without_a_reason_is_one(bench: Bench) -> None:
    found = among_neighbours(bench, asynchronous, raising(BareReject))
    assert (found.attempts, found.error["reason"]) == (1, "rejected")


def test_a_name_that_is_huge_or_strange_is_cut(bench: Bench) -> None:
    kind = type("N\u0101me " + "x" * 100_000, (Exception,), {})
    found = among_neighbours(bench, plain, raising(kind("y" * 100_000)))
    assert found.error["type"].startswith("N\u0101me xxx")
    assert len(found.error["type"]) <= 200
    assert len(found.error["message"]) <= 2_000


def hostile_results(error: type[BaseException]) -> list[Any]:
    def refuse(*_: Any) -> Any:
        raise error

    class Zone(tzinfo):
        utcoffset = dst = tzname = refuse

    class Model(pydantic.BaseModel):
        value: int = 1
        model_dump = refuse

    parts = dict.fromkeys(("__iter__", "__len__", "keys", "items", "__getitem__", "__bool__", "__getattr__"), refuse)
    parts["__class__"] = property(refuse)
    made = [type("Hostile", (base,), parts)() for base in (object, dict, list, str)]
    return [datetime(2026, 1, 1, tzinfo=Zone()), [datetime(2026, 1, 1, tzinfo=Zone())], Model(), *made]


@kinds
@pytest.mark.parametrize("number", range(7))
def test_a_result_that_raises_when_it_is_read_is_rejected(bench: Bench, kind: Any, number: int) -> None:
    error = ODD[number % len(ODD)]
    found = among_neighbours(bench, kind, lambda _: hostile_results(error)[number])
    assert (found.status, found.attempts, found.error["reason"]) == (Status.ERROR, 1, "rejected")
    assert found.error["type"] == "InvalidMessage"


@kinds
def test_progress_that_raises_when_it_is_read_fails_the_attempt(bench: Bench, kind: Any) -> None:
    found = among_neighbours(bench, kind, lambda delivery: delivery.progress(hostile_results(SystemExit)[0]))
    assert (found.status, found.error["type"]) == (Status.ERROR, "SystemExit")


class Broken(logging.Filter, logging.Handler):
    """A filter and a handler that raises."""

    def __init__(self, error: type[BaseException]) -> None:
        logging.Handler.__init__(self)
        self.error = error

    def filter(self, record: logging.LogRecord) -> bool:
        raise self.error

    def handle(self, record: logging.LogRecord) -> bool:
        raise self.error


@kinds
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("where", ["filter", "handler"])
def test_logging_that_raises_costs_its_records(bench: Bench, kind: Any, error: type[BaseException], where: str) -> None:
    log, broken = logging.getLogger("redisq.worker"), Broken(error)
    level = log.level
    log.setLevel(logging.DEBUG)
    (log.addFilter if where == "filter" else log.addHandler)(broken)
    try:
        found = among_neighbours(bench, kind, raising(ValueError("no")))
    finally:
        (log.removeFilter if where == "filter" else log.removeHandler)(broken)
        log.setLevel(level)
    assert (found.status, found.error["message"]) == (Status.ERROR, "no")


class Odd(ValueError):
    def __str__(self) -> str:
        raise SystemExit


class Checked(pydantic.BaseModel):
    error: str

    @pydantic.field_validator("error")
    @classmethod
    def check(cls, value: str) -> str:
        if value == "odd":
            raise Odd
        if value == "exit":
            raise SystemExit
        return value


@kinds
def test_a_models_validator_may_raise_anything(bench: Bench, kind: Any) -> None:
    def take(checked: Checked) -> str:
        return checked.error

    async def take_async(checked: Checked) -> str:
        return checked.error

    bench.worker.handler("orders")(take if kind is plain else take_async)
    odd, out, fine = bench.finish(*bench.client.queue_messages("orders", [{"error": e} for e in ("odd", "exit", "ok")]))
    assert (fine.result, odd.status, out.status) == ("ok", Status.ERROR, Status.ERROR)
    assert out.error["type"] == "SystemExit"


def test_what_a_schedule_makes_may_raise_anything(real_server: embedded.EmbeddedServer, namespace: str) -> None:
    """The next ticks come, whatever was raised by the function, or by what it made when that was read."""
    settings = settings_for(real_server.url, namespace)
    worker, ticks, queued = Worker(settings=settings), [], asyncio.Event()

    @worker.every("* * * * * *", queue="reports")
    async def report(tick: datetime) -> Any:
        ticks.append(tick)
        if len(ticks) == 1:
            raise hostile(SystemExit)()
        return hostile_results(asyncio.CancelledError)[0] if len(ticks) == 2 else "report"

    @worker.handler("reports")
    async def take(delivery: Delivery) -> None:
        queued.set()

    async def main() -> None:
        running = asyncio.create_task(worker.run_async())
        await asyncio.wait_for(queued.wait(), 30)
        worker.stop()
        assert await running == 0

    asyncio.run(main())
    with RedisQ(settings=settings) as client:
        assert client.stats("reports").queued == len(ticks) - 2
