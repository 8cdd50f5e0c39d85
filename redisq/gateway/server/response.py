"""One request on a connection, and its answer: uvicorn's cycle, with an answer that leaves in one piece.

uvicorn writes an answer's head and its body one after the other, two system calls; it searches each header's name and
value for what may not be there, calls two coroutines around the application and gives each of its tasks a closure.
Of a `POST /{queue}` all of that took 7 of 59 us (CPU, in process, without sockets), and the second system call.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

log = logging.getLogger("redisq.gateway.server")

#: A head's lines behind its first: names as ASGI wants them, in lower case, and values that end no line.
_LINES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9a-z-]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n")
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Cycle(RequestResponseCycle):
    """A request that the application answers."""

    _head = b""  # of the answer, until the first part of its body is there

    async def run_asgi(self, app: Any) -> None:
        """Run the application; one that is cancelled because its time is over ends quietly."""
        try:
            await app(self.scope, self.receive, self.send)
        except (Exception, asyncio.CancelledError) as error:
            if not (self.disconnected and isinstance(error, asyncio.CancelledError)):
                log.error("the application failed", exc_info=error)
        if not self.response_complete and not self.disconnected:
            await self._give_up()
        self.on_response = _nothing  # which refers to the connection, as that does to its cycle

    async def _give_up(self) -> None:
        """End a request that was not answered to its end; half an answer must not pass for a whole one."""
        if self.response_started:
            self.transport.close()
        else:
            await self.send_500_response()

    async def send(self, message: Any) -> None:
        """Take a part of the answer. The head waits for the first part of the body, and they are written as one."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_complete:
            raise RuntimeError("the answer is complete already")
        if self.response_started:
            self._go_on(message)
        else:
            self._begin(message)

    def _begin(self, message: Mapping[str, Any]) -> None:
        if message["type"] != "http.response.start":
            raise RuntimeError(f"an answer does not begin with {message['type']}")
        self.response_started, self.waiting_for_100_continue = True, False
        headers, status = [*self.default_headers, *message.get("headers", ())], message["status"]
        named = dict(headers)
        if b"content-length" in named:
            self.expected_content_length = int(named[b"content-length"])
        elif self.scope["method"] != "HEAD" and status not in _BODILESS:
            self.chunked_encoding = True
            headers.append((b"transfer-encoding", b"chunked"))
        if named.get(b"connection", b"").lower() == b"close":
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append((b"connection", b"close"))
        lines = b"\r\n".join([*map(b": ".join, headers), b"\r\n"])
        if lines.count(b"\r\n") != len(headers) + 1 or not _LINES.fullmatch(lines):
            raise RuntimeError("a header of the answer is malformed")
        self._head = STATUS_LINE[status] + lines

    def _go_on(self, message: Mapping[str, Any]) -> None:
        if message["type"] != "http.response.body":
            raise RuntimeError(f"an answer does not go on with {message['type']}")
        body, ends = message.get("body", b""), not message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            body, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            body = _chunk(body) + b"0\r\n\r\n" * ends
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (ends and self.expected_content_length):
                raise RuntimeError("the body is not as long as Content-Length says")
        self.transport.write(self._head + body)
        self._head = b""
        if ends:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


def _nothing() -> None:
    pass
