"""What is known of an attempt that failed: in the message, in its history, and in the log."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redisq import Delivery, MessageFields, Reject, Retry, Status, embedded
from tests.conftest import settings_for
from tests.contract.test_worker import Bench, Kind, kinds

log = logging.getLogger("shop")


@pytest.fixture
def bench(server: embedded.EmbeddedServer, namespace: str) -> Iterator[Bench]:
    made = Bench(settings_for(server.url, namespace, backoff_base=0.01, max_attempts=3, grace=5))
    yield made
    made.client.close()


def charge(delivery: Delivery) -> None:
    card = delivery.request  # a local, which is told nowhere
    if card:
        raise (ValueError, KeyError, OSError)[delivery.attempt - 1](f"attempt {delivery.attempt}")


@kinds
def test_the_error_has_the_users_part_of_the_traceback(bench: Bench, kind: Kind) -> None:
    bench.worker.handler("orders")(kind(charge))
    (message,) = bench.finish(bench.client.queue_message("orders", "hush-5f2c"))
    told = message.error["traceback"].splitlines()
    assert told[0] == "Traceback (most recent call last):"
    assert told[-1] == "OSError: attempt 3"
    assert told[-3].endswith(", in charge")
    assert "hush" not in message.error["traceback"]
    assert not [line for line in told if "/redisq/worker/" in line]
    (letter,) = bench.client.dead_letters("orders")
    assert letter.error == message.error
    (listed,) = bench.client.list_messages("orders", "dead").messages
    assert listed.error == message.error


def test_it_is_that_of_the_last_attempt_while_the_next_is_waited_for(bench: Bench) -> None:
    @bench.worker.handler("orders")
    def fail(delivery: Delivery) -> None:
        bench.worker.stop()
        raise Retry("again", after=60)

    id = bench.client.queue_message("orders", 1)
    assert asyncio.run(bench.worker.run_async()) == 0
    message = bench.client.get_message("orders", id)
    assert message.status is Status.PENDING
    assert message.error["traceback"].endswith("Retry: again")


@pytest.mark.parametrize("most", [0, 120, 400])
def test_a_setting_says_how_much_of_it_is_kept(server: embedded.EmbeddedServer, namespace: str, most: int) -> None:
    bench = Bench(settings_for(server.url, namespace, max_attempts=1, traceback_bytes=most))
    bench.worker.handler("orders")(charge)
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert len(message.error.get("traceback", "")) <= most
    assert ("traceback" in message.error) == (most > 0), message.error
    bench.client.close()


def test_a_message_that_failed_three_ways_shows_three(bench: Bench) -> None:
    bench.worker.handler("orders")(charge)
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert [(step.event, step.error) for step in message.history] == [
        ("failed", {"type": "ValueError", "message": "attempt 1"}),
        ("failed", {"type": "KeyError", "message": "'attempt 2'"}),
        ("failed", {"type": "OSError", "message": "attempt 3"}),
    ]


def test_the_history_keeps_them_when_the_message_completes(bench: Bench) -> None:
    text = "a, b; c|d %2C\n\0 \udc80" + "x" * 1_000

    @bench.worker.handler("orders")
    def fail_once(delivery: Delivery) -> str:
        if delivery.attempt == 1:
            raise ValueError(text)
        return "done"

    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (message.result, message.error) == ("done", None)
    (step,) = message.history
    assert step.error == {"type": "ValueError", "message": text.replace("\udc80", "?")[:300]}
    assert step.by.count(":") == 2


# --- The log ---


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[logging.LogRecord]]:
    """What redisq logs of messages, from a level on."""
    caplog.set_level(logging.DEBUG, "redisq.worker")
    return lambda level: [one for one in caplog.records if hasattr(one, "message_id") and one.levelno >= level]


Records = Callable[[int], list[Any]]


@kinds
def test_a_failure_that_is_tried_again_is_a_warning_and_a_death_an_error(
    bench: Bench, kind: Kind, records: Records
) -> None:
    bench.worker.handler("orders")(kind(charge))
    id = bench.client.queue_message("orders", 1)
    bench.finish(id)
    first, second, dead = records(logging.WARNING)
    head = f"queue orders message {id} attempt"
    assert first.getMessage() == f"{head} 1 of 3: failed: ValueError: attempt 1; tried again in 0.0 s"
    assert second.getMessage().startswith(f"{head} 2 of 3: failed: KeyError: 'attempt 2'; tried again in ")
    assert dead.getMessage() == f"{head} 3 of 3: dead: OSError: attempt 3"
    assert [(one.levelname, one.attempt, one.error) for one in (first, second, dead)] == [
        ("WARNING", 1, "ValueError"),
        ("WARNING", 2, "KeyError"),
        ("ERROR", 3, "OSError"),
    ]
    assert [one.exc_info is None for one in (first, second, dead)] == [True, True, False]
    assert type(dead.exc_info[1]) is OSError
    assert (
        dead.exc_info[2].tb_frame.f_code.co_filename.endswith("/tests/contract/test_worker.py")
        or kind.__name__ == "plain"
    )
    assert 0 <= first.retry_in < 1
    assert all(one.duration >= 0 and one.max_attempts == 3 and one.worker for one in (first, second, dead))


def test_an_attempt_that_was_handed_back_is_not_one_of_those_that_count(bench: Bench, records: Records) -> None:
    id = bench.client.queue_message("orders", 1)

    async def hand_back() -> None:
        @bench.worker.handler("orders")
        async def hang(delivery: Delivery) -> None:
            bench.worker.stop()
            bench.worker.stop()
            await asyncio.sleep(60)

        await bench.worker.run_async()

    asyncio.run(hand_back())
    other = Bench(bench.settings)
    other.worker.handler("orders")(lambda _: 1 // 0)
    other.finish(id)
    first, *_, dead = records(logging.WARNING)
    assert "attempt 2, failure 1 of 3: failed: ZeroDivisionError" in first.getMessage()
    assert "attempt 4, failure 3 of 3: dead: ZeroDivisionError" in dead.getMessage()
    other.client.close()


def test_what_is_rejected_is_dead_at_once(bench: Bench, records: Records) -> None:
    @bench.worker.handler("orders", timeout=0.01)
    async def judge(delivery: Delivery) -> Any:
        match delivery.request:
            case "reject":
                raise Reject("no such customer")
            case "result":
                return {"hush-5f2c": object()}
        return await asyncio.sleep(60)

    ids = bench.client.queue_messages("orders", ["reject", "result", "slow"])
    bench.finish(*ids)
    dead = {one.message_id: one.getMessage().partition(": ")[2] for one in records(logging.ERROR)}
    assert [dead[id] for id in ids] == [
        "dead: rejected: Reject: no such customer",
        "dead: its result cannot be stored: InvalidMessage",
        "dead: did not return within its timeout of 0.01 s",
    ]


def test_what_succeeds_is_told_at_debug_with_its_duration(bench: Bench, records: Records) -> None:
    @bench.worker.handler("orders")
    def handle(delivery: Delivery) -> str:
        threading.Event().wait(0.05)
        return "done"

    bench.finish(bench.client.queue_message("orders", 1))
    (done,) = records(logging.DEBUG)
    assert (done.levelname, done.attempt) == ("DEBUG", 1)
    assert "attempt 1: complete in 0." in done.getMessage()
    assert done.duration >= 0.05


def test_texts_and_tracebacks_can_be_kept_out_of_the_log(
    server: embedded.EmbeddedServer, namespace: str, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(settings_for(server.url, namespace, max_attempts=2, backoff_base=0.01, log_errors="type"))

    @bench.worker.handler("orders")
    def fail(delivery: Delivery) -> None:
        raise ValueError(delivery.request)

    (message,) = bench.finish(bench.client.queue_message("orders", "hush-5f2c"))
    again, dead = records(logging.WARNING)
    assert "failed: ValueError; tried again" in again.getMessage()
    assert dead.getMessage().endswith("attempt 2 of 2: dead: ValueError")
    assert not [one for one in caplog.records if one.exc_info]
    assert "hush" not in caplog.text
    assert "hush" in message.error["traceback"]  # the message has it all the same
    bench.client.close()


def test_an_exception_that_cannot_be_logged_costs_nothing_but_its_record(bench: Bench) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    @bench.worker.handler("orders", concurrency=1)
    def fail(delivery: Delivery) -> str:
        if delivery.request == "bad":
            raise Odd
        return "done"

    bad, good = bench.finish(*bench.client.queue_messages("orders", ["bad", "good"]))
    assert (bad.error["type"], bad.attempts, good.result) == ("Odd", 3, "done")


# --- What handlers log ---


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], dict[str, Any]]]:
    """What the shop logs: text -> record, by a handler that has the filter."""
    caplog.set_level(logging.INFO, "shop")
    fields = MessageFields()
    caplog.handler.addFilter(fields)
    yield lambda: {one.getMessage(): one for one in caplog.records if one.name == "shop"}
    caplog.handler.removeFilter(fields)


@kinds
def test_each_line_of_a_handler_carries_its_message(bench: Bench, kind: Kind, said: Callable[[], Any]) -> None:
    def charge(delivery: Delivery) -> None:
        log.info("charging %s", delivery.request)
        if delivery.attempt == 1:
            raise ValueError

    bench.worker.handler("orders", concurrency=5)(kind(charge))
    ids = bench.client.queue_messages("orders", list(range(20)))
    bench.finish(*ids)
    for number, id in enumerate(ids):
        one = said()[f"charging {number}"]
        assert (one.queue, one.message_id, one.attempt) == ("orders", id, 2)
    log.info("outside")
    assert not hasattr(said()["outside"], "message_id")


def test_so_do_threads_and_tasks_that_it_starts(bench: Bench, said: Callable[[], Any]) -> None:
    @bench.worker.handler("orders")
    async def handle(delivery: Delivery) -> None:
        await asyncio.to_thread(log.info, "in a thread")
        await asyncio.create_task(tell())

    async def tell() -> None:
        log.info("in a task", extra={"queue": "of trucks", "attempt": 9})

    id = bench.client.queue_message("orders", 1)
    bench.finish(id)
    for text in ("in a thread", "in a task"):
        one = said()[text]
        assert (one.queue, one.message_id, one.attempt) == ("orders", id, 1)
    assert (said()["in a task"].extra_queue, said()["in a task"].extra_attempt) == ("of trucks", 9)


def test_fields_of_its_own_named_like_the_messages_do_not_hide_them(bench: Bench, said: Callable[[], Any]) -> None:
    @bench.worker.handler("orders")
    def handle(delivery: Delivery) -> None:
        log.info("the id", extra={"message_id": delivery.id})
        log.info("another id", extra={"message_id": 7, "queue": object})

    id = bench.client.queue_message("orders", 1)
    bench.finish(id)
    for text in ("the id", "another id"):
        one = said()[text]
        assert (one.queue, one.message_id, one.attempt) == ("orders", id, 1)
    assert not hasattr(said()["the id"], "extra_message_id")
    assert (said()["another id"].extra_message_id, said()["another id"].extra_queue) == (7, object)


def test_a_plain_handler_that_returns_a_coroutine_keeps_its_message(bench: Bench, said: Callable[[], Any]) -> None:
    async def later() -> None:
        log.info("later")

    bench.worker.handler("orders")(lambda delivery: later())
    id = bench.client.queue_message("orders", 1)
    bench.finish(id)
    assert said()["later"].message_id == id
