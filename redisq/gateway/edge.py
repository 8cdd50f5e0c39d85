"""The outermost layer: what holds for every request, whatever becomes of it.

It has an id, its path is taken as it was sent, its answer has safe headers, an error that nobody expected becomes a
500 without internals, and one line of the log and the metrics tell of it.
"""

from __future__ import annotations

import logging
import os
import re
import time
import traceback

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redisq.errors import RedisQError
from redisq.gateway.errors import REQUEST_ID, BadRequest, ClientGone, NotFound, answer
from redisq.gateway.metrics import Meters
from redisq.gateway.sites import is_of_this_machine

log = logging.getLogger("redisq.gateway")

APPLICATION = "redisq.application"  # in the scope: who was admitted

_GONE = 499  # in the log and in metrics: the client did not wait for an answer
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PATH = re.compile(rb"/[A-Za-z0-9._~/-]*")  # of all addresses here; a percent sign could only hide something
_SECRET = re.compile(r"rq[sm]?1\.")  # what a token, a secret, a master key begins with: a path with one is not shown
_SHOWN = 200  # characters of a path
_OTHER_NAME = "This gateway asks nobody for a token, so it is for this machine alone: call it localhost, or 127.0.0.1."
_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]


class Edge:
    """Wraps the whole application. One that is for `this_machine` alone answers to no name but this machine's own."""

    def __init__(self, app: ASGIApp, meters: Meters, *, this_machine: bool) -> None:
        self._app = app
        self._meters = meters
        self._this_machine = this_machine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        request_id = scope[REQUEST_ID] = _request_id(scope)

        async def safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_safe(message.get("headers", ()), request_id)
            await send(message)

        self._meters.in_flight.inc()
        try:
            if self._this_machine and not is_of_this_machine(Headers(scope=scope).get("host", "")):
                await answer(scope, BadRequest(_OTHER_NAME))(scope, receive, safely)
            elif _take_raw_path(scope):
                await self._app(scope, receive, safely)
            else:
                await answer(scope, NotFound())(scope, receive, safely)
        except ClientGone:
            status = _GONE
        except Exception as error:
            _tell(request_id, error)
            if not status:  # else the server closes the connection, as the answer is not whole
                await answer(scope, RedisQError())(scope, receive, safely)
        finally:
            self._meters.in_flight.dec()
            seconds = time.perf_counter() - began
            self._meters.count(scope, status or _GONE, seconds)
            if log.isEnabledFor(logging.INFO):
                _log(scope, status or _GONE, seconds)


def _request_id(scope: Scope) -> str:
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return bytes(given[0]).decode("ascii")
    return os.urandom(12).hex()


def _take_raw_path(scope: Scope) -> bool:
    """Route on the path as it was sent: what is spelled in another way is another path, and there is none."""
    raw = scope.get("raw_path")
    if raw is None:
        raw = scope["path"].encode()
    if not _PATH.fullmatch(raw):
        return False
    scope["path"] = raw.decode("ascii")
    return True


def _with_safe(headers: list[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """Add the headers that every answer has, but for those that this one has in another form."""
    given = {name for name, _ in headers}
    safe = [header for header in _SAFE if header[0] not in given]
    return [*headers, *safe, (b"x-request-id", request_id.encode("ascii"))]


def _tell(request_id: str, error: Exception) -> None:
    """Log where an unexpected error came from; what it says could quote a message, and is left out."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = " < ".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in reversed(frames))
    log.error("request %s failed: %s at %s", request_id, type(error).__name__, where, extra={"request_id": request_id})


def _log(scope: Scope, status: int, seconds: float) -> None:
    path = scope["path"]
    shown = "(not shown)" if _SECRET.search(path) or not path.isascii() else path[:_SHOWN]
    client, application = (scope.get("client") or ("-",))[0], scope.get(APPLICATION, "-")
    request_id = scope[REQUEST_ID]
    fields = {"request_id": request_id, "application": application}
    log.info(
        "%s %s %d %.1f ms %s %s %s",
        scope["method"],
        shown,
        status,
        seconds * 1000,
        client,
        application,
        request_id,
        extra=fields,
    )
