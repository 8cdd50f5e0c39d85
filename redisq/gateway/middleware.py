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

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redisq.errors import RedisQError
from redisq.gateway.metrics import Meters
from redisq.gateway.requests.errors import REQUEST_ID, ROOT, ClientGone, NotFound, answer
from redisq.gateway.requests.fields import values

log = logging.getLogger("redisq.gateway")

APPLICATION = "redisq.application"  # in the scope: who was admitted

_GONE = 499  # in the log and in metrics: the client did not wait for an answer
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PATH = re.compile(rb"/[A-Za-z0-9._~/-]*")  # of all addresses here; a percent sign could only hide something
_SECRET = re.compile(r"rq[sm]?1[.%]")  # what a token, a secret, a master key begins with: a path with one is not shown
_ODD = re.compile(r"[^!-~]")  # what could end a word or a line of the log, or control a terminal
_PREFIX = b"x-forwarded-prefix"
_SHOWN = 200  # characters of a path
_LINE = "%s %s %d %.1f ms %s %s %s"
_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_SAFE_NAMES = frozenset(name for name, _ in _SAFE)


class Outermost:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, meters: Meters, root_path: str = "") -> None:
        self._app = app
        self._meters = meters
        self._root_path = root_path
        line = logging.LogRecord(log.name, logging.INFO, __file__, 0, _LINE, (), None, "Outermost")
        self._record = dict(vars(line))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        request_id = scope[REQUEST_ID] = _request_id(scope)
        scope[ROOT] = self._root_path

        async def safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_safe(message.get("headers", ()), request_id)
            await send(message)

        self._meters.in_flight += 1
        try:
            if _take_raw_path(scope):
                await self._app(scope, receive, safely)
            else:
                await answer(scope, NotFound(self._root_path))(scope, receive, safely)
        except ClientGone:
            status = _GONE
        except Exception as error:
            _tell(request_id, error)
            if not status:  # else the server closes the connection, as the answer is not whole
                await answer(scope, RedisQError())(scope, receive, safely)
        finally:
            self._meters.in_flight -= 1
            seconds = time.perf_counter() - began
            self._meters.count(scope, status or _GONE, seconds)
            if log.isEnabledFor(logging.INFO):
                self._log(scope, status or _GONE, seconds)

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        """Log a request, by a copy of a record."""
        # fast: to look up the caller, thread and process is 8 % of a POST's CPU (`make bench`, POST /{queue})
        request_id, now = scope[REQUEST_ID], time.time()
        client, application = (scope.get("client") or ("-",))[0], scope.get(APPLICATION) or "-"
        method, path = _word(scope["method"]), _shown(scope)
        record = object.__new__(logging.LogRecord)
        vars(record).update(
            self._record,
            args=(method, path, status, seconds * 1000, client, application, request_id),
            created=now,
            msecs=now % 1 * 1000 // 1,
            request_id=request_id,
            application=application,
            method=method,
            path=path,
            status=status,
            duration=round(seconds, 6),
        )
        log.handle(record)


def _shown(scope: Scope) -> str:
    """Return a path as the log shows it: as it was sent, since what that stands for may be anything."""
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or b""
    sent = raw.decode("latin-1") if b"%" in raw else path
    return "(not shown)" if _SECRET.search(path) or _SECRET.search(sent) else _word(sent[:_SHOWN])


def _word(text: str) -> str:
    """Give text as one word that is safe to show; what is not is written like in a URL."""
    return _ODD.sub(lambda found: f"%{ord(found[0]):02X}", text) if _ODD.search(text) else text


def _request_id(scope: Scope) -> str:
    given = values(scope, b"x-request-id")
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return os.urandom(12).hex()


def _take_raw_path(scope: Scope) -> bool:
    """Route on the path as it was sent: what is spelled in another way is another path, and there is none."""
    raw = scope.get("raw_path")
    if raw is None:
        raw = scope["path"].encode()
    if not _PATH.fullmatch(raw):
        return False
    scope["path"] = _below(scope[ROOT], raw.decode("ascii"), scope)
    return True


def _below(root: str, path: str, scope: Scope) -> str:
    """Return a path without the root that it may begin with; a proxy that says what it took away left none."""
    if not root or not (path + "/").startswith(root + "/") or list(values(scope, _PREFIX)) == [root.encode()]:
        return path
    return path[len(root) :] or "/"


def _with_safe(headers: list[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """Add the headers that every answer has, but for those that this one has in another form."""
    own = (b"x-request-id", request_id.encode("ascii"))
    given = [name for name, _ in headers if name in _SAFE_NAMES]
    if not given:
        return [*headers, *_SAFE, own]
    return [*headers, *(header for header in _SAFE if header[0] not in given), own]


def _tell(request_id: str, error: Exception) -> None:
    """Log where an unexpected error came from; what it says could quote a message, and is left out."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = " < ".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in reversed(frames))
    log.error("request %s failed: %s at %s", request_id, type(error).__name__, where, extra={"request_id": request_id})
