"""What one client sends holds nobody else up: documents of a million parts, schemas, waits and names without end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from redisq.body import codec
from redisq.errors import InvalidMessage
from redisq.gateway.requests import bodies
from redisq.gateway.requests.bodies import JSON, MSGPACK
from redisq.gateway.work import bells
from redisq.gateway.work.dispatchers import Dispatchers
from tests.conftest import settings_for
from tests.gateway.conftest import QUEUE, Gateway, MakeGateway

MIB = 1024 * 1024
#: Bodies of few bytes and very many parts.
SWARMS = {
    "brackets": (JSON, b"[" * 3 * MIB),
    "braces": (JSON, b'{"a":' * (3 * MIB // 5)),
    "lists": (JSON, b"[[]" + b",[]" * MIB + b"]"),
    "objects": (JSON, b"[{}" + b",{}" * MIB + b"]"),
    "numbers": (JSON, b"[1" + b",1" * MIB + b"]"),
    "texts": (JSON, b'[""' + b',""' * MIB + b"]"),
    "commas": (JSON, b"," * 3 * MIB),
    "after a text": (JSON, rb'["\\\",[",1' + b",1" * MIB + b"]"),
    "msgpack lists": (MSGPACK, b"\xdc\x00\x0b" + (b"\xdd\x00\x01\x86\x9f" + b"\x90" * 99_999) * 11),
    "msgpack maps": (MSGPACK, b"\xdc\x00\x0b" + (b"\xdc\xff\xff" + b"\x81\xa1a\xc0" * 65_535) * 11),
}


@pytest.mark.parametrize("name", SWARMS)
def test_too_many_parts_are_refused_before_they_are_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_reached(*_: Any) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(bodies, "_JSON", type("", (), {"decode": not_reached}))
    monkeypatch.setattr(codec, "decode", not_reached)
    with pytest.raises(InvalidMessage, match="more than 100,000 list elements and map keys; split it"):
        bodies.parse(*SWARMS[name])


@pytest.mark.parametrize(
    "raw",
    [
        b"[1" + b",1" * 99_999 + b"]",
        b"{" + b",".join(b'"%d":",[{"' % number for number in range(100_000)) + b"}",
        b'"' + b",[{" * MIB + b'"',
        rb'["\"' + rb",\"[" * 200_000 + rb'\\"]',
        b" " * 3 * MIB + b"1",
        b"[" * 32 + b"]" * 32,
    ],
    ids=["elements", "keys", "text", "escapes", "space", "depth"],
)
def test_as_many_parts_as_a_message_has_are_read_whatever_its_texts_say(raw: bytes) -> None:
    codec.encode(bodies.parse(JSON, raw), 4 * MIB)


def test_large_bodies_are_parsed_beside_the_loop(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    beside: list[int] = []
    original = bodies.aside

    async def noted(work: Callable[[], Any]) -> Any:
        beside.append(1)
        return await original(work)

    monkeypatch.setattr(bodies, "aside", noted)
    for message, expected in (([1] * 20_000, 1), ([1], 0)):
        beside.clear()
        assert gateway.call("POST", f"/{QUEUE}", message=message).status_code == 201
        assert len(beside) == expected


def test_a_long_check_of_a_schema_leaves_the_loop_free(gateway: Gateway) -> None:
    """Others are answered meanwhile; how many is counted, not how fast."""
    schema = {"items": {"not": {"anyOf": [{"minimum": number + 9} for number in range(400)]}}}
    gateway.mq.define(QUEUE, schema=schema)
    content, headers = b"[1" + b",1" * 49_999 + b"]", {"Authorization": f"Bearer {gateway.token()}"}

    async def main() -> tuple[int, int]:
        transport = httpx.ASGITransport(gateway.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as http:
            sent = http.post(f"/{QUEUE}", content=content, headers={"Content-Type": JSON})
            checking, answered = asyncio.create_task(sent), 0
            while not checking.done():
                assert (await http.get("/_health")).status_code == 200
                answered += 1
                await asyncio.sleep(0)  # which a request in this process never does
            return (await checking).status_code, answered

    status, answered = gateway.runner.run(main())
    assert status == 201
    assert answered > 10


def test_anonymous_requests_to_made_up_names_cost_no_script(
    make_gateway: MakeGateway, raw_calls: Callable[[], int]
) -> None:
    gateway = make_gateway(open_queues="*", hosts="gateway")
    gateway.mq.define("open", security="none")
    assert gateway.call("POST", "/open", token=None, message=1).status_code == 201
    before, began = raw_calls(), time.monotonic()
    for number in range(50):
        assert gateway.call("POST", f"/made-up-{number}", token=None, message=1).status_code == 401
    looks = 1 + (time.monotonic() - began) // 2  # the list of names is read every two seconds
    assert raw_calls() - before <= looks


@pytest.fixture
def raw_calls(gateway: Gateway) -> Callable[[], int]:
    """How many scripts the server has run."""

    def count() -> int:
        with redis.Redis.from_url(gateway.context.settings.url) as raw:
            found = raw.info("commandstats")
        return sum(found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))

    return count


def test_waits_at_many_queues_take_few_connections(gateway: Gateway, namespace: str) -> None:
    settings = settings_for(gateway.context.settings.url, namespace)
    queues = [f"queue-{number}" for number in range(2 * bells.MOST)]

    async def main() -> None:
        desks = Dispatchers(settings)
        waiters = [desks.of(queue).join(1, 60.0) for queue in queues]
        with redis.Redis.from_url(settings.url) as raw:
            async with asyncio.timeout(60):
                while sum(client["cmd"] == "blpop" for client in raw.client_list()) < bells.MOST:
                    await asyncio.sleep(0.01)
            for queue in queues:
                await asyncio.to_thread(gateway.mq.queue_message, queue, queue)
            async with asyncio.timeout(60):
                handed = await asyncio.gather(*(waiter.answer for waiter in waiters))
            assert [one.deliveries[0].request for one in handed] == queues
            assert sum(client["cmd"] == "blpop" for client in raw.client_list()) <= bells.MOST
        await desks.close()

    gateway.runner.run(main())
