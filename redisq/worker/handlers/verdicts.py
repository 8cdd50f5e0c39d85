"""How an attempt has ended: what a handler may raise to say so, and what is made of all that it returns or raises.

`Retry`, `Defer` and `Reject` are for handlers. What the worker goes on with is the encoded result or a `Verdict`:
neither holds anything of the user's, so all of the user's code (encoders of results, texts and attributes of
exceptions) has run once it is there, where the handler itself ran and behind the same fence.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from redisq.body import codec
from redisq.errors import InvalidMessage, RedisQError
from redisq.model.queue import MAX_BYTES_CEILING
from redisq.operations.options import LONGEST, seconds_of
from redisq.worker.handlers.error_text import error_of, text_of, type_name
from redisq.worker.handlers.tracebacks import traceback_of, trim

_NO_DELAY = "it has no delay in seconds, up to a year: backing off"
#: The types of most results: none of them is anything to await.
_USUAL = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple, datetime})
_UNRUN = {types.GeneratorType: "a generator", types.AsyncGeneratorType: "an async generator"}


class Retry(Exception):
    """The attempt failed; the next one comes `after` that many seconds, instead of the queue's backoff.

    It counts as any failure does: after `max_attempts` of them the message is dead. With None the backoff stays.

    Raises:
        InvalidArgument: `after` is not 0 to a year (31,536,000).
    """

    after: float | None = None  # also for a subclass that does not call this one's __init__

    def __init__(self, message: str = "The handler asked for another attempt.", *, after: float | None = None) -> None:
        if after is not None:
            seconds_of("after", after)
        super().__init__(message)
        self.after = after


class Defer(Exception):
    """The message is put back, and comes again `after` that many seconds: when another's limit is reached, for example.

    No attempt is charged. Only `expires_in` bounds how often this may happen; the message's history counts it.

    Raises:
        InvalidArgument: `after` is not 0 to a year (31,536,000).
    """

    after: float | None = None  # also for a subclass that does not call this one's __init__

    def __init__(self, message: str = "The handler deferred the message.", *, after: float) -> None:
        seconds_of("after", after)
        super().__init__(message)
        self.after = after

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), after=self.after or 0.0), self.args


class Reject(Exception):
    """The message can never be worked on: it is dead at once, reason `rejected`, with this text as its error."""

    def __init__(self, reason: str = "The handler rejected the message.") -> None:
        super().__init__(reason)


class Verdict(NamedTuple):
    """How an attempt failed, or why it is put off: with which `error`, for which `cause`, and said how in logs.

    `delay` is what a Retry or a Defer asked for, in seconds; `remark` what is wrong with that. `raised` is what the
    handler has raised, for the log alone.
    """

    error: dict[str, str]
    cause: str
    said: str
    delay: float | None = None
    remark: str = ""
    cancelled: bool = False
    raised: BaseException | None = None

    @property
    def final(self) -> bool:
        """Whether no attempt follows, however many are left."""
        return self.cause != "failed"


def is_awaitable(result: Any) -> bool:
    """Return whether what a handler returned has to be awaited: what a coroutine function behind a plain one gives."""
    kind = type(result)
    if kind in _USUAL:
        return False
    if kind is types.GeneratorType:  # of a function that `types.coroutine` has decorated
        return bool(result.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return hasattr(kind, "__await__")


def verdict_on_result(result: Any) -> bytes | Verdict:
    """Encode what a handler returned; a result that cannot be stored ends the message. Raises nothing."""
    try:
        return codec.encode(result, MAX_BYTES_CEILING)
    except InvalidMessage as refusal:
        error = refusal
    except BaseException as broken:  # of the user's: a tzinfo, a serializer
        error = InvalidMessage(f"The result could not be read to its end: {type_name(broken)}.")
    unrun = _UNRUN.get(type(result))
    if unrun is not None:
        text = f"$: the handler returned {unrun}, which nobody runs; return a value, as a list of what it yields."
        error = InvalidMessage(text, path="$")
    said = f"its result cannot be stored: {type_name(error)}"  # its text may name keys
    return Verdict({"type": type_name(error), "message": text_of(error)}, "rejected", said)


def verdict_on_error(error: BaseException, traceback_bytes: int = 0) -> Verdict:
    """Judge what a handler raised, with so much of its traceback. Raises nothing."""
    kind, delay, remark = type(error), None, ""
    cause = "rejected" if issubclass(kind, Reject) else "failed"
    if issubclass(kind, (Retry, Defer)):
        delay, remark = _delay_of(error)
    if issubclass(kind, Defer):
        cause, remark = ("failed", _NO_DELAY) if delay is None else ("deferred", "")
    cancelled = issubclass(kind, asyncio.CancelledError)
    told, traceback = error_of(error), "" if cause == "deferred" else traceback_of(error, traceback_bytes)
    trim(error)
    if traceback:
        told["traceback"] = traceback
    return Verdict(told, cause, f"{cause}: {told['type']}", delay, remark, cancelled, error)


def verdict_on_overrun(timeout: float) -> Verdict:
    """Return the verdict on a handler that has not returned in time."""
    text = f"did not return within its timeout of {timeout:g} s"
    return Verdict({"type": "TimeoutError", "message": f"The handler {text}."}, "failed", text)


def verdict_on_refusal(refusal: RedisQError, cause: str, said: str) -> Verdict:
    """Return the verdict on what redisq itself refuses: a request that cannot be read, a result that is too large."""
    return Verdict(error_of(refusal), cause, f"{said}: {type_name(refusal)}")


def _delay_of(error: BaseException) -> tuple[float | None, str]:
    """Read when it wants the next attempt: nobody has checked what was assigned to it, or what its class says."""
    try:
        after = error.after  # type: ignore[attr-defined]
        if after is None:
            return None, ""
        delay = _seconds(after)
    except BaseException:
        delay = None
    return delay, "" if delay is not None else _NO_DELAY


def _seconds(value: Any) -> float | None:
    """Return a number of seconds, from 0 to a year, as a plain float; None for anything else."""
    if issubclass(type(value), (bool, str, bytes, bytearray)):
        return None
    try:
        seconds = float(value)
    except Exception:
        return None
    return seconds if 0 <= seconds <= LONGEST else None
