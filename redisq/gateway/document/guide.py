"""The routes of the guide: its chapters as pages that need no script and nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redisq import guide
from redisq.gateway.requests.errors import HttpError
from redisq.gateway.requests.queries import query

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: the guide of redisq</title>
<style>{style}</style>
</head>
<body>
<nav aria-label="Chapters"><p>{chapters} · <a href="{root}/_docs">the API</a></p></nav>
<main>
{body}
</main>
</body>
</html>
"""


def routes(root_path: str) -> list[Route]:
    """Return the routes, of a gateway that stands under a path."""

    async def show(request: Request) -> Response:
        """Show a chapter, the first one where none is named."""
        query(request)
        name = request.path_params.get("chapter", guide.CHAPTERS[0])
        if name not in guide.CHAPTERS:
            raise HttpError(404, "not_found", "There is no such chapter.")
        page, policy = _shown(root_path, name)
        return Response(page, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})

    return [
        Route("/_docs/guide", show, methods=["GET"]),
        Route("/_docs/guide/{chapter}", show, methods=["GET"]),
    ]


def read_all(root_path: str) -> None:
    """Make all pages now, as their files may be missing later."""
    for name in guide.CHAPTERS:
        _shown(root_path, name)


@cache
def _shown(root_path: str, name: str) -> tuple[bytes, str]:
    """Make a page, and the policy that lets its own style sheet in and nothing else."""
    from markdown_it import MarkdownIt

    style = files("redisq.gateway.document").joinpath("docs.css").read_text("utf-8")
    links = Markup(" · ").join(
        Markup('<a href="{}/_docs/guide/{}">{}</a>').format(root_path, other, other) for other in guide.CHAPTERS
    )
    body = MarkdownIt("js-default", {"html": False}).render(guide.read(name))
    body = re.sub(r'href="(?!https?:|#)([a-z]+)\.md"', rf'href="{escape(root_path)}/_docs/guide/\1"', body)
    page = Markup(_PAGE).format(
        title=guide.title_of(name), style=Markup(style), chapters=links, root=root_path, body=Markup(body)
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.encode(), policy
