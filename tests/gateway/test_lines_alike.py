"""A stream of messages is the same over HTTP and on the command line: what is a line, what is skipped, what refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redisq import RedisQ
from redisq.body.jsonlines import is_blank, unmarked
from redisq.cli.commands.lines import queue_lines
from tests.gateway.conftest import Gateway

MARK = b"\xef\xbb\xbf"
#: A stream, the messages that it holds, and how many of its lines are refused.
STREAMS: dict[str, tuple[bytes, list[object], int]] = {
    "no line at its end": (b'1\n"two"', [1, "two"], 0),
    "CRLF": (b'{"n": 1}\r\n[2]\r\n', [{"n": 1}, [2]], 0),
    "a mark at its begin": (MARK + b'{"n": 1}\n2\n', [{"n": 1}, 2], 0),
    "a mark before a blank line": (MARK + b"\r\n1\n", [1], 0),
    "a mark alone": (MARK, [], 0),
    "a mark in the middle, as of files put together": (b"1\n" + MARK + b"2\n", [1, 2], 0),
    "two marks": (MARK + MARK + b"1\n2\n", [2], 1),
    "blank lines": (b"\n\n1\n\n  \n\t\n\r\n2\n\n", [1, 2], 0),
    "white space that is not JSON's": (b"\x0b\n\x0c\n\xc2\xa0\n1\n", [1], 3),
    "white space around": (b"  1 \t\r\n\t2", [1, 2], 0),
    "a CR alone": (b"1\r2\n3\n", [3], 1),
    "bad ones between": (b'{\n1\nNaN\n{"a": 1, "a": 2}\n"\xff"\n2', [1, 2], 4),
    "UTF-16": ("1\n2\n".encode("utf-16"), [], 3),
}


def held(mq: RedisQ, queue: str) -> list[object]:
    return [message.request for message in mq.list_messages(queue, "ready").messages]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_read_alike(gateway: Gateway, tmp_path: Path, name: str) -> None:
    stream, messages, refused = STREAMS[name]
    sent = gateway.call("POST", "/http", content=stream, headers={"Content-Type": "application/x-ndjson"})
    answers = [json.loads(line) for line in sent.text.splitlines()]
    assert (held(gateway.mq, "http"), sum("error" in answer for answer in answers)) == (messages, refused)
    assert len(answers) == len(messages) + refused
    file = tmp_path / "lines"
    file.write_bytes(stream)
    fed = queue_lines(gateway.mq, "shell", gateway.token(), str(file), stop_on_error=False, ids=False)
    assert (held(gateway.mq, "shell"), fed.refused, fed.halted) == (messages, refused, None)


def test_a_message_alone_may_begin_with_a_mark_too(gateway: Gateway) -> None:
    made = gateway.call("POST", "/orders", content=MARK + b'"a"', headers={"Content-Type": "application/json"})
    assert gateway.mq.get_message("orders", made.json()["id"]).request == "a"


@pytest.mark.parametrize("line", [b"", b" ", b"\r", MARK, MARK + b" \r", b"\t"])
def test_what_is_blank(line: bytes) -> None:
    assert is_blank(line)
    assert not is_blank(line + b"x")


def test_one_mark_is_taken_away() -> None:
    assert unmarked(MARK + MARK + b"1") == MARK + b"1"
    assert unmarked(b"1" + MARK) == b"1" + MARK
