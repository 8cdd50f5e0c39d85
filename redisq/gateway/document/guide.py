"""The guide: its chapters as pages that need no script and nothing from outside."""

from __future__ import annotations

import re
from functools import cache, partial

from markupsafe import Markup, escape
from starlette.responses import Response

from redisq import guide
from redisq.gateway.document.styled import Page
from redisq.gateway.operation import Admitted, Operation
from redisq.gateway.requests.errors import HttpError

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


async def show(request: Admitted) -> Response:
    """Show a chapter, the first one where none is named."""
    name = request.path_params.get("chapter", guide.CHAPTERS[0])
    if name not in guide.CHAPTERS:
        raise HttpError(404, "not_found", "There is no such chapter.")
    return _shown(request.gateway.context.options.root_path, name).answer()


def read_all(root_path: str) -> None:
    """Make all pages now, as their files may be missing later."""
    for name in guide.CHAPTERS:
        _shown(root_path, name)


@cache
def _shown(root_path: str, name: str) -> Page:
    from markdown_it import MarkdownIt

    links = Markup(" · ").join(
        Markup('<a href="{}/_docs/guide/{}">{}</a>').format(root_path, other, other) for other in guide.CHAPTERS
    )
    body = MarkdownIt("js-default", {"html": False}).render(guide.read(name))
    body = re.sub(r'href="(?!https?:|#)([a-z]+)\.md"', rf'href="{escape(root_path)}/_docs/guide/\1"', body)
    page = partial(Markup(_PAGE).format, title=guide.title_of(name), chapters=links, root=root_path, body=Markup(body))
    return Page(lambda style: page(style=Markup(style)))


OPERATIONS = tuple(Operation("get", f"/_docs/guide{chapter}", "none", show) for chapter in ("", "/{chapter}"))
