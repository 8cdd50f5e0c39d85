"""Pages as responses: templates filled in, headers that let nothing run but this page's own script, and errors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from redisq.errors import (
    Forbidden,
    InvalidQueueName,
    InvalidToken,
    MessageNotFound,
    MissingCredentials,
    QueueNotFound,
    RedisQError,
    TokenExpired,
    Unavailable,
    UpgradeNeeded,
)
from redisq.gateway.page import formats
from redisq.gateway.page.session import NOTICE, ROOT, BadForm, Sessions, Visitor
from redisq.gateway.requests.errors import TooManyRequests
from redisq.store.keys import check_queue_name

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
#: same-origin, as with no-referrer a browser would not say which site sends a form.
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Vary": "Cookie",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
#: What a notice says, by its word in the cookie.
NOTICES = {
    "paused": "Paused. Workers get nothing more from this queue until it is resumed.",
    "resumed": "Resumed. Workers get messages again.",
    "redriven": "Redriven: {count}.",
    "deleted": "Deleted.",
    "cancelled": "Cancelled.",
    "told": "Its worker is told. Refresh to see what came of it.",
    "finished": "It had finished before.",
    "signed-out": "You have signed out.",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error as a page: its status, a heading, and what to do."""

    status: int
    heading: str
    text: str


_TROUBLES: tuple[tuple[type[RedisQError], Trouble], ...] = (
    (
        Forbidden,
        Trouble(
            403, "Your token does not allow this", "Sign in with a token that does. Which queues exist is not told."
        ),
    ),
    (
        MessageNotFound,
        Trouble(
            404,
            "There is no such message",
            "It never was in this queue, it was deleted, or its retention has passed. An id is the lower-case text of "
            "a UUID.",
        ),
    ),
    (InvalidQueueName, Trouble(404, "There is no such queue", f"{InvalidQueueName.__doc__}")),
    (
        UpgradeNeeded,
        Trouble(503, "This gateway is too old", "The queue needs a newer gateway than this one. Nothing was changed."),
    ),
    (
        Unavailable,
        Trouble(
            503,
            "Redis is away",
            "The gateway cannot reach it, or it cannot serve now. Nothing is known to have changed. Where scripts run, "
            "this page tries again by itself, and shows what it should as soon as Redis is back.",
        ),
    ),
    (
        RedisQError,
        Trouble(500, "Something went wrong here", "The gateway's log tells more, under the id of this request."),
    ),
)
TOO_MANY = Trouble(
    429,
    "Too many requests",
    "This application, or this address, has asked for more than it may. Wait a little, and try again.",
)
NO_SUCH_QUEUE = Trouble(404, "There is no such queue", "")
NO_SUCH_PAGE = Trouble(404, "There is no such page", "The address is not one of this site. Begin with the queues.")

Shown: TypeAlias = Callable[[Request], Awaitable[Response]]
#: What is shown to a visitor who may see it, of the queue that the address names.
View: TypeAlias = Callable[[Request, Visitor, str], Awaitable[Response]]


class Pages:
    """Fills in templates and answers with them."""

    def __init__(self, sessions: Sessions, namespace: str) -> None:
        self.sessions = sessions
        self._namespace = namespace
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("redisq.gateway.page"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters.update(formats.FILTERS)
        self._templates.globals["static"] = self._static_address

    def read_all(self) -> None:
        """Read all templates now: later their files may be missing, or be newer than this code."""
        for name in self._templates.list_templates(extensions=["html"]):
            self._templates.get_template(name)

    def show(
        self, request: Request, template: str, visitor: Visitor | None, values: Mapping[str, Any], status: int = 200
    ) -> Response:
        """Answer with a page, and with the notice of what was just done."""
        told = _notice_of(request)
        common = {"root": self.sessions.root, "namespace": self._namespace, "visitor": visitor, "notice": told}
        asked = {"asks_nobody": self.sessions.asks_nobody, "here": self.address(request.scope["path"])}
        text = self._templates.get_template(template).render(**common, **asked, **values)
        response = HTMLResponse(text, status, HEADERS)
        if told:
            self.sessions.set_cookie(request, response, NOTICE, "", 0)
        return response

    def address(self, path: str) -> str:
        """Return the address of a path below ROOT as browsers see it."""
        return self.sessions.root + path.removeprefix(ROOT)

    def _static_address(self, name: str) -> str:
        return f"{self.sessions.root}/static/{name}?v={version_of(name)}"

    def go(self, request: Request, to: str, notice: str = "", count: int = 0) -> Response:
        """Answer what a form did: go to a page, which says so."""
        response = RedirectResponse(self.address(to), 303, HEADERS)
        if notice:
            self.sessions.set_cookie(request, response, NOTICE, f"{notice}.{count}", 60)
        return response

    def trouble(self, request: Request, visitor: Visitor | None, found: Trouble) -> Response:
        """Answer with an error."""
        request_id = request.scope.get("redisq.request_id", "")
        response = self.show(
            request, "trouble.html", visitor, {"trouble": found, "request_id": request_id}, found.status
        )
        if found.status == 503:
            response.headers["Retry-After"] = "2"
        return response

    def sign_in(self, request: Request, status: int = 200, problem: str = "", next: str = "") -> Response:
        """Answer with the form to sign in; `next` is where it leads."""
        values = {"problem": problem, "next": next or request.scope["path"]}
        return self.show(request, "sign_in.html", None, values, status)

    def guarded(self, op: str, view: View) -> Shown:
        """Show a view to whoever may do `op` on the queue that the address names; "" lets in every good token."""

        async def answer(request: Request) -> Response:
            named = request.path_params.get("queue", request.query_params.get("queue", "").strip())
            queue = check_queue_name(named) if op else ""
            visitor = await self.sessions.visitor(request)
            if op:
                self.sessions.require(request, visitor, op, queue)
            return await view(request, visitor, queue)

        return self.shown(answer)

    def shown(self, view: Shown) -> Shown:
        """Turn what a view raises into a page: no token leads to signing in."""

        async def answer(request: Request) -> Response:
            try:
                return await view(request)
            except MissingCredentials:
                return self.sign_in(request, 401)
            except TokenExpired:
                return self.sign_in(request, 401, "Your token has expired. Sign in with a new one.")
            except InvalidToken:
                return self.sign_in(request, 401, "The token is not valid. Sign in with another one.")
            except TooManyRequests as error:
                response = self.trouble(request, self.sessions.known(request), TOO_MANY)
                response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
                return response
            except BadForm as error:
                found = Trouble(403, "This form is not taken", str(error))
                return self.trouble(request, self.sessions.known(request), found)
            except QueueNotFound as error:
                return self.trouble(request, self.sessions.known(request), replace(NO_SUCH_QUEUE, text=str(error)))
            except RedisQError as error:
                found = next(trouble for kind, trouble in _TROUBLES if isinstance(error, kind))
                return self.trouble(request, self.sessions.known(request), found)

        return answer


@cache
def static_file(name: str) -> bytes:
    """Read a file of `static/`."""
    return (files("redisq.gateway.page") / "static" / name).read_bytes()


@cache
def version_of(name: str) -> str:
    """Name the text of a file of `static/`, so that another text has another address."""
    return hashlib.sha256(static_file(name)).hexdigest()[:12]


def _notice_of(request: Request) -> str:
    """Return the text of a notice: the cookie has its word and a number, so that nobody writes other texts here."""
    word, _, count = request.cookies.get(NOTICE, "").partition(".")
    if word not in NOTICES or not (count.isascii() and count.isdecimal() and len(count) < 13):
        return ""
    return NOTICES[word].format(count=f"{int(count):,}")
