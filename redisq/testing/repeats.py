"""`redelivered`: a handler is cut off at each of its awaits and run again, as happens when workers die."""

from __future__ import annotations

import asyncio
import dis
import inspect
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import CodeType, FrameType
from typing import Any, Unpack

from redisq.errors import NeverIdle
from redisq.runtime import loops
from redisq.testing.deliveries import About, Handler, Outcome, check_no_loop, deliver_async, delivery

_MOST = 1_000  # awaits of one run


def redelivered(handler: Handler, request: Any, **about: Unpack[About]) -> Outcome:
    """Run a handler on one message again and again, and return the outcome of the last run.

    The first run is cancelled at its first `await`, the second at its second, and so on; the one that gets through is
    followed by another, as when a worker dies before Redis has the outcome. Each has the same id and a higher
    `attempt`. Afterwards a test looks at the effects: they have happened once. A plain handler, which cannot be cut
    off, runs twice. Awaits count in the handler itself, not in what it calls. A run that raises by itself is the last.

    Raises:
        TestingError: an event loop runs in this thread: `await redelivered_async()` there.
        NeverIdle: it awaits a thousand times and more.
        As `deliver` does.
    """
    check_no_loop("redelivered")
    return loops.run(redelivered_async(handler, request, **about), foreign=True)


async def redelivered_async(handler: Handler, request: Any, **about: Unpack[About]) -> Outcome:
    """Do the same where an event loop runs already. See `redelivered`."""
    code, first = _code_of(handler), delivery(request, **about)

    async def run(number: int) -> Outcome:
        told = About(**{**about, "id": first.id, "attempt": first.attempt + number})
        return await deliver_async(handler, request, **told)

    for number in range(_MOST):
        with _cutting(code, number + 1) as cut:
            outcome = await run(number)
        if not cut:
            return outcome if outcome.raised is not None else await run(number + 1)
    raise NeverIdle(f"The handler awaits {_MOST:,} times and more.")


def _code_of(handler: Handler) -> CodeType | None:
    while isinstance(handler, partial):
        handler = handler.func
    inner: Any = inspect.unwrap(handler)
    called = inner if inspect.isroutine(inner) else type(inner).__call__
    code: CodeType | None = getattr(getattr(called, "__func__", called), "__code__", None)
    return code


@cache
def _awaits(code: CodeType) -> frozenset[int]:
    """Return where in a function something is awaited."""
    return frozenset(one.offset for one in dis.get_instructions(code) if one.opname == "GET_AWAITABLE")


@contextmanager
def _cutting(code: CodeType | None, number: int) -> Iterator[list[int]]:
    """Have a function cancelled when it is about to await for the so many-th time; the list says where it was."""
    awaits, seen, cut = _awaits(code) if code is not None else frozenset(), 0, list[int]()

    def follow(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in awaits:
            seen += 1
            if seen == number:
                cut.append(frame.f_lasti)
                raise asyncio.CancelledError
        return follow

    def begin(frame: FrameType, event: str, given: Any) -> Any:
        return follow(frame, event, given) if frame.f_code is code else None

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # from Python 3.12 on it has to be known before
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* was never awaited", RuntimeWarning)
        sys.settrace(begin)
        try:
            yield cut
        finally:
            sys.settrace(before)
