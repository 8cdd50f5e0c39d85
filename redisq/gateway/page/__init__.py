"""The page: what a person opens to see what is going on, at `/_ui`.

It reads and acts through the same guard and the same client as every other route. It works without scripts; the script
asks for the same pages again and puts new figures in place of old ones.

Beside it: access, context, middleware, requests, server.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from redisq.errors import InvalidToken, TokenExpired
from redisq.gateway.access.guard import Guard
from redisq.gateway.context import Context
from redisq.gateway.page.actions import OF_MESSAGE, OF_QUEUE, Actions
from redisq.gateway.page.history import History
from redisq.gateway.page.responses import HEADERS, NO_SUCH_PAGE, Pages, Shown, View, static_file, version_of
from redisq.gateway.page.session import ROOT, Sessions, form_of
from redisq.gateway.page.views import Views

_OWN_PATH = re.compile(rf"{ROOT}(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}  # at the address of its own that each text has


def routes(context: Context, guard: Guard) -> list[BaseRoute]:
    """Return the page's routes."""
    sessions = Sessions(context, guard)
    pages = Pages(sessions, context.settings.namespace)
    context.readings.extend([pages.read_all, *(partial(static_file, name) for name in _STATIC)])
    history = History(context.acting_for("").stats, context.stopping)
    views, actions = Views(context, pages, history), Actions(context, pages)
    entrance = _Entrance(pages)
    queue, message = f"{ROOT}/queues/{{queue}}", f"{ROOT}/queues/{{queue}}/messages/{{id}}"
    #: What a token has to allow on the queue that the address names; "" for any good token.
    guarded: list[tuple[str, str, View, str]] = [
        (ROOT, "", views.queues, "GET"),
        (f"{ROOT}/find", "get", views.find, "GET"),
        (queue, "stats", views.queue, "GET"),
        (message, "get", views.message, "GET"),
        *(
            (f"{place}/{word}", action.op, actions.handling(action), "GET POST")
            for place, known in ((queue, OF_QUEUE), (message, OF_MESSAGE))
            for word, action in known.items()
        ),
    ]
    #: What everybody may see.
    open_to_all: list[tuple[str, Shown, str]] = [
        (f"{ROOT}/sign-in", entrance.sign_in, "GET POST"),
        (f"{ROOT}/sign-out", entrance.sign_out, "POST"),
        *((f"{ROOT}/static/{name}", _static(name), "GET") for name in _STATIC),
        (f"{ROOT}/{{rest:path}}", entrance.nothing, "GET POST"),
    ]
    return [
        *(Route(path, pages.guarded(op, view), methods=methods.split()) for path, op, view, methods in guarded),
        *(Route(path, pages.shown(view), methods=methods.split()) for path, view, methods in open_to_all),
    ]


class _Entrance:
    """Signing in and out, and the addresses that lead nowhere."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def sign_in(self, request: Request) -> Response:
        """Show the form, or take it."""
        sessions = self._pages.sessions
        if sessions.asks_nobody:
            return self._pages.go(request, ROOT)
        if request.method != "POST":
            return self._pages.sign_in(request, next=ROOT)
        form = await form_of(request, None)
        to = form.get("next", ROOT)
        to = to if _OWN_PATH.fullmatch(to) and not to.startswith(f"{ROOT}/sign-") else ROOT
        response = self._pages.go(request, to)
        try:
            await sessions.sign_in(request, form.get("token", "").strip(), response)
        except TokenExpired:
            return self._pages.sign_in(request, 401, "This token has expired. Make a new one.", to)
        except InvalidToken:
            return self._pages.sign_in(request, 401, "This token is not valid. Paste all of it, without quotes.", to)
        return response

    async def sign_out(self, request: Request) -> Response:
        """Let the browser forget the token."""
        await form_of(request, self._pages.sessions.known(request))  # whose token may be good no more
        response = self._pages.go(request, f"{ROOT}/sign-in", "signed-out")
        self._pages.sessions.sign_out(request, response)
        return response

    async def nothing(self, request: Request) -> Response:
        """Say that there is no such page."""
        if request.scope["path"] == f"{ROOT}/":
            return RedirectResponse(self._pages.sessions.root, 308, HEADERS)
        return self._pages.trouble(request, self._pages.sessions.known(request), NO_SUCH_PAGE)


def _static(name: str) -> Callable[[Request], Awaitable[Response]]:
    own = f"v={version_of(name)}".encode()

    async def answer(request: Request) -> Response:
        """Return a file as it is now. A page of another gateway, older or newer, may have asked for another text."""
        kept = _KEPT if request.scope["query_string"] == own else {}
        return Response(static_file(name), media_type=_STATIC[name], headers={**HEADERS, **kept})

    return answer
