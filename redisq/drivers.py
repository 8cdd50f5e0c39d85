"""What runs flows on links: `drive` in a thread, `drive_async` on an event loop."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, TypeVar

from redisq.link.aio import AsyncLink
from redisq.link.coalescer import Coalescer
from redisq.link.sync import Begun, Link
from redisq.operations.flow import Aside, Begin, Finish, Flow, Pause
from redisq.runtime.aside import aside
from redisq.store.call import Call

T = TypeVar("T")


def drive(flow: Flow[T], link: Link, deadline: float) -> T:
    """Run a flow's calls on a link, each retried for `deadline` seconds; give its answer or raise its error."""
    send, value = flow.send, None
    under_way: list[Begun[Any]] = []
    try:
        while True:
            step = send(value)
            send = flow.send
            try:
                value = link.call(step, deadline) if isinstance(step, Call) else _take(step, link, deadline, under_way)
            except Exception as error:
                send, value = flow.throw, error
    except StopIteration as done:
        answer: T = done.value
        return answer
    finally:
        for call in under_way:
            call.close()


def _take(step: Pause | Begin | Finish | Aside, link: Link, deadline: float, under_way: list[Begun[Any]]) -> Any:
    if isinstance(step, Pause):
        return time.sleep(step.seconds)
    if isinstance(step, Aside):
        return step.work()
    if isinstance(step, Finish):
        under_way.remove(step.handle)
        return step.handle.finish()
    call = link.begin(step.call, deadline)
    under_way.append(call)
    return call


async def drive_async(flow: Flow[T], link: AsyncLink | Coalescer, deadline: float) -> T:
    """Do the same on an event loop."""
    send, value = flow.send, None
    under_way: list[asyncio.Task[Any]] = []
    try:
        while True:
            step = send(value)
            send = flow.send
            try:
                value = await (
                    link.call(step, deadline)
                    if isinstance(step, Call)
                    else _take_async(step, link, deadline, under_way)
                )
            except Exception as error:
                send, value = flow.throw, error
    except StopIteration as done:
        answer: T = done.value
        return answer
    finally:
        for task in under_way:
            task.cancel()


async def _take_async(
    step: Pause | Begin | Finish | Aside,
    link: AsyncLink | Coalescer,
    deadline: float,
    under_way: list[asyncio.Task[Any]],
) -> Any:
    if isinstance(step, Pause):
        now = asyncio.get_running_loop().time()
        return await asyncio.sleep(_until_beat(step.seconds, now) if step.on_the_beat else step.seconds)
    if isinstance(step, Aside):
        return await aside(step.work)
    if isinstance(step, Finish):
        try:
            return await step.handle
        finally:
            if step.handle.done():
                under_way.remove(step.handle)
    task = asyncio.ensure_future(link.call(step.call, deadline))
    under_way.append(task)
    await asyncio.sleep(0)  # so that it is sent
    return task


def _until_beat(pause: float, now: float) -> float:
    """Lengthen or shorten a pause by up to a half, so that all who pause for as long go on together."""
    return (math.floor(now / pause + 0.5) + 1) * pause - now
