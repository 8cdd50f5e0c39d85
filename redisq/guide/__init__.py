"""The guide: chapters for people, as text that travels with the package.

Imports: errors.
"""

from __future__ import annotations

from importlib.resources import files

from redisq.errors import InvalidArgument

#: In the order in which they are read.
CHAPTERS = (
    *("installing", "producing", "working", "testing", "managing", "http", "settings"),
    *("frameworks", "patterns", "migrating", "notebooks"),
    *("production", "platforms", "promises", "performance", "troubleshooting"),
)


def read(chapter: str) -> str:
    """Return a chapter as Markdown.

    Raises:
        InvalidArgument: there is no such chapter.
    """
    if chapter not in CHAPTERS:
        raise InvalidArgument(f"There is no chapter {chapter[:40]!r}. The guide has {', '.join(CHAPTERS)}.")
    return files(__name__).joinpath(f"{chapter}.md").read_text("utf-8")


def title_of(chapter: str) -> str:
    """Return a chapter's first heading."""
    return read(chapter).partition("\n")[0].removeprefix("# ")
