"""Handlers and schedules that are collected in modules, and included by workers."""

from __future__ import annotations

from typing import Any

import pytest

from redisq import Delivery, Handlers, InvalidArgument, InvalidHandler, InvalidQueueName, Settings, Worker
from redisq.worker.registry import handlers_of


def worker() -> Worker:
    return Worker(settings=Settings(auth="none"))


def handle(delivery: Delivery) -> None: ...


def other(delivery: Delivery) -> None: ...


def report() -> None: ...


def cell(handlers: Handlers, result: int) -> Any:
    """What a notebook's cell does each time that it is run: the function is new, and its name is not."""

    @handlers.handler("cells")
    def in_cell(delivery: Delivery) -> int:
        return result

    @handlers.every("* * * * *", queue="reports")
    def tick() -> int:
        return result

    return in_cell


def test_a_worker_has_what_it_includes() -> None:
    orders, mail, made = Handlers(), Handlers(), worker()
    orders.handler("orders", concurrency=50)(handle)
    orders.every("* * * * *", queue="reports")(report)
    mail.handler("mail")(handle)
    made.include(orders)
    made.include(mail)
    made.include(mail)  # again changes nothing
    made.handler("own")(handle)
    mail.handler("letters")(handle)  # what is collected later counts, too
    assert sorted(made.queues) == ["letters", "mail", "orders", "own"]
    assert made.schedules == orders.schedules == [f"{__name__}.report"]
    assert handlers_of(made._collections())["orders"].concurrency == 50


def test_two_workers_may_include_the_same() -> None:
    orders = Handlers()
    orders.handler("orders")(handle)
    first, second = worker(), worker()
    first.include(orders)
    second.include(orders)
    assert first.queues == second.queues == ["orders"]


@pytest.mark.parametrize("bad", [None, handle, "orders", [], worker()])
def test_only_handlers_can_be_included(bad: Any) -> None:
    made = worker()
    with pytest.raises(InvalidArgument, match=r"include\(\) takes redisq\.Handlers"):
        made.include(bad)
    assert made.queues == []


def test_a_queue_has_one_handler_wherever_it_is_collected() -> None:
    orders, more, made = Handlers(), Handlers(), worker()
    orders.handler("orders")(handle)
    more.handler("orders")(other)
    made.include(orders)
    with pytest.raises(ValueError, match="the queue orders has a handler already"):
        made.include(more)
    with pytest.raises(InvalidArgument, match="the queue orders has a handler already"):
        made.handler("orders")(other)
    with pytest.raises(InvalidArgument, match="the queue orders has a handler already"):
        orders.handler("orders")(other)
    assert handlers_of(made._collections())["orders"].function is handle


def test_a_conflict_that_comes_after_the_including_is_told_at_the_start() -> None:
    orders, made = Handlers(), worker()
    made.include(orders)
    made.handler("orders")(handle)
    orders.handler("orders")(other)
    with pytest.raises(InvalidArgument, match="the queue orders has a handler already"):
        made.run()


def test_a_queue_has_one_schedule_of_a_name() -> None:
    made, reports = worker(), Handlers()
    reports.every("* * * * *", queue="reports", name="r")(report)
    made.include(reports)
    with pytest.raises(InvalidArgument, match="has a schedule r already"):
        made.every("* * * * *", queue="reports", name="r")(lambda: 1)
    assert made.schedules == ["r"]


@pytest.mark.parametrize("make", [worker, Handlers])
def test_a_cell_that_is_run_again_replaces_its_handler_and_its_schedule(make: Any) -> None:
    made = make()
    cell(made, 1)
    again = cell(made, 2)
    assert len(made.schedules) == 1
    assert handlers_of(made._collections())["cells"].function is again
    with pytest.raises(InvalidArgument, match="the queue cells has a handler already"):
        made.handler("cells")(handle)


def test_a_cell_that_makes_its_handlers_anew_replaces_them() -> None:
    made = worker()
    for result in (1, 2):
        orders = Handlers()
        latest = cell(orders, result)
        made.include(orders)
    assert handlers_of(made._collections())["cells"].function is latest


def test_a_function_without_a_name_replaces_none() -> None:
    import functools

    made = worker()
    made.handler("orders")(functools.partial(handle))
    with pytest.raises(InvalidArgument, match="has a handler already"):
        made.handler("orders")(functools.partial(other))


def test_handlers_check_as_a_worker_does() -> None:
    handlers = Handlers()
    with pytest.raises(InvalidQueueName):
        handlers.handler("a b")
    with pytest.raises(InvalidArgument, match="concurrency"):
        handlers.handler("orders", concurrency=0)
    with pytest.raises(InvalidHandler):
        handlers.handler("orders")(3)  # type: ignore[type-var]
    with pytest.raises(InvalidArgument, match="cron"):
        handlers.every("never", queue="orders")
    assert (handlers.queues, handlers.schedules) == ([], [])
