"""What can be done on the page. A GET asks whether it is meant, a POST does it, and the page that shows it follows.

Each takes what the API takes for the same: `op`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from redisq import async_client
from redisq.async_client import AsyncRedisQ
from redisq.errors import BatchError, MessageNotFound
from redisq.gateway.context import Context
from redisq.gateway.page.responses import Pages, View
from redisq.gateway.page.session import ROOT, Visitor, form_of
from redisq.operations import queues

#: Gives the word of the notice that follows, and what that counts.
Do = Callable[[AsyncRedisQ, str, str], Awaitable[tuple[str, int]]]


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do to a queue, or to one of its messages, and what is asked before it."""

    op: str
    question: str
    explained: str
    label: str
    do: Do
    grave: bool = False


async def _pause(mq: AsyncRedisQ, queue: str, _: str) -> tuple[str, int]:
    await mq.define(queue, paused=True)
    return "paused", 0


async def _resume(mq: AsyncRedisQ, queue: str, _: str) -> tuple[str, int]:
    await mq.define(queue, paused=None)
    return "resumed", 0


async def _redrive_all(mq: AsyncRedisQ, queue: str, _: str) -> tuple[str, int]:
    return "redriven", await mq.redrive(queue)


async def _redrive(mq: AsyncRedisQ, queue: str, id: str) -> tuple[str, int]:
    try:
        return "redriven", await mq.redrive(queue, [id])
    except BatchError as error:
        raise error.errors[0] from None


async def _cancel(mq: AsyncRedisQ, queue: str, id: str) -> tuple[str, int]:
    cancelled = await mq.cancel_message(queue, id)
    return {True: "cancelled", None: "told", False: "finished"}[cancelled], 0


async def _delete(mq: AsyncRedisQ, queue: str, id: str) -> tuple[str, int]:
    await mq.delete_message(queue, id)
    return "deleted", 0


OF_QUEUE: Mapping[str, Action] = {
    "pause": Action(
        "admin",
        "Pause this queue?",
        "Workers get nothing more from it until it is resumed. Queueing goes on; what is in progress ends as usual.",
        "Pause",
        _pause,
    ),
    "resume": Action("admin", "Resume this queue?", "Workers get its messages again, at once.", "Resume", _resume),
    "redrive": Action(
        "admin",
        "Redrive all dead letters?",
        "Each is queued anew, keeps its id and its history, and has all its attempts before it again. Do it when what "
        "made them fail is mended.",
        "Redrive all",
        _redrive_all,
    ),
}
OF_MESSAGE: Mapping[str, Action] = {
    "redrive": Action(
        "admin",
        "Redrive this message?",
        "It is queued anew, keeps its id and its history, and has all its attempts before it again.",
        "Redrive",
        _redrive,
    ),
    "cancel": Action(
        "delete",
        "Cancel this message?",
        "If it waits, it ends at once, as cancelled. If a worker is at it, that is told, and the message ends as "
        "cancelled unless the worker has a result yet.",
        "Cancel it",
        _cancel,
    ),
    "delete": Action(
        "delete",
        "Delete this message?",
        "It is gone at once and for good, whatever its status. A worker that holds it learns that its lease is lost.",
        "Delete",
        _delete,
        grave=True,
    ),
}


class Actions:
    """Asks, checks, and does."""

    def __init__(self, context: Context, pages: Pages) -> None:
        self._context = context
        self._pages = pages

    def handling(self, action: Action) -> View:
        """Return what asks about, or does, something to a queue or a message."""
        return partial(self._handle, action)

    async def _handle(self, action: Action, request: Request, visitor: Visitor, queue: str) -> Response:
        id = request.path_params.get("id", "")
        there = f"{ROOT}/queues/{queue}" + (f"/messages/{id}" if id else "")
        if request.method == "POST":
            await form_of(request, visitor)
        mq = self._context.acting_for(visitor.application)
        if not id:
            may = partial(visitor.allows, "stats")
            await async_client.run(mq, lambda known: queues.check_exists(known, queue, action.op, None, may))
        if request.method != "POST":
            if id:
                await _check_exists(mq, queue, id)
            values = {"queue": queue, "id": id, "action": action, "back": self._pages.address(there)}
            return self._pages.show(request, "confirm.html", visitor, values)
        notice, count = await action.do(mq, queue, id)
        return self._pages.go(request, f"{ROOT}/queues/{queue}" if action.grave else there, notice, count)


async def _check_exists(mq: AsyncRedisQ, queue: str, id: str) -> None:
    """Return only if there is a message; one that cannot be read is one, and may be deleted.

    Raises:
        MessageNotFound: there is none.
    """
    with contextlib.suppress(BatchError):
        if await mq.get_messages(queue, [id]) == [None]:
            raise MessageNotFound
