"""The gateway's log: what one turn of the loop logs is written at once, in order, and nothing is lost."""

from __future__ import annotations

import asyncio
import io
import logging
import subprocess
import sys
from collections.abc import Callable

import pytest

from redisq.gateway.journal import TurnHandler


class Writes(io.StringIO):
    """A stream that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.each: list[str] = []

    def write(self, text: str) -> int:
        """Take a write down."""
        self.each.append(text)
        return len(text)


@pytest.fixture
def writes() -> Writes:
    return Writes()


@pytest.fixture
def log(writes: Writes) -> Callable[[str, int], None]:
    handler = TurnHandler()
    handler.setStream(writes)
    handler.setFormatter(logging.Formatter("%(message)s"))

    def tell(text: str, level: int = logging.INFO) -> None:
        handler.handle(logging.LogRecord("x", level, "", 0, text, (), None))

    return tell


def test_the_lines_of_a_turn_are_one_write(writes: Writes, log: Callable[..., None]) -> None:
    async def turns() -> None:
        for turn in ("1", "2"):
            for line in ("a", "b", "c"):
                log(turn + line)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(turns())
    assert writes.each == ["1a\n1b\n1c\n", "2a\n2b\n2c\n"]


def test_a_warning_is_written_at_once_behind_what_waits(writes: Writes, log: Callable[..., None]) -> None:
    async def turn() -> None:
        log("before")
        log("trouble", logging.WARNING)
        assert writes.each == ["before\ntrouble\n"]
        log("after")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert writes.each[1:] == ["after\n"]


def test_without_a_loop_each_line_is_written_at_once(writes: Writes, log: Callable[..., None]) -> None:
    log("one")
    log("two")
    assert writes.each == ["one\n", "two\n"]


def test_a_line_that_cannot_be_written_is_told_and_the_next_one_is(
    writes: Writes, log: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    log("%d of nothing")  # no arguments: written as it is
    broken = logging.LogRecord("x", logging.INFO, "", 0, "%d", ("no number",), None)
    handler = TurnHandler()
    handler.setStream(writes)
    handler.handle(broken)
    assert "--- Logging error ---" in capsys.readouterr().err
    log("next")
    assert writes.each == ["%d of nothing\n", "next\n"]


def test_what_waits_is_written_when_the_process_ends() -> None:
    program = """
import asyncio, logging
from redisq.gateway.journal import TurnHandler
logging.basicConfig(handlers=[TurnHandler()], level=logging.INFO)
async def last():
    logging.getLogger("x").info("the last word")
    raise SystemExit(3)
asyncio.run(last())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "the last word" in done.stderr) == (3, True)
