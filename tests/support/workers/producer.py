"""Queues messages until it is killed: `python producer.py HOW FAILPOINT` writes each id that it was told is queued.

    batches    RedisQ.queue_messages with ids, a few hundred at a time
    at-once    AsyncRedisQ.queue_message, by as many tasks
    stream     RedisQ.queue_messages of a generator, which kills the process when it has drawn DRAWN

It passes the failpoint only once it was told of some messages, so that it dies among many.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from typing import Any

from redisq import AsyncRedisQ, RedisQ
from redisq.runtime import failpoints

QUEUE = "tasks"
COUNT, BATCH = 3_000, 600
DRAWN = 900


def id_of(number: int) -> str:
    """The id of a message, in any process."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def body_of(number: int) -> dict[str, Any]:
    """The body of a message: of many sizes, and its end tells whether it is whole."""
    return {"n": number, "text": "x" * (number * 37 % 2_000), "end": number}


def told(*ids: str) -> None:
    """Write ids with one write; then the failpoint is armed."""
    os.write(1, "".join(f"{id}\n" for id in ids).encode())
    if not failpoints._armed:
        failpoints._armed.update(failpoints.parse(sys.argv[2]))


def batches() -> None:
    with RedisQ() as mq:
        for first in range(0, COUNT, BATCH):
            these = range(first, first + BATCH)
            told(*mq.queue_messages(QUEUE, map(body_of, these), ids=[id_of(number) for number in these]))


async def at_once() -> None:
    async with AsyncRedisQ() as mq:

        async def one(number: int) -> None:
            told(await mq.queue_message(QUEUE, body_of(number), id=id_of(number)))

        await asyncio.gather(*map(one, range(COUNT)))


def stream() -> None:
    def bodies() -> Iterator[dict[str, Any]]:
        for number in range(COUNT):
            if number == DRAWN:
                os.kill(os.getpid(), signal.SIGKILL)
            yield body_of(number)

    with RedisQ() as mq:
        told(*mq.queue_messages(QUEUE, bodies()))


if __name__ == "__main__":
    match sys.argv[1]:
        case "batches":
            batches()
        case "at-once":
            asyncio.run(at_once())
        case "stream":
            stream()
