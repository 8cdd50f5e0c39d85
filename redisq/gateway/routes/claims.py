"""Workers in any language: claim messages, and settle each delivery by its receipt.

409 `lease_lost`: the receipt is stale; stop working on the message. The same request again is answered as the first.
A result that cannot be stored ends the message as ERROR, reason `rejected`: 413, or 422 when JSON can say it and a
message cannot. A body beyond what is read at all is 413, too, and then the message is in progress still: fail it.

A client that goes away while it waits, or before it has read its deliveries, hands them back at once, uncharged.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import nullcontext
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from redisq import async_client
from redisq.body import codec
from redisq.errors import InvalidMessage, MessageTooLarge
from redisq.gateway.access.guard import address_of
from redisq.gateway.operation import Admitted, Answer, Operation, links
from redisq.gateway.requests.bodies import JSON, Body, limit_of, parse_json, parsed, whole
from redisq.gateway.requests.errors import BadRequest, ClientGone, HttpError, reply
from redisq.gateway.requests.queries import preferred_wait
from redisq.gateway.routes.messages import PREFER
from redisq.gateway.server.unread import LINE, Line
from redisq.gateway.work.dispatcher import Dispatcher
from redisq.gateway.work.waiters import Handed, Waiter
from redisq.gateway.work.waits import LONGEST
from redisq.model.message import json_ready
from redisq.operations import deliveries
from redisq.operations.deliveries import read_receipt

_MOST = 100  # messages of one claim
_SMALL = 16 * 1024  # bytes of a body without anything of a message
_LARGER = 64 * 1024  # bytes of one that may have a traceback
_WORKER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NONCE = re.compile(r"[A-Za-z0-9_-]{12}")
_TURNS = 4  # of the loop, until what its selector has seen of a closed connection has got here


async def claim(request: Admitted) -> Response:
    """Return messages to a worker, at once or when there are some."""
    queue, app, guard = request.queue, request.grant.app, request.gateway.guard
    asked = await _read(request, {"max", "wait", "worker", "claim"})
    count, wait = _whole(asked, "max", 1, _MOST), _wait(asked)
    headers: dict[str, str] = {}
    if wait is None and (wait := preferred_wait(request, LONGEST)) is not None:
        headers["Preference-Applied"] = f"wait={wait:.0f}"
    worker, nonce = _text(asked, "worker", _WORKER), _text(asked, "claim", _NONCE)
    if nonce is not None and worker is None:
        raise BadRequest("claim goes with worker: whose last claim would it be?")
    if worker is not None:
        worker = f"{app or '-'}:{worker}"
    dispatcher = request.gateway.dispatchers.of(queue)
    with guard.limits.waiting(app, address_of(request.scope)) if wait else nullcontext():
        handed = await _handed(request, dispatcher, dispatcher.join(count, wait or 0.0, worker, nonce))
    try:
        await guard.again(request, "work", queue)
    except BaseException:
        dispatcher.give_back(handed)
        raise
    body = {"deliveries": [delivery.to_dict() for delivery in handed.deliveries], "lease": handed.lease}
    return _Handover(dispatcher, handed, reply(body, headers=headers))


async def _handed(request: Admitted, dispatcher: Dispatcher, waiter: Waiter) -> Handed:
    """Wait in line. One whose client goes leaves it, and so do all when the gateway stops."""
    try:
        handed = await request.gateway.context.waits.run(request.receive, _answer_of(waiter))
    except BaseException:
        dispatcher.leave(waiter)
        raise
    if handed is None:
        dispatcher.leave(waiter)
        return dispatcher.nothing()
    return handed


async def complete(request: Admitted) -> Response:
    """End a message with its result."""
    queue, id = request.queue, request.id
    asked = await _object(request, await request.read_message(JSON), {"receipt", "result"})
    receipt, result = _receipt(asked, id), asked.get("result")
    try:
        await async_client.run(request.mq, lambda known: deliveries.complete(known, queue, id, receipt, result, None))
    except MessageTooLarge:
        raise
    except InvalidMessage as error:
        raise HttpError(422, error.code, f"The result cannot be stored. {error}") from None
    return Response(status_code=204)


async def fail(request: Admitted) -> Response:
    """End a delivery with an error."""
    queue, id = request.queue, request.id
    asked = await _read(request, {"receipt", "error", "retry_after", "final"}, _LARGER)
    receipt, error, final = _receipt(asked, id), _error(asked), asked.get("final", False)
    retry_after = asked.get("retry_after")
    if not isinstance(final, bool):
        raise BadRequest("final takes true or false.")
    delay = await async_client.run(
        request.mq,
        lambda known: deliveries.fail(known, queue, id, receipt, error, None, retry_after=retry_after, final=final),
    )
    return reply({"retry_in": delay})


async def renew(request: Admitted) -> Response:
    """Renew a lease, and show a message's progress."""
    queue, id = request.queue, request.id
    asked = await _read(request, {"receipt", "progress"}, limit_of(JSON, codec.DEFAULT_MAX_BYTES))
    receipt = _receipt(asked, id)
    progress = codec.encode(asked["progress"]) if "progress" in asked else b""
    renewed = await async_client.run(
        request.mq, lambda known: deliveries.renew(known, queue, id, receipt, progress, None)
    )
    answer = {"deadline": json_ready(renewed.deadline), "lease": renewed.lease, "cancelled": renewed.cancelled}
    return reply(answer)


async def release(request: Admitted) -> Response:
    """Hand a message back, at once or deferred."""
    queue, id = request.queue, request.id
    asked = await _read(request, {"receipt", "after"})
    receipt, after = _receipt(asked, id), asked.get("after")
    await async_client.run(request.mq, lambda known: deliveries.release(known, queue, id, receipt, None, after=after))
    return Response(status_code=204)


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


async def _read(request: Admitted, known: set[str], limit: int = _SMALL) -> dict[str, Any]:
    return await _object(request, await Body(request, limit).whole(), known)


async def _object(request: Admitted, raw: bytes, known: set[str]) -> dict[str, Any]:
    """Read a body that is an object of known fields."""
    if not (raw or request.operation.needs_body):
        return {}
    request.type_of_body()
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


def _error(asked: dict[str, Any]) -> dict[str, str]:
    error = asked.get("error")
    if isinstance(error, dict) and {"type", "message"} <= error.keys() <= {"type", "message", "traceback"}:
        texts = {name: text for name, text in error.items() if isinstance(text, str)}
        if texts.keys() == error.keys():
            return texts
    raise BadRequest('error takes an object of texts: {"type": "...", "message": "..."}, maybe with a "traceback".')


_FIRST = "$response.body#/deliveries/0"
_SETTLE = links("complete", "fail", "renew", "release", id=f"{_FIRST}/id", requestBody={"receipt": f"{_FIRST}/receipt"})
_RECEIPT = {"receipt": "1.Xk3nRw_0aLpQ"}
_ERROR = {"type": "Timeout", "message": "the bank did not answer"}
_FAILS = ("message_not_found", "lease_lost")

OPERATIONS = (
    Operation(
        "post", "/{queue}/_claim", "work", claim, "claim", "Claim messages to work on",
        "With `worker` and a `claim` of 12 random characters the same request again gets the same deliveries. `Prefer: "
        "wait=S` serves in place of `wait`. A client that goes away hands back what it was about to get. Of "
        "large messages there may be fewer than `max`: they have 16 MiB together at most, a larger one comes alone.",
        [Answer(200, "The deliveries, if there are any.", "Claimed", headers=["Preference-Applied"], links=_SETTLE)],
        headers=[PREFER], body={JSON: ("Claim", {"max": 10, "wait": 20})}, needs_body=False,
    ),
    Operation(
        "post", "/{queue}/{id}/_complete", "work", complete, "complete", "Complete a delivery with its result",
        "A result that cannot be stored ends the message as ERROR, reason `rejected`: 413 or 422.",
        [Answer(204, "It is complete.")], [*_FAILS, "invalid_result"],
        body={JSON: ("Completion", {**_RECEIPT, "result": {"total": 5}})},
    ),
    Operation(
        "post", "/{queue}/{id}/_fail", "work", fail, "fail", "Fail a delivery",
        "With `final` the message has ended; else it is tried again, as long as attempts are left.",
        [Answer(200, "Seconds to the next attempt, or null.", "Failed", example={"retry_in": 2.5})], _FAILS,
        body={JSON: ("Failure", {**_RECEIPT, "error": _ERROR})},
    ),
    Operation(
        "post", "/{queue}/{id}/_renew", "work", renew, "renew", "Renew a delivery's lease",
        "It can show progress, too.", [Answer(200, "When it lapses now.", "Renewed")], _FAILS,
        body={JSON: ("Renewal", {**_RECEIPT, "progress": 0.5})},
    ),
    Operation(
        "post", "/{queue}/{id}/_release", "work", release, "release", "Hand a delivery back",
        "No attempt is charged. With `after` it is deferred: nobody gets it for so many seconds.",
        [Answer(204, "It waits again.")], _FAILS, body={JSON: ("Release", {**_RECEIPT, "after": 30})},
    ),
)  # fmt: skip
