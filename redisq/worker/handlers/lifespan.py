"""What a worker opens before its first message and closes after its last: a generator that yields once.

An async generator lives in a task of its own, from its start to its end, so that it may hold task groups and timeouts
open; a plain one in a thread of its own. What it sets in context variables before it yields, handlers find there.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from redisq.errors import InvalidHandler
from redisq.runtime import process
from redisq.worker.handlers import shapes

Function = Callable[[], AsyncIterator[Any]] | Callable[[], Iterator[Any]]
F = TypeVar("F", bound=Function)

_LAST_WORDS = 1.0  # seconds for one to end that was cancelled
_NOTHING = object()


def check(function: Callable[..., Any]) -> None:
    """Check that something is a generator function, async or plain, that takes no argument.

    Raises:
        InvalidHandler: it is not.
    """
    with shapes.looking_at(function):
        if not (_is_async(function) or _is(function, inspect.isgeneratorfunction)):
            wrapped = getattr(function, "__wrapped__", None)
            hint = " Leave out its other decorator, such as @asynccontextmanager." * callable(wrapped)
            problem = f"a lifespan is a function, async or plain, that yields once, what is opened.{hint}"
            raise shapes.refusal(function, problem)
        if shapes.required_of(shapes.parameters_of(function, "a lifespan") or ()):
            raise shapes.refusal(function, "a lifespan takes no argument.")


def _is_async(function: Callable[..., Any]) -> bool:
    return _is(function, inspect.isasyncgenfunction)


def _is(function: Callable[..., Any], tells: Callable[[Any], bool]) -> bool:
    return tells(function) or tells(type(function).__call__)


class Lifespan:
    """One life of such a function: entered once, and left once, on the loop that it was made on.

    `state` is what it has yielded, `context` what it runs in. `on_end` is called when it ends by itself, as one does
    whose task group fails. Where the process is killed its end does not run.
    """

    def __init__(self, function: Function, on_end: Callable[[], None]) -> None:
        self.name = shapes.qualified_name(function) or type(function).__qualname__
        self.state: Any = None
        self.context = copy_context()
        self._function: Callable[[], Any] = function
        self._on_end = on_end
        self._pid = process.pid
        self._loop = asyncio.get_running_loop()
        self._entered = self._loop.create_future()
        self._ended: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._task: asyncio.Task[None] | None = None  # of an async one
        self._over = asyncio.Event()
        self._over_in_thread = threading.Event()
        self._is_left = False

    async def enter(self, stop: asyncio.Event) -> bool:
        """Run it until it yields; return False when it has not before the worker is to stop.

        Raises: what it raised.
            InvalidHandler: it ended without a yield.
        """
        generator = self._function()
        if _is_async(self._function):
            self._task = self._loop.create_task(self._live(generator), context=self.context)
        else:
            run, name = self.context.run, f"{process.HANDLERS}-lifespan"
            threading.Thread(target=run, args=(self._live_in_thread, generator), name=name, daemon=True).start()
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((self._entered, self._ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if self._ended.done() and (error := self._ended.result()) is not None:
            raise error
        return self._entered.done()

    async def leave(self, seconds: float, hurry: asyncio.Event) -> BaseException | None:
        """Let it run to its end; after some seconds, or at once in a hurry, cancel it.

        Return what it raised, a TimeoutError when it had to be cancelled, or goes on in its thread.
        """
        self._is_left = True
        self._over.set()
        self._over_in_thread.set()
        if self._task is not None and not self._entered.done():
            self._task.cancel()  # the worker stops while it starts
        if self._ended.done():
            return None  # it was told of then
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait((self._ended, hurried), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()
            late = not self._ended.done()
            if self._task is not None and late:
                self._task.cancel()
        if late:
            await asyncio.wait((self._ended,), timeout=_LAST_WORDS if self._task is not None else 0)
            return TimeoutError("It did not end in time.")
        error = self._ended.result()
        return error if self._entered.done() or not isinstance(error, asyncio.CancelledError) else None

    async def _live(self, generator: AsyncGenerator[Any, None]) -> None:
        error = None
        try:
            self._open(self._checked(await anext(generator, _NOTHING)))
            try:
                await self._over.wait()
            except asyncio.CancelledError as cancelled:  # by a task group of its own
                with suppress(StopAsyncIteration):
                    await generator.athrow(cancelled)
                raise
            self._check_end(await anext(generator, _NOTHING))
        except BaseException as raised:  # SystemExit too: it may not end the loop
            error = raised
            with suppress(BaseException):
                await generator.aclose()
        self._check_fork(error)
        self._end(error)

    def _live_in_thread(self, generator: Generator[Any, None, None]) -> None:
        error = None
        try:
            state = self._checked(next(generator, _NOTHING))
            self._loop.call_soon_threadsafe(self._open, state)
            self._over_in_thread.wait()
            self._check_end(next(generator, _NOTHING))
        except BaseException as raised:
            error = raised
            with suppress(BaseException):
                generator.close()
        self._check_fork(error)
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._end, error)

    def _checked(self, state: Any) -> Any:
        self._check_fork()
        if state is _NOTHING:
            raise InvalidHandler(f"{self.name}: a lifespan yields once, what is opened; this one ended without.")
        return state

    def _open(self, state: Any) -> None:
        self.state = state
        self._entered.set_result(None)

    def _check_end(self, more: Any) -> None:
        if more is not _NOTHING:
            raise InvalidHandler(f"{self.name}: a lifespan yields once; this one did a second time.")

    def _check_fork(self, error: BaseException | None = None) -> None:
        if process.pid != self._pid:
            process.end_fork(error)

    def _end(self, error: BaseException | None) -> None:
        self._ended.set_result(error)
        if self._entered.done() and not self._is_left:
            self._on_end()
