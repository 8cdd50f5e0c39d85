"""The append-only file of a Redis that was killed in the middle of a script."""

from __future__ import annotations

import time
from pathlib import Path

import redis


def mend(url: str, log: Path, since: int) -> bool:
    """Have the Redis at `url` write its file anew if, by its `log` from byte `since` on, it cut it; tell whether so.

    When the file ends in the middle of a script's writes, Redis (6.2 to 7.4, Valkey 8.0) loads all before that script,
    but cuts the file after the last whole command: what is written next follows half a script, and the start after
    that would run this half. See https://github.com/valkey-io/valkey/pull/4342.
    """
    with log.open("rb") as said:
        said.seek(since)
        cut = b"Truncating the AOF" in said.read()
    if cut:
        rewrite(url)
    return cut


def rewrite(url: str) -> None:
    """Have the Redis at `url` write its file anew, and return when it has."""
    with redis.Redis.from_url(url, protocol=2) as client:
        _until_written(client)
        client.bgrewriteaof()
        _until_written(client)
        assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"


def _until_written(client: redis.Redis) -> None:
    deadline = time.monotonic() + 60
    while (told := client.info("persistence"))["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"]:
        assert time.monotonic() < deadline, "Redis does not write its file"
        time.sleep(0.005)
