"""Looks at all that is left when the load is over: each message, the totals, and what remains when all is forgotten.

The only place of the harness that goes below the public names: a million messages are looked up 500 at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from redisq import Message, MessageNotFound, QueueStats, RedisQ, RedisQError, Settings, Status, store
from redisq.link.sync import Link
from redisq.store.call import BATCH
from redisq.store.keys import given_id, partition_keys
from tests.chaos.checker import CANCELLED, Final, Verdict
from tests.chaos.history import Log, by_message
from tests.chaos.messages import QUEUES

#: What a queue keeps when it is empty and all retention has passed; `workers` holds the last claims of killed ones.
ALWAYS_KEPT = {"config", "counters", "workers"}
#: The events of a message's history that end an attempt.
ENDINGS = {"failed", "rejected", "unreadable", "lost", "released", "deferred"}


def totals(client: RedisQ) -> QueueStats:
    """Add up the statistics of all queues."""
    first, *others = (client.stats(queue) for queue in QUEUES)
    for other in others:
        first += other
    return first


def drained(stats: QueueStats) -> bool:
    """Whether nothing is left to do."""
    return stats.ready == stats.scheduled == stats.in_progress == 0


def look_all_up(settings: Settings, history: Path) -> None:
    """Write down what became of every message that a client tried to queue, or a handler got."""
    link, log = Link(settings), Log(history, "audit")
    try:
        ids = (id for id, _ in by_message(history))
        for batch in iter(lambda: list(islice(ids, BATCH)), []):
            for id, final in zip(batch, _look_up(link, settings.namespace, batch), strict=True):
                log.note("final", id, final.attempts, detail=final.detail())
    finally:
        log.close()
        link.close()


def _look_up(link: Link, namespace: str, ids: Sequence[str]) -> Iterator[Final]:
    """Look in all queues: nobody but the client knows which one a message was for."""
    names = [given_id(id) for id in ids]
    for found in zip(
        *(link.call(store.messages.get(partition_keys(namespace, queue), names)) for queue in QUEUES), strict=True
    ):
        there = [one for one in found if not isinstance(one, MessageNotFound)]
        yield _final(there[0]) if len(there) == 1 else Final("TWICE" if there else "ABSENT")


def _final(message: Message | RedisQError) -> Final:
    if isinstance(message, RedisQError):
        return Final(type(message).__name__)
    told = [one for one in message.history if one.event in ENDINGS]
    causes = {one.attempt - back: one.event for one in told for back in range(one.count)}
    if message.status is Status.ERROR and (message.error or {}).get("reason") == "cancelled":
        return Final(CANCELLED, message.attempts, causes=causes)
    if message.status is Status.COMPLETE and isinstance(message.result, dict):
        result = (message.result.get("attempt", 0), message.result.get("digest", "-"))
        return Final(message.status, message.attempts, *result, causes=causes)
    return Final(message.status, message.attempts, causes=causes)


def wrong_totals(stats: QueueStats, verdict: Verdict) -> Iterator[str]:
    """Say what the statistics tell that is not so."""
    there = verdict.completed + verdict.dead + verdict.cancelled
    if not drained(stats):
        yield f"left: {stats.ready} ready, {stats.scheduled} scheduled, {stats.in_progress} in progress"
    if stats.finished != there:
        yield f"{stats.finished} finished are counted, {there} are there"
    if stats.dead != verdict.dead:
        yield f"{stats.dead} dead letters are counted, {verdict.dead} are there"
    if stats.queued - stats.deleted != there:
        yield f"{stats.queued} queued less {stats.deleted} deleted are counted, {there} are there"
    if not verdict.cancelled <= stats.cancelled <= verdict.cancelled + verdict.cancelled_and_gone:
        yield f"{stats.cancelled} cancelled are counted, {verdict.cancelled} are there"
    if not verdict.completed <= stats.completed <= stats.queued - verdict.dead - verdict.cancelled:
        yield f"{stats.completed} completed are counted, {verdict.completed} are there"


def forget_all(client: RedisQ) -> None:
    """Let all retention be over, and sweep."""
    for queue in QUEUES:
        client.define(queue, retention=0.0, dead_retention=0.0, dedup_window=0.0)
    time.sleep(0.01)  # by the server's clock, which counts milliseconds
    for queue in QUEUES:
        client.sweep(queue)


def wrong_leftovers(keys: Iterable[bytes]) -> Iterator[str]:
    """Say which keys should be gone."""
    for key in keys:
        _, brace, name = key.decode().rpartition("}:")
        if brace and name not in ALWAYS_KEPT:
            yield f"{key.decode()} is left"
