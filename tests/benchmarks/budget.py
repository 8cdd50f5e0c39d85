"""What each operation costs in Redis commands and bytes on the wire: counted, not timed, so that it can be bounded.

Where chance or timing would decide how many messages travel together, it is decided here: the figures are the same each
time, but for the digits of an entry's id. Connecting is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis.connection import Connection, UnixDomainSocketConnection, parse_url

from redisq import AsyncRedisQ, Credentials, RedisQ, Settings, store
from redisq.body import codec
from redisq.claims import policy
from redisq.link.sync import Link
from redisq.model.delivery import Claim
from redisq.operations.caller import limits_of
from redisq.store.call import new_nonce
from redisq.store.keys import partition_keys
from tests.benchmarks.adapters import MESSAGE

_TIMES = 100  # one by one
_CALLERS = 64
_BULK = 1_000
_CLAIMED = 50  # at once, as a worker of 100 slots does


@dataclass(frozen=True)
class Cost:
    """Redis commands, those within scripts included, and bytes to and from the server."""

    commands: float
    to_server: float
    from_server: float

    def __mul__(self, times: float) -> Cost:
        return Cost(self.commands * times, self.to_server * times, self.from_server * times)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.commands + other.commands, self.to_server + other.to_server, self.from_server + other.from_server
        )


class Meter:
    """Asks the server what it did, on a connection of its own, whose own commands and bytes do not count."""

    def __init__(self, url: str) -> None:
        arguments: dict[str, Any] = {"protocol": 2, **parse_url(url)}
        kind = arguments.pop("connection_class", Connection)
        self._connection: Connection | UnixDomainSocketConnection = kind(**arguments)
        self._command = b"*2\r\n$4\r\nINFO\r\n$3\r\nALL\r\n"

    def look(self) -> tuple[dict[str, int], int]:
        """Give the numbers that INFO tells, and how many bytes telling them took."""
        if not self._connection.is_connected:
            self._connection.connect()
        self._connection.send_packed_command((self._command,))
        reply: bytes = self._connection.read_response(disable_decoding=True)
        told: dict[str, int] = {"commands": 0}
        for line in reply.decode().splitlines():
            name, _, value = line.partition(":")
            if name.startswith("cmdstat_"):
                told["commands"] += int(value.partition("calls=")[2].partition(",")[0])
            elif name.startswith("total_net_"):
                told[name] = int(value)
        return told, len(b"$%d\r\n%b\r\n" % (len(reply), reply))

    @contextmanager
    def counting(self, costs: dict[str, Cost], name: str, count: int) -> Iterator[None]:
        """Put what is done within this block to `costs`, for each of `count` messages."""
        before, answer = self.look()
        yield
        after, _ = self.look()
        done = {key: after[key] - before[key] for key in before}
        cost = Cost(
            done["commands"] - 1,
            done["total_net_input_bytes"] - len(self._command),
            done["total_net_output_bytes"] - answer,
        )
        costs[name] = cost * (1 / count)

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


def count(url: str) -> dict[str, Cost]:
    """Count what each operation costs, per message, on a server that nobody else uses meanwhile."""
    credentials = Credentials.generate("budget")
    settings = Settings(url=url, app_id=credentials.app, app_secret=credentials.secret())
    costs: dict[str, Cost] = {}
    meter = Meter(url)
    meter.look()
    try:
        _client(meter, costs, settings)
        asyncio.run(_async_client(meter, costs, settings))
        _worker(meter, costs, settings)
    finally:
        meter.close()
    return costs


def _client(meter: Meter, costs: dict[str, Cost], settings: Settings) -> None:
    with RedisQ(settings=settings) as mq:
        first = mq.queue_message("another", MESSAGE)
        mq.get_message("another", first)
        mq.delete_message("another", first)  # it leaves something there, which what comes after would look at
        mq.queue_message("sync", MESSAGE)
        with meter.counting(costs, "queue one by one", _TIMES):
            ids = [mq.queue_message("sync", MESSAGE) for _ in range(_TIMES)]
        with meter.counting(costs, "queue in bulk", _BULK):
            mq.queue_messages("sync", [MESSAGE] * _BULK)
        with meter.counting(costs, "get one by one", _TIMES):
            for id in ids:
                mq.get_message("sync", id)
        with meter.counting(costs, "delete one by one", _TIMES):
            for id in ids:
                mq.delete_message("sync", id)


async def _async_client(meter: Meter, costs: dict[str, Cost], settings: Settings) -> None:
    async with AsyncRedisQ(settings=settings) as mq:

        async def at_once() -> None:
            await asyncio.gather(*(mq.queue_message("async", MESSAGE) for _ in range(_CALLERS)))

        await mq.queue_message("async", MESSAGE)
        await at_once()
        with meter.counting(costs, "queue one by one, asyncio", _TIMES):
            for _ in range(_TIMES):
                await mq.queue_message("async", MESSAGE)
        with meter.counting(costs, f"queue, {_CALLERS} callers at once", 4 * _CALLERS):
            for _ in range(4):
                await at_once()


def _worker(meter: Meter, costs: dict[str, Cost], settings: Settings) -> None:
    """Do what a worker does, in batches of a fixed size, and find how often it does that when idle."""
    keys, limits, link = partition_keys(settings.namespace, "work"), limits_of(settings), Link(settings)
    with RedisQ(settings=settings) as mq:
        for _ in range(0, _BULK + _CLAIMED, _CLAIMED):
            mq.queue_messages("work", [MESSAGE] * _CLAIMED)

    def claim() -> Claim:
        return link.call(store.deliveries.claim(keys, limits, "worker", new_nonce(), _CLAIMED))

    def claim_and_complete() -> None:
        receipts = [delivery.receipt for delivery in claim().deliveries]
        link.call(store.deliveries.complete(keys, limits, [(receipt, result) for receipt in receipts]))

    result = codec.encode({"ok": True})
    claim_and_complete()
    with meter.counting(costs, f"claim and complete, {_CLAIMED} at once", _BULK):
        for _ in range(0, _BULK, _CLAIMED):
            claim_and_complete()
    costs["idle worker, per minute"] = _idle(meter, claim, lambda: link.call(store.deliveries.sweep(keys, limits)))
    link.close()


def _idle(meter: Meter, claim: Callable[[], Claim], sweep: Callable[[], tuple[int, bool, float]]) -> Cost:
    """Add up a minute: a claim and a wait for the bell as often as a wait lasts, and sweeps."""
    costs: dict[str, Cost] = {}
    claim(), sweep()
    with meter.counting(costs, "claim", 1):
        found = claim()
    with meter.counting(costs, "sweep", 1):
        _, _, wait = sweep()
    claims, sweeps = 60 / policy.block_for(found.wait), 60 / policy.sweep_after(wait)
    bell = Cost(1, 80, 5)  # BLPOP and nil, by reckoning: to wait for it would take its time
    return costs["claim"] * claims + bell * claims + costs["sweep"] * sweeps


def written(costs: dict[str, Cost]) -> str:
    """Write the table as test_budget.py holds it."""
    lines = (
        f'    "{name}": Cost({cost.commands:.2f}, {cost.to_server:.1f}, {cost.from_server:.1f}),'
        for name, cost in costs.items()
    )
    return "\n".join(["TODAY = {", *lines, "}"])
