"""One delivery of one message to one handler: nothing else is there, no Redis and no worker."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, Unpack

from redisq.body import codec
from redisq.errors import InvalidArgument, TestingError
from redisq.model.delivery import Receipt
from redisq.model.queue import MAX_BYTES_CEILING
from redisq.operations import options
from redisq.runtime import loops
from redisq.store import keys
from redisq.worker.handlers.arguments import adapted
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.held import Held
from redisq.worker.handlers.shapes import is_async
from redisq.worker.handlers.verdicts import Verdict, is_awaitable, verdict_on_error, verdict_on_result

_LEASE = timedelta(seconds=30)
_MOST_ATTEMPTS = 1_000_000
#: What a handler raises that is an outcome: not Ctrl-C, and not what ends a test.
ENDS = (Exception, SystemExit, asyncio.CancelledError)

Handler = Callable[..., Any]


class About(TypedDict, total=False):
    """What a handler is told of its message beside the request."""

    id: str | uuid.UUID
    queue: str
    attempt: int
    max_attempts: int
    headers: Mapping[str, str]
    queued_at: datetime
    priority: int
    state: Any


@dataclass(frozen=True)
class Outcome:
    """What becomes of a message by one delivery.

    `event` is `completed`, `failed`, `rejected` or `deferred`; a failed one is tried again while it has attempts left.
    """

    event: str
    result: Any = None
    """what `get_message` gives as the result"""
    error: dict[str, Any] | None = None
    """and as the error: its type and text"""
    delay: float | None = None
    """in how many seconds a Retry or a Defer wants the next delivery; None: the queue's backoff decides"""
    raised: BaseException | None = None
    """the exception itself"""


def delivery(
    request: Any,
    *,
    id: str | uuid.UUID | None = None,
    queue: str = "testing",
    attempt: int = 1,
    max_attempts: int = 5,
    headers: Mapping[str, str] | None = None,
    queued_at: datetime | None = None,
    priority: int = 0,
    state: Any = None,
) -> Delivery:
    """Make a delivery to call a handler with. Its request is what a handler gets when this message is queued.

    All attempts before this one count as failed.

    Raises:
        InvalidMessage, MessageTooLarge: the request, the id or the headers cannot be queued.
        InvalidQueueName, InvalidArgument: see there.
    """
    name = keys.new_id() if id is None else keys.given_id(id)
    attempt = options.whole_of("attempt", attempt, 1, _MOST_ATTEMPTS)
    most = options.whole_of("max_attempts", max_attempts, 1, _MOST_ATTEMPTS)
    now = datetime.now(UTC)
    if queued_at is not None and not (isinstance(queued_at, datetime) and queued_at.tzinfo):
        raise InvalidArgument("queued_at takes an aware datetime")
    head = b"%d-0;0;%d" % ((queued_at or now).timestamp() * 1000, options.priority_of(priority))
    body = codec.encode_request(request, MAX_BYTES_CEILING, options.headers_of(headers))
    read, sent_along = codec.decode_request(body)
    receipt = Receipt(name, attempt, "testing")
    held = Held(keys.check_queue_name(queue), receipt, now + _LEASE, math.inf, lambda: None)
    return Delivery(read, held, sent_along, most, attempt - 1, head, state)


def deliver(handler: Handler, request: Any, **about: Unpack[About]) -> Outcome:
    """Run a handler on one message as a worker does, and return what becomes of it. A plain one runs in this thread.

    Raises:
        InvalidHandler: it can be none.
        TestingError: it is async, and an event loop runs in this thread: `await deliver_async()` there.
        As `delivery` does.
    """
    function, given = adapted(handler), delivery(request, **about)
    if is_async(function):
        check_no_loop("deliver")
    try:
        result = copy_context().run(function, given)
        if is_awaitable(result):
            result = loops.run(awaited(result), foreign=True)
    except ENDS as error:
        return failed(error)
    return returned(result)


async def deliver_async(handler: Handler, request: Any, **about: Unpack[About]) -> Outcome:
    """Do the same where an event loop runs already; a plain handler runs in a thread. See `deliver`."""
    function, given = adapted(handler), delivery(request, **about)
    try:
        result = await awaited(function(given) if is_async(function) else asyncio.to_thread(function, given))
    except ENDS as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        return failed(error)
    return returned(result)


async def awaited(result: Awaitable[Any]) -> Any:
    """Return what comes of it; what that is itself to be awaited is, too."""
    while is_awaitable(result):
        result = await result
    return result


def returned(result: Any) -> Outcome:
    """Return the outcome of what a handler returned."""
    verdict = verdict_on_result(result)
    return _refused(verdict) if isinstance(verdict, Verdict) else Outcome("completed", codec.decode(verdict))


def failed(error: BaseException) -> Outcome:
    """Return the outcome of what a handler raised."""
    return _refused(verdict_on_error(error))


def _refused(verdict: Verdict) -> Outcome:
    error = None if verdict.cause == "deferred" else dict(verdict.error)
    return Outcome(verdict.cause, None, error, verdict.delay, verdict.raised)


def check_no_loop(name: str) -> None:
    """Refuse where an event loop runs in this thread, which would stand still.

    Raises:
        TestingError: one does.
    """
    if asyncio._get_running_loop() is not None:
        raise TestingError(f"An event loop runs in this thread already: there, `await testing.{name}_async()`.")
