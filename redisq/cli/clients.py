"""The client of a command. It is imported when the command runs: `redisq --help` needs none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from redisq.errors import QueueNotFound

if TYPE_CHECKING:
    from redisq.client import RedisQ


@contextmanager
def opened(
    url: str | None, queue: str | None = None, token: str | None = None, *, op: str = "admin"
) -> Iterator[RedisQ]:
    """Give a client; with a queue only if that exists, as `check_exists` does."""
    from redisq.client import RedisQ

    with RedisQ(url) as mq:
        if queue is not None:
            check_exists(mq, queue, token, op)
        yield mq


def check_exists(mq: RedisQ, queue: str, token: str | None, op: str = "admin") -> None:
    """Return only if the queue exists; `op` is what the command is about to do.

    Raises:
        QueueNotFound: it does not; the text names some that do.
    """
    from redisq import client
    from redisq.operations import queues

    client.run(mq, lambda caller: queues.check_exists(caller, queue, op, token))


def exists(mq: RedisQ, queue: str, token: str | None) -> bool:
    """Return whether a queue exists; raises as `check_exists` does for whoever may not administer it."""
    try:
        check_exists(mq, queue, token)
    except QueueNotFound:
        return False
    return True
