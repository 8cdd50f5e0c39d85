"""A stream of messages is the same over HTTP and on the command line: what is a line, what is skipped, what refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from redisq import InvalidMessage, RedisQ
from redisq.body.jsonlines import is_blank, unmarked
from redisq.cli import output
from redisq.cli.commands.lines import Feed, queue_lines
from redisq.operations.options import of_line
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
    fed = fed_from(gateway, file)
    assert (held(gateway.mq, "shell"), fed.refused, fed.halted) == (messages, refused, None)


def fed_from(gateway: Gateway, file: Path, headers: Any = (), *, as_item: bool = False) -> Feed:
    made = partial(of_line, headers=dict(headers), as_item=as_item)
    return queue_lines(gateway.mq, "shell", gateway.token(), str(file), made, stop_on_error=False, ids=False)


ID = "05749898-74a0-47e1-b10d-5acf29d040c4"
#: Lines that are items: what becomes of each request, headers, priority and whether it is delayed; None is refused.
ITEMS: list[tuple[str, Any]] = [
    ('{"request": {"n": 1}}', ({"n": 1}, {"tenant": "a"}, 0, False)),
    ('{"request": null, "headers": {"Trace": "t"}}', (None, {"tenant": "a", "trace": "t"}, 0, False)),
    ('{"request": 2, "headers": {"TENANT": "b"}, "priority": 5}', (2, {"tenant": "b"}, 5, False)),
    ('{"request": 3, "headers": null, "delay": 60}', (3, {"tenant": "a"}, 0, True)),
    ('{"request": 4, "at": "2001-01-01T00:00:00Z"}', (4, {"tenant": "a"}, 0, False)),
    (f'{{"request": 5, "id": "{ID}"}}', (5, {"tenant": "a"}, 0, False)),
    (f'{{"request": 6, "id": "{ID}"}}', None),
    ('{"request": 7, "idempotency_key": "k"}', (7, {"tenant": "a"}, 0, False)),
    ('{"request": 8, "expires_in": 60}', (8, {"tenant": "a"}, 0, False)),
    *((line, None) for line in ("5", "[]", "null", "{}", '{"headers": {}}', '{"request": 1, "prio": 1}')),
    *(
        (f'{{"request": 1, {option}}}', None)
        for option in (
            *('"headers": {"a": 1}', '"headers": {"a b": ""}', '"headers": []', '"headers": {"a": "", "A": ""}'),
            *('"at": "tomorrow"', '"at": 5', '"delay": "5"', '"delay": null', '"priority": 10', '"id": 5'),
            *('"expires_in": 0', '"idempotency_key": ""', '"at": "2001-01-01T00:00:00"', '"token": "x"'),
        )
    ),
]


def test_items_are_read_alike(gateway: Gateway, tmp_path: Path) -> None:
    stream = "\n".join(line for line, _ in ITEMS).encode()
    headers = {"Content-Type": "application/x-ndjson", "Redisq-Header-Tenant": "a"}
    sent = gateway.call("POST", "/http?lines=items", content=stream, headers=headers)
    answers = [json.loads(line) for line in sent.text.splitlines()]
    assert [("id" in answer) for answer in answers] == [expected is not None for _, expected in ITEMS]
    for answer, (_, expected) in zip(answers, ITEMS, strict=True):
        if expected is not None:
            one = gateway.mq.get_message("http", answer["id"])
            later = one.available_at is not None and one.available_at > one.queued_at
            assert (one.request, one.headers, one.priority, later) == expected
    assert answers[5]["id"] == ID
    file = tmp_path / "lines"
    file.write_bytes(stream)
    fed = fed_from(gateway, file, {"tenant": "a"}, as_item=True)
    refused = sum(expected is None for _, expected in ITEMS)
    assert (fed.queued, fed.refused, fed.halted) == (len(ITEMS) - refused, refused, None)
    assert held(gateway.mq, "shell") == held(gateway.mq, "http")


def test_a_field_that_is_not_known_is_told_with_the_names_of_those_that_are(gateway: Gateway) -> None:
    line, told = b'{"request": 1, "prio": 1}', 'it takes "id", "idempotency_key", "delay", '
    headers = {"Content-Type": "application/x-ndjson"}
    sent = gateway.call("POST", "/http?lines=items", content=line, headers=headers)
    assert told in sent.json()["error"]["message"]
    with pytest.raises(InvalidMessage) as caught:
        of_line(json.loads(line), {}, as_item=True)
    assert told in output.spelled(caught.value)


def test_headers_of_a_stream_are_those_of_each_line(gateway: Gateway, tmp_path: Path) -> None:
    headers = {"Content-Type": "application/x-ndjson", "Redisq-Header-Tenant": "a"}
    sent = gateway.call("POST", "/http", content=b'1\n{"request": 2}\n', headers=headers)
    found = [gateway.mq.get_message("http", json.loads(line)["id"]) for line in sent.text.splitlines()]
    assert [(one.request, one.headers) for one in found] == [(1, {"tenant": "a"}), ({"request": 2}, {"tenant": "a"})]


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("/orders?lines=items", "application/json", "Tenant"),
        ("/orders?lines=words", "application/x-ndjson", "Tenant"),
        ("/orders?delay=5", "application/x-ndjson", "Tenant"),
        ("/orders", "application/x-ndjson", "a_b"),
    ],
)
def test_what_does_not_go_with_a_stream_is_refused(gateway: Gateway, path: str, kind: str, name: str) -> None:
    headers = {"Content-Type": kind, f"Redisq-Header-{name}": "a"}
    assert gateway.call("POST", path, content=b"1", headers=headers).status_code == 400
    assert gateway.mq.queues() == []


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
