"""Every option of the command line is spelled out; what Typer makes of a variable or a metavar is its own affair."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.models import OptionInfo

from redisq.cli.app import app

FLAG = re.compile(r"--[a-z]+(-[a-z]+)*|-[a-z]")


def callbacks(group: typer.Typer, name: str = "redisq") -> Iterator[tuple[str, Callable[..., Any]]]:
    if group.registered_callback and group.registered_callback.callback:
        yield name, group.registered_callback.callback
    for command in group.registered_commands:
        assert command.callback
        yield f"{name} {command.name}", command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance
        yield from callbacks(inner.typer_instance, f"{name} {inner.name}")


def commands(command: Any, name: str = "redisq") -> Iterator[tuple[str, Any]]:
    """Every command that Typer builds, with its name in full."""
    yield name, command
    for inner, made in getattr(command, "commands", {}).items():
        yield from commands(made, f"{name} {inner}")


def spelled(callback: Callable[..., Any]) -> dict[str, list[str]]:
    """The spellings of each option, as the source has them."""
    found = {}
    for parameter, hint in typing.get_type_hints(callback, include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, OptionInfo):  # inside Annotated, the first spelling stands in the default's place
                given = [mark.default, *(mark.param_decls or ())]
                found[parameter] = [text for text in given if isinstance(text, str) and text.startswith("-")]
    return found


@pytest.mark.parametrize(
    ("name", "callback"), list(callbacks(app)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_source_spells_every_option_in_lower_case(name: str, callback: Callable[..., Any]) -> None:
    for parameter, flags in spelled(callback).items():
        assert flags, f"{name}: {parameter} is spelled by its variable"
        assert all(FLAG.fullmatch(part) for flag in flags for part in flag.split("/")), f"{name}: {flags}"


def test_typer_takes_them_so() -> None:
    options: set[str] = set()
    for name, command in commands(get_command(app)):
        for parameter in command.params:
            if parameter.param_type_name == "option":
                flags = [*parameter.opts, *parameter.secondary_opts]
                assert all(FLAG.fullmatch(part) for flag in flags for part in flag.split("/")), f"{name}: {flags}"
                options.update(flags)
    assert {"--json", "--url", "--port", "--id", "-y", "--older-than", "--dedup-window"} <= options


def test_the_check_can_fail() -> None:
    def command(url: typing.Annotated[str, typer.Option(metavar="URL")] = "") -> None: ...

    assert spelled(command) == {"url": []}
