"""Where a handler's exception came from: the user's frames, bounded, without locals and without redisq's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from redisq.body import codec
from redisq.worker.handlers.tracebacks import traceback_of
from redisq.worker.handlers.verdicts import verdict_on_error

WHOLE = 4_096


def caught(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def charge(card: str = "hush-5f2c") -> None:
    raise ValueError("no stock")


def wrap() -> None:
    try:
        charge()
    except ValueError as error:
        raise RuntimeError("not charged") from error


def test_it_reads_like_pythons_own_and_holds_no_locals() -> None:
    told = traceback_of(caught(charge), WHOLE).splitlines()
    assert told[0] == "Traceback (most recent call last):"
    assert told[1].startswith(f'  File "{__file__}", line ')
    assert told[1].endswith(", in caught")
    assert told[2:3] + told[-2:] == ["    call()", '    raise ValueError("no stock")', "ValueError: no stock"]
    assert "hush" not in "\n".join(told[:3])


def test_redisqs_frames_are_left_out() -> None:
    told = traceback_of(caught(lambda: codec.encode(object())), WHOLE)
    assert "in <lambda>" in told
    assert "codec.py" not in told
    assert traceback_of(caught(lambda: codec.encode(object())).with_traceback(None), WHOLE) == ""


def test_other_frames_stay_as_long_as_there_is_room() -> None:
    def parse() -> None:
        json.loads("{")

    error = caught(parse)
    assert "json/decoder.py" in traceback_of(error, WHOLE)
    short = traceback_of(error, 450)
    assert "in parse" in short
    assert "frames are left out" in short
    assert "decoder.py" not in short
    assert len(short.encode()) <= 450


@pytest.mark.parametrize("most", [0, 1, 50, 150, 200, 300, 400, 1_000, 4_096])
def test_it_has_a_bound(most: int) -> None:
    def deep(left: int) -> None:
        if not left:
            raise ValueError("\U0001f4e6" * 1_000)
        (deep if left % 2 else deeper)(left - 1)

    def deeper(left: int) -> None:
        deep(left)

    told = traceback_of(caught(lambda: deep(100)), most)
    assert len(told.encode()) <= most
    assert bool(told) == (most > 0)
    wrapped = traceback_of(caught(wrap), most)
    assert len(wrapped.encode()) <= most
    assert wrapped.endswith("\nRuntimeError: not charged") or most < 400


def test_a_line_that_calls_itself_is_told_a_few_times() -> None:
    def forever() -> None:
        forever()

    told = traceback_of(caught(forever), WHOLE)
    assert told.count("in forever") == 3
    assert "frames are left out" in told
    assert told.rpartition("\n")[2].startswith("RecursionError: ")


def test_what_it_was_raised_from_comes_before_it() -> None:
    told = traceback_of(caught(wrap), WHOLE)
    first, link, last = told.partition("\n\nThe above exception was the direct cause of the following exception:\n\n")
    assert link
    assert first.endswith("\nValueError: no stock")
    assert last.endswith("\nRuntimeError: not charged")

    def handle() -> None:
        try:
            charge()
        except ValueError:
            {}["sku"]

    assert "During handling of the above exception, another exception occurred:" in traceback_of(caught(handle), WHOLE)


def test_a_group_is_told_with_its_leaves() -> None:
    async def work() -> None:
        charge()

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(work())

    told = traceback_of(caught(lambda: asyncio.run(both())), WHOLE)
    assert 'raise ValueError("no stock")' in told
    assert "The above exception is one of those of the following group:" in told


def test_causes_that_go_in_circles_or_have_no_end_are_bounded() -> None:
    error = caught(charge)
    error.__cause__ = RuntimeError("again")
    error.__cause__.__cause__ = error
    assert traceback_of(error, WHOLE).count("ValueError") == 2  # in the line that raises it, and below
    above: BaseException = error
    for number in range(10_000):
        other = ValueError(number)
        other.__cause__ = above
        above = other
    above.__traceback__ = error.__traceback__
    assert len(traceback_of(above, WHOLE)) <= WHOLE


class Hostile(Exception):
    """One whose every attribute is a trap."""

    def __str__(self) -> str:
        raise SystemExit(3)

    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt

    def with_traceback(self, _: Any) -> Any:
        raise KeyboardInterrupt


def test_an_exception_that_fights_back_is_told_all_the_same() -> None:
    def fight() -> None:
        raise Hostile

    verdict = verdict_on_error(caught(fight), WHOLE)
    assert "in fight" in verdict.error["traceback"]
    assert "its __str__ raised SystemExit" in verdict.error["message"]


def test_a_file_that_is_gone_has_no_lines() -> None:
    code = compile("def gone():\n    raise ValueError('\\udc80')\n", "/nowhere/sh\udc80op.py", "exec")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    told = traceback_of(caught(names["gone"]), WHOLE)
    assert 'File "/nowhere/sh?op.py", line 2, in gone\nValueError: ?' in told
