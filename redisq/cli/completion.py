"""What a shell completes: its script is Typer's; names of queues are those that Redis knows, if it answers at once."""

from __future__ import annotations

import contextlib
import threading
from typing import Annotated, Literal, TypeAlias

import typer
from typer import completion

_PATIENCE = 1.0  # seconds that a press of the Tab key may take

Shell: TypeAlias = Literal["bash", "zsh", "fish"]
Show = Annotated[
    Shell | None,
    typer.Option("--show-completion", callback=completion.show_callback, help="Print a shell's completion script."),
]
Install = Annotated[
    Shell | None,
    typer.Option("--install-completion", callback=completion.install_callback, help="Install it for this user."),
]

completion.completion_init()  # type: ignore[attr-defined]  # as Typer does for options of its own


def queue_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of queues that begin so. Without an answer there are none; nothing is said."""
    found: list[str] = []
    url, token = ctx.params.get("url"), ctx.params.get("token")
    look = threading.Thread(target=_look, args=(url, token, found), daemon=True)
    look.start()
    look.join(_PATIENCE)
    return [name for name in found if name.startswith(incomplete)]


def _look(url: str | None, token: str | None, found: list[str]) -> None:
    with contextlib.suppress(Exception):
        from redisq.client import RedisQ
        from redisq.settings import Settings

        settings = Settings.merged(None, url)
        if settings.url.startswith("embedded:"):
            return  # a press of a key starts no server
        with RedisQ(settings=settings.model_copy(update={"retry_deadline": 0.0})) as mq:
            found += mq.queues(token)
