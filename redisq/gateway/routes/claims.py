"""The routes of workers in any language: claim messages, and settle each delivery by its receipt. Op `work`.

    POST /{queue}/_claim          {"max": 1..100 (1), "wait": 0..30 seconds (0), "worker": name, "claim": nonce}
                             200  {"deliveries": [...], "lease": seconds}, each delivery
                                  {"id", "queue", "request", "attempt", "receipt", "deadline"}
    POST /{queue}/{id}/_complete  {"receipt", "result": anything (null)}
                             204
    POST /{queue}/{id}/_fail      {"receipt", "error": {"type", "message"}, "retry_after": seconds, "final": bool}
                             200  {"retry_in": seconds or null}
    POST /{queue}/{id}/_renew     {"receipt", "progress": anything}
                             200  {"deadline", "lease": seconds}
    POST /{queue}/{id}/_release   {"receipt"}
                             204

All bodies are JSON objects; what is not "receipt" or "error" may be left out, and `_claim`'s body as a whole.
`Prefer: wait=S` serves in place of "wait". When nothing comes within that time the list is empty. With "worker" (1 to
64 of A-Z a-z 0-9 . _ -) histories name it; with "claim", too (12 of A-Z a-z 0-9 _ -, random, new for each claim), the
same request again gets the same deliveries, as far as they are still held, so that a lost answer costs nothing.

409 `lease_lost`: the receipt is stale; stop working on the message. The same request again is answered as the first.
A result that cannot be stored ends the message as ERROR, reason `rejected`: 413, or 422 when JSON can say it and a
message cannot. A body beyond what is read at all is 413, too, and then the message is in progress still: fail it.
With "final" a failure is the end of the message, reason `rejected`; "retry_in" is null when no attempt follows.

A client that goes away while it waits, or before it has read its deliveries, hands them back at once, uncharged.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from redisq import async_client
from redisq.async_client import AsyncRedisQ
from redisq.body import codec
from redisq.errors import InvalidMessage, MessageTooLarge
from redisq.gateway.access.guard import Guard, address_of
from redisq.gateway.context import Context
from redisq.gateway.requests.bodies import JSON, Body, limit_of, parse_json, parsed, type_of, whole
from redisq.gateway.requests.errors import BadRequest, ClientGone, HttpError, reply
from redisq.gateway.requests.queries import preferred_wait, query
from redisq.gateway.server.unread import LINE, Line
from redisq.gateway.work.dispatcher import Dispatcher
from redisq.gateway.work.dispatchers import Dispatchers
from redisq.gateway.work.waiters import Handed, Waiter
from redisq.gateway.work.waits import LONGEST
from redisq.model.message import json_ready
from redisq.operations import deliveries
from redisq.operations.caller import Caller
from redisq.operations.deliveries import read_receipt
from redisq.operations.flow import Flow

T = TypeVar("T")

_MOST = 100  # messages of one claim
_SMALL = 16 * 1024  # bytes of a body without anything of a message
_WORKER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NONCE = re.compile(r"[A-Za-z0-9_-]{12}")
_TURNS = 4  # of the loop, until what its selector has seen of a closed connection has got here


def routes(context: Context, guard: Guard) -> list[Route]:
    """Return the routes."""
    claims = _Claims(context, guard)
    settle = "/{queue:queue}/{id:id}/"
    return [
        Route("/{queue:queue}/_claim", claims.claim, methods=["POST"]),
        Route(settle + "_complete", claims.complete, methods=["POST"]),
        Route(settle + "_fail", claims.fail, methods=["POST"]),
        Route(settle + "_renew", claims.renew, methods=["POST"]),
        Route(settle + "_release", claims.release, methods=["POST"]),
    ]


class _Claims:
    """What the routes do."""

    def __init__(self, context: Context, guard: Guard) -> None:
        self._context = context
        self._guard = guard
        self._dispatchers = Dispatchers(context.settings)
        context.farewells.append(self._dispatchers.close)

    async def claim(self, request: Request) -> Response:
        """Return messages to a worker, at once or when there are some."""
        queue = request.path_params["queue"]
        grant = await self._guard.admit(request, "work", queue)
        query(request)
        asked = await _read(
            await Body(request, _SMALL).whole(), request, {"max", "wait", "worker", "claim"}, empty=True
        )
        count, wait = _whole(asked, "max", 1, _MOST), _wait(asked)
        headers: dict[str, str] = {}
        if wait is None and (wait := preferred_wait(request, LONGEST)) is not None:
            headers["Preference-Applied"] = f"wait={wait:.0f}"
        worker, nonce = _text(asked, "worker", _WORKER), _text(asked, "claim", _NONCE)
        if nonce is not None and worker is None:
            raise BadRequest("claim goes with worker: whose last claim would it be?")
        if worker is not None:
            worker = f"{grant.app or '-'}:{worker}"
        dispatcher = self._dispatchers.of(queue)
        with self._guard.limits.waiting(grant.app, address_of(request.scope)) if wait else nullcontext():
            handed = await self._wait(request, dispatcher, dispatcher.join(count, wait or 0.0, worker, nonce))
        try:
            await self._guard.again(request, "work", queue)
        except BaseException:
            dispatcher.give_back(handed)
            raise
        body = {"deliveries": [delivery.to_dict() for delivery in handed.deliveries], "lease": handed.lease}
        return _Handover(dispatcher, handed, reply(body, headers=headers))

    async def _wait(self, request: Request, dispatcher: Dispatcher, waiter: Waiter) -> Handed:
        """Wait in line. One whose client goes leaves it, and so do all when the gateway stops."""
        try:
            handed = await self._context.waits.run(request.receive, _answer_of(waiter))
        except BaseException:
            dispatcher.leave(waiter)
            raise
        if handed is None:
            dispatcher.leave(waiter)
            return dispatcher.nothing()
        return handed

    async def complete(self, request: Request) -> Response:
        """End a message with its result."""
        queue, id, mq = await self._admit(request)
        body = Body(request, limit_of(JSON, self._context.settings.max_bytes))
        if body.length is None or body.length > body.limit:
            own = (await self._guard.definitions.of(queue)).max_bytes
            body.limit = limit_of(JSON, own or self._context.settings.max_bytes)
        asked = await _read(await body.whole(), request, {"receipt", "result"})
        receipt = _receipt(asked, id)
        try:
            await _run(mq, lambda known: deliveries.complete(known, queue, id, receipt, asked.get("result"), None))
        except MessageTooLarge:
            raise
        except InvalidMessage as error:
            raise HttpError(422, error.code, f"The result cannot be stored. {error}") from None
        return Response(status_code=204)

    async def fail(self, request: Request) -> Response:
        """End a delivery with an error."""
        queue, id, mq = await self._admit(request)
        asked = await self._small(request, {"receipt", "error", "retry_after", "final"})
        receipt, error, final = _receipt(asked, id), _error(asked), asked.get("final", False)
        retry_after = asked.get("retry_after")
        if not isinstance(final, bool):
            raise BadRequest("final takes true or false.")
        delay = await _run(
            mq,
            lambda known: deliveries.fail(known, queue, id, receipt, error, None, retry_after=retry_after, final=final),
        )
        return reply({"retry_in": delay})

    async def renew(self, request: Request) -> Response:
        """Renew a lease, and show a message's progress."""
        queue, id, mq = await self._admit(request)
        body = Body(request, limit_of(JSON, codec.DEFAULT_MAX_BYTES))
        asked = await _read(await body.whole(), request, {"receipt", "progress"})
        receipt = _receipt(asked, id)
        progress = codec.encode(asked["progress"]) if "progress" in asked else b""
        renewed = await _run(mq, lambda known: deliveries.renew(known, queue, id, receipt, progress, None))
        return reply({"deadline": json_ready(renewed.deadline), "lease": renewed.lease})

    async def release(self, request: Request) -> Response:
        """Hand a message back."""
        queue, id, mq = await self._admit(request)
        receipt = _receipt(await self._small(request, {"receipt"}), id)
        await _run(mq, lambda known: deliveries.release(known, queue, id, receipt, None))
        return Response(status_code=204)

    async def _admit(self, request: Request) -> tuple[str, str, AsyncRedisQ]:
        queue, id = request.path_params["queue"], request.path_params["id"]
        grant = await self._guard.admit(request, "work", queue)
        query(request)
        return queue, id, self._context.acting_for(grant.app)

    async def _small(self, request: Request, known: set[str]) -> dict[str, Any]:
        return await _read(await Body(request, _SMALL).whole(), request, known)


class _Handover(Response):
    """Deliveries on their way to a worker. If it does not get them they go back."""

    def __init__(self, dispatcher: Dispatcher, handed: Handed, answer: Response) -> None:
        self._dispatcher, self._handed, self._answer = dispatcher, handed, answer
        self.status_code, self.background = answer.status_code, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        handed = self._handed
        if not handed.receipts:
            await self._answer(scope, receive, send)
            return
        line: Line | None = scope.get(LINE)
        try:
            if await _is_gone(receive):
                raise ClientGone
            if line is not None:
                line.watch(lambda: self._dispatcher.give_back(handed))
            await self._answer(scope, receive, send)
        except BaseException:
            if line is not None:
                line.heard()
            self._dispatcher.give_back(handed)
            raise
        if line is not None:
            line.sent()


async def _answer_of(waiter: Waiter) -> Handed:
    return await waiter.answer


async def _is_gone(receive: Receive) -> bool:
    """Return whether the client is known to have closed, as far as the loop can know by now."""
    message = asyncio.ensure_future(_disconnected(receive))
    try:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        return message.done()
    finally:
        message.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _run(mq: AsyncRedisQ, make: Callable[[Caller], Flow[T]]) -> T:
    return await async_client.run(mq, make)


async def _read(raw: bytes, request: Request, known: set[str], *, empty: bool = False) -> dict[str, Any]:
    """Read a body that is an object of known fields."""
    if empty and not raw:
        return {}
    type_of(request.scope, JSON)
    asked = await parsed(raw, parse_json)
    if not isinstance(asked, dict):
        raise BadRequest("The body must be a JSON object.")
    if asked.keys() - known:
        raise BadRequest(f"The body has a field that is not known here. There are: {', '.join(sorted(known))}.")
    return asked


def _whole(asked: dict[str, Any], name: str, default: int, most: int) -> int:
    value = whole(asked.get(name, default))
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise BadRequest(f"{name} takes a whole number from 1 to {most}.")
    return value


def _wait(asked: dict[str, Any]) -> float | None:
    value = asked.get("wait")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST:
        raise BadRequest(f"wait takes seconds, from 0 to {LONGEST:.0f}. Claim again to wait longer.")
    return value


def _text(asked: dict[str, Any], name: str, form: re.Pattern[str]) -> str | None:
    value = asked.get(name)
    if value is not None and not (isinstance(value, str) and form.fullmatch(value)):
        raise BadRequest(f"{name} takes text of the form {form.pattern}.")
    return value


def _receipt(asked: dict[str, Any], id: str) -> object:
    """Return the receipt, its form checked before anything is done."""
    receipt = asked.get("receipt")
    read_receipt(id, receipt)
    return receipt


def _error(asked: dict[str, Any]) -> tuple[str, str]:
    error = asked.get("error")
    if isinstance(error, dict) and error.keys() == {"type", "message"}:
        kind, text = error["type"], error["message"]
        if isinstance(kind, str) and isinstance(text, str):
            return kind, text
    raise BadRequest('error takes an object of two texts: {"type": "...", "message": "..."}.')
