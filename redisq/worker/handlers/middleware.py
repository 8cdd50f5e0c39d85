"""What runs around handlers: functions that are given a delivery, and what to call next with it.

They are put around a handler's function once, when the worker starts, so that without any nothing is in between. Async
ones are outermost: around a plain handler they run on the loop, and what they call next is a hop to a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from redisq.errors import InvalidHandler
from redisq.runtime import process
from redisq.worker.handlers import shapes
from redisq.worker.handlers.runners import Handler
from redisq.worker.handlers.verdicts import is_awaitable

#: Takes the delivery, or the batch, and a function of that: what comes next.
Middleware = Callable[[Any, Callable[[Any], Any]], Any]
Next = Callable[[Any], Any]

_WHAT = "a middleware"


def check(function: Callable[..., Any]) -> None:
    """Check that something can be a middleware: it takes two arguments by their place.

    Raises:
        InvalidHandler: it cannot.
    """
    with shapes.looking_at(function):
        shapes.check_callable(function, _WHAT)
        parameters = shapes.parameters_of(function, _WHAT)
        if parameters is None:
            return
        required, taken = len(shapes.required_of(parameters)), shapes.taken_of(parameters)
        if required > 2 or taken < 2:
            problem = f"it takes {required if required > 2 else taken} arguments, and {_WHAT} takes two: call_next"
            raise shapes.refusal(function, f"{problem} is the second, to be called with the first, the delivery.")


def wrapped(handler: Handler, middleware: Sequence[Middleware]) -> Handler:
    """Return a handler with middleware around it, the first outermost of its kind.

    Raises:
        InvalidHandler: there is a plain one, and the handler is async.
    """
    if not middleware:
        return handler
    plain = [function for function in middleware if not shapes.is_async(function)]
    around = [function for function in middleware if shapes.is_async(function)]
    if handler.is_async:
        if plain:
            raise InvalidHandler(
                f"{shapes.qualified_name(plain[0]) or _WHAT} is a plain middleware, and the handler {handler.name} of "
                f"the queue {handler.queue} is async: make that middleware an `async def`, which wraps plain handlers "
                "too, or the handler a plain function."
            )
        return replace(handler, function=onion(_awaited(handler.function), around))
    inner = _onion_of_plain(_called(handler.function), plain) if plain else handler.function
    return replace(handler, function=inner, around=tuple(around))


def onion(inner: Next, around: Sequence[Middleware]) -> Next:
    """Return an async function with others around it."""
    for function in reversed(around):
        inner = _layer(function, inner)
    return inner


def _layer(function: Middleware, inner: Next) -> Next:
    async def call(delivery: Any) -> Any:
        return await function(delivery, inner)

    return call


def _onion_of_plain(inner: Next, around: Sequence[Middleware]) -> Next:
    for function in reversed(around):
        inner = _plain_layer(function, inner)
    return inner


def _plain_layer(function: Middleware, inner: Next) -> Next:
    return lambda delivery: function(delivery, inner)


def _awaited(function: Next) -> Next:
    """Return what middleware calls in the end: a handler whose result is one, and whose forked child stays its own."""
    pid = process.pid

    async def call(delivery: Any) -> Any:
        try:
            result = await function(delivery)
            while is_awaitable(result):
                result = await result
        except BaseException as error:
            if process.pid != pid:
                process.end_fork(error)
            raise
        if process.pid != pid:
            process.end_fork()
        return result

    return call


def _called(function: Next) -> Next:
    pid = process.pid

    def call(delivery: Any) -> Any:
        try:
            result = function(delivery)
        except BaseException as error:
            if process.pid != pid:
                process.end_fork(error)
            raise
        if process.pid != pid:
            process.end_fork()
        return result

    return call
