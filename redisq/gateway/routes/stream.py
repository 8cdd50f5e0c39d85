"""A stream of messages, one JSON document a line, answered line by line while it is still being read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from redisq.body.jsonlines import is_blank
from redisq.errors import BatchError, Forbidden, InvalidMessage, InvalidToken, RedisQError, Unavailable
from redisq.gateway.access.definitions import taking
from redisq.gateway.operation import Admitted
from redisq.gateway.requests.bodies import NDJSON, Body, parse_json, parsed, too_large
from redisq.gateway.requests.errors import TooManyRequests, described

_AT_ONCE = 1000  # lines; a thousand that are wrong take some 20 ms
_LONGEST_PAUSE = 1.0  # seconds
_HEADERS = [(b"content-type", NDJSON.encode()), (b"x-accel-buffering", b"no")]  # nginx passes each line on at once


class Lines(Response):
    """The answer to a stream: `{"id"}` or `{"error"}` for each of its lines that is not blank, in their order.

    What comes in one read is queued in batches, and answered before more is read; so a client that does not read
    answers is not read from either, and no more is held than one line and what came in one read. Each batch counts as
    a request of its application: one that is at its rate is read from more slowly. The stream ends early,
    after the answers to what was read, when Redis cannot be reached or the token is not good any more. A client that
    goes away is noticed at the next read: what was read until then is in the queue.
    """

    def __init__(self, request: Admitted, limit: int, made: Callable[[Any], Any]) -> None:
        self._request = request
        self._limit = limit
        self._made = made  # what is queued for a document

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer."""
        started = False
        async for lines in self._read():
            if started:
                await self._pace()
            answers, goes_on = await self._answer(lines)
            if not started:
                await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
                started = True
            await send({"type": "http.response.body", "body": _written(answers), "more_body": True})
            if not goes_on:
                break
        if not started:
            await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
        await send({"type": "http.response.body", "body": b""})

    async def _read(self) -> AsyncIterator[list[bytes | None]]:
        """Return the lines that are not blank as they come, some at once.

        None stands for each that is too long, of which nothing is kept.
        """
        rest, over = bytearray(), False
        async for part in Body(self._request, self._limit).pieces():
            *ends, last = part.split(b"\n")
            lines: list[bytes | None] = []
            for end in ends:
                if not (end or rest or over):
                    continue
                over = over or len(rest) + len(end) > self._limit
                line = bytes(rest + end)
                if over or not is_blank(line):
                    lines.append(None if over else line)
                rest, over = bytearray(), False
            over = over or len(rest) + len(last) > self._limit
            if over:
                rest = bytearray()
            else:
                rest += last  # in place: a line may come in very many parts
            await asyncio.sleep(0)  # one read may be 256 KiB of bare ends of lines: others have their turn
            for first in range(0, len(lines), _AT_ONCE):
                yield lines[first : first + _AT_ONCE]
                await asyncio.sleep(0)
        if over or not is_blank(rest):
            yield [None if over else bytes(rest)]

    async def _answer(self, lines: Sequence[bytes | None]) -> tuple[list[dict[str, Any]], bool]:
        """Queue what can be read, and give an answer to each line, and whether to go on."""
        answers: list[dict[str, Any]] = [{} for _ in lines]
        places: list[int] = []
        messages: list[Any] = []
        for place, line in enumerate(lines):
            try:
                messages.append(await self._parse(line))
                places.append(place)
            except InvalidMessage as error:
                answers[place] = _refusal(error)
        ids, errors = await self._queue_all(messages)
        for index, place in enumerate(places):
            refused, id = errors.get(index), ids[index] if ids else None
            answers[place] = {"id": id} if refused is None else _refusal(refused, id)
        return answers, not any(_ends(error) for error in errors.values())

    async def _pace(self) -> None:
        """Wait until its application may send another request."""
        while True:
            try:
                return await self._request.gateway.guard.limits.admit(self._request.grant.app)
            except TooManyRequests as error:
                await asyncio.sleep(min(error.retry_after, _LONGEST_PAUSE))

    async def _parse(self, line: bytes | None) -> Any:
        if line is None:
            raise too_large(self._limit)
        return self._made(await parsed(line, parse_json))

    async def _queue_all(self, messages: Sequence[Any]) -> tuple[list[str], Mapping[int, Exception]]:
        request = self._request
        if not messages:
            return [], {}
        try:
            await request.gateway.guard.again(request, "queue", request.queue)
            with taking(request.queue):
                return await request.mq.queue_messages(request.queue, messages), {}
        except BatchError as error:
            return error.ids, error.errors
        except (RedisQError, TooManyRequests) as error:
            return [], dict.fromkeys(range(len(messages)), error)


def _ends(error: Exception) -> bool:
    """Return whether an error is not of its message alone."""
    return isinstance(error, Unavailable | InvalidToken | Forbidden | TooManyRequests)


def _refusal(error: Exception, id: str | None = None) -> dict[str, Any]:
    """Return why a line was refused; with its id when it may be in the queue all the same."""
    known = {"id": id} if id is not None and isinstance(error, Unavailable) else {}
    return {"error": {**described(error), **known}}


def _written(answers: Sequence[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(answer, ensure_ascii=False)}\n" for answer in answers).encode()
