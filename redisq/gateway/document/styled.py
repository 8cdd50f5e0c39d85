"""A page that needs no script and nothing from outside: its style sheet is in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files

from starlette.responses import Response

HTML = "text/html; charset=utf-8"


class Page:
    """A page as `write` makes it of the style sheet, with the policy that lets this in and nothing else."""

    def __init__(self, write: Callable[[str], str]) -> None:
        style = files(__package__).joinpath("docs.css").read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
        self._text = write(style).encode()
        self._policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )

    def answer(self) -> Response:
        """Answer with it."""
        return Response(self._text, media_type=HTML, headers={"Content-Security-Policy": self._policy})
