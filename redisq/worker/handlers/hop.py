"""Async middleware around a plain handler: that runs on the loop, and its handler in a thread."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, replace
from typing import Any

from redisq.runtime import process
from redisq.worker.handlers.middleware import onion
from redisq.worker.handlers.runners import Handler, Owner, Runner, Surroundings, TaskRunner, ThreadRunner, U
from redisq.worker.handlers.verdicts import Verdict, is_awaitable

_current: ContextVar[Any] = ContextVar("redisq_current")  # for whom a message's middleware runs


Outer = Callable[[Callable[[Any], Any]], Callable[[Any], Any]]


def single_runner(
    handler: Handler, owner: Owner[U], surroundings: Surroundings, outer: Outer = lambda function: function
) -> Runner[U]:
    """Return what runs a handler: on the loop, in threads, or in both. `outer` is put around all that is run."""
    if handler.around:
        return HopRunner(handler, owner, surroundings, outer)
    kind = TaskRunner if handler.is_async else ThreadRunner
    return kind(replace(handler, function=outer(handler.function)), owner, surroundings)


@dataclass(eq=False, slots=True)
class _Hop:
    """One call of a plain handler in a thread, in the context of what has called it."""

    held: Any
    delivery: Any
    context: Context
    ended: asyncio.Future[None]
    result: Any = None
    error: BaseException | None = None
    reported: bool = False
    began: float = 0.0

    @property
    def cancelled(self) -> bool:
        return bool(self.held.cancelled)


class HopRunner(TaskRunner[U]):
    """Runs middleware as one task per delivery, around a handler that is called in threads.

    A thread cannot be stopped, so a hop ends when its handler has returned, whoever cancels it before; and a message
    whose attempt is cancelled meanwhile may still bring its outcome, as without middleware. When the worker ends, hops
    that go on are left.
    """

    def __init__(self, handler: Handler, owner: Owner[U], surroundings: Surroundings, outer: Outer) -> None:
        inner = onion(self._hop, handler.around)

        async def run(delivery: Any) -> Any:
            _current.set(delivery._held)
            return await inner(delivery)

        super().__init__(replace(handler, function=outer(run)), owner, surroundings)
        self._plain = handler.function
        self._inside: Counter[U] = Counter()  # whose handlers run in threads
        self._hops: set[_Hop] = set()
        in_threads = replace(handler, function=self._call, timeout=None)
        self._threads: ThreadRunner[_Hop] = ThreadRunner(in_threads, _Hops(), surroundings)

    def cancel(self, held: U) -> None:
        """Cancel the middleware, if it is that which runs; else it is cancelled when the handler has returned."""
        if not self._inside[held]:
            super().cancel(held)

    def close(self) -> None:
        self._threads.close()
        super().close()
        for hop in self._hops:
            hop.error = hop.error or asyncio.CancelledError()
            _end(hop)

    def _overrun(self, held: U) -> None:
        self._owner.overran(held, thread=held if self._inside[held] else None)
        self.cancel(held)

    async def _hop(self, delivery: Any) -> Any:
        hop = _Hop(_current.get(), delivery, copy_context(), self._loop.create_future())
        cancelled: asyncio.CancelledError | None = None
        self._inside[hop.held] += 1
        self._hops.add(hop)
        try:
            self._threads.start(hop, hop)
            while not hop.ended.done():
                try:
                    await asyncio.shield(hop.ended)
                except asyncio.CancelledError as error:
                    cancelled = error
        finally:
            self._left(hop)
        if cancelled is not None:
            raise cancelled
        if hop.error is not None:
            raise hop.error
        result = hop.result
        while is_awaitable(result):
            result = await result
        return result

    def _left(self, hop: _Hop) -> None:
        self._hops.discard(hop)
        self._inside[hop.held] -= 1
        if not self._inside[hop.held]:
            del self._inside[hop.held]
            if hop.cancelled:
                self.cancel(hop.held)  # after its next step: what returns at once has its outcome counted

    def _call(self, hop: _Hop) -> None:
        """Call the handler, in a thread."""
        try:
            hop.result = hop.context.run(self._plain, hop.delivery)
        except BaseException as error:  # SystemExit too: a handler may not end a thread
            hop.error = error
        if process.pid != self._pid:
            process.end_fork(hop.error)


class _Hops:
    """Ends hops whose threads have reported."""

    def ended(self, held: _Hop, verdict: bytes | Verdict) -> None:
        if not isinstance(verdict, bytes) and held.error is None:  # thrown into the thread
            held.error = verdict.raised

    def overran(self, held: _Hop, *, thread: object = None) -> None:
        raise NotImplementedError("a hop has no timeout of its own")

    def returned(self, held: _Hop) -> None:
        _end(held)


def _end(hop: _Hop) -> None:
    if not hop.ended.done():
        hop.ended.set_result(None)
