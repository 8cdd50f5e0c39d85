"""The guide: chapters that are there, and how they are shown."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from redisq import InvalidArgument, guide
from redisq.cli.app import app

RUN = CliRunner()


def test_it_holds_the_chapters_that_it_names() -> None:
    assert len(guide.CHAPTERS) == len(set(guide.CHAPTERS)) >= 9
    for chapter in guide.CHAPTERS:
        assert guide.read(chapter).startswith(f"# {guide.title_of(chapter)}\n")


@pytest.mark.parametrize("name", ["nope", "", "../settings", "settings.md"])
def test_another_chapter_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"There is no chapter .* producing"):
        guide.read(name)


def test_the_command_lists_and_shows_them() -> None:
    listed = RUN.invoke(app, ["guide"]).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(guide.CHAPTERS)
    assert RUN.invoke(app, ["guide", "settings"]).stdout == guide.read("settings")
    refused = RUN.invoke(app, ["guide", "nope"])
    assert (refused.exit_code, refused.stdout) == (1, "")
