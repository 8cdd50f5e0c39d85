"""Show the guide that travels with the package."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from redisq import guide as chapters
from redisq.cli import output


def guide(
    chapter: Annotated[str | None, typer.Argument(help="One of those that `redisq guide` lists.")] = None,
) -> None:
    """Read the guide: how to do something, what a setting means, what went wrong. Without a chapter, list them."""
    if chapter is None:
        for name in chapters.CHAPTERS:
            output.text(f"  {name:<16}{chapters.title_of(name)}")
        return
    text = chapters.read(chapter)
    if not sys.stdout.isatty():
        output.raw(text.rstrip("\n"))
        return
    from rich.markdown import Markdown

    output.console().print(Markdown(text))
