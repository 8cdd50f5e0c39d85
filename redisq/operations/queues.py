"""Queues: whether they exist, how they stand, their definitions, and their ends. Pure.

A queue exists from its first message, or its definition, until it is dropped. Queueing makes one, and so does defining
it; looking up a message of one that does not exist finds no message. Everything else that names a queue asks
`check_exists`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from redisq import store
from redisq.body import schemas
from redisq.errors import QueueNotFound
from redisq.model.bounds import check_definition
from redisq.model.queue import Changes, Definition, QueueStats
from redisq.operations.caller import Caller
from redisq.operations.flow import Aside, Flow
from redisq.store import keys
from redisq.store.call import BATCH
from redisq.tokens.scopes import is_queue


def stats(caller: Caller, queue: str, token: str | None) -> Flow[QueueStats]:
    """Count what a queue holds; one that was never used is empty, and stays unknown."""
    where = caller.keys_of(queue)
    caller.authorise("stats", queue, token)
    found: QueueStats = yield store.queues.stats(where)
    return found


def check_exists(
    caller: Caller, queue: str, op: str, token: str | None, visible: Callable[[str], bool] | None = None
) -> Flow[None]:
    """Return if a queue exists. `op` is what its caller wants to do; `visible` tells which names the caller may know.

    Raises:
        QueueNotFound: there is none; the text names the nearest of those that the caller may see.
    """
    where = caller.keys_of(queue)
    caller.authorise(op, queue, token)
    known: Mapping[str, int] = yield store.queues.registry(keys.queues_key(caller.settings.namespace))
    if queue in known:
        return
    found: QueueStats = yield store.queues.stats(where)
    if found == QueueStats(queue):  # else it exists, though another program took it out of the registry
        may = visible or caller.visible(token)
        raise QueueNotFound(f"There is no queue {queue}. {_nearest(queue, filter(is_queue, known), may)}".rstrip())


def stats_of_existing(
    caller: Caller, queue: str, token: str | None, visible: Callable[[str], bool] | None = None
) -> Flow[QueueStats]:
    """Count what a queue holds, in one call as a rule; raises as `check_exists` does."""
    where = caller.keys_of(queue)
    caller.authorise("stats", queue, token)
    found: QueueStats = yield store.queues.stats(where)
    if found == QueueStats(queue):
        yield from check_exists(caller, queue, "stats", token, visible)
    return found


def _nearest(queue: str, names: Iterable[str], visible: Callable[[str], bool]) -> str:
    """Name those that resemble it; that there are others is told to nobody who may see none of them."""
    known = list(names)
    seen = [name for name in known if visible(name)]
    return keys.others(queue, seen) if seen or not known else ""


def names(caller: Caller, token: str | None) -> Flow[list[str]]:
    """List the names of all queues, without entries that are no names: others may write to the registry, too."""
    caller.authorise_all("stats", token)
    found: Mapping[str, int] = yield store.queues.registry(keys.queues_key(caller.settings.namespace))
    return sorted(filter(is_queue, found))


def define(caller: Caller, queue: str, token: str | None, changes: Changes) -> Flow[Definition]:
    """Change a queue's definition; the answer is the whole of it."""
    where = caller.keys_of(queue)
    caller.authorise("admin", queue, token)
    checked = check_definition(changes)
    if checked.get("schema") is not None:
        yield Aside(partial(schemas.stored, checked["schema"]))  # it is remembered
    stored = [(name, store.queues.stored_setting(name, value)) for name, value in checked.items()]
    if stored:
        yield from caller.register(queue)
        caller.forget(queue)
    return store.queues.read_definition((yield store.queues.define(where, caller.limits, stored)))


def purge(caller: Caller, queue: str, token: str | None) -> Flow[int]:
    """Remove what waits now; the answer is how much that was. What is queued meanwhile may stay."""
    where = caller.keys_of(queue)
    caller.authorise("admin", queue, token)
    stats: QueueStats = yield store.queues.stats(where)
    total, waiting = 0, stats.ready + stats.scheduled
    while total < waiting:
        removed: int = yield store.queues.purge(where, caller.limits)
        total += removed
        if removed < BATCH:
            break
    return total


def drop(caller: Caller, queue: str, token: str | None) -> Flow[None]:
    """Remove a queue; if the process dies half-way an empty queue stays in the registry."""
    where = caller.keys_of(queue)
    caller.authorise("admin", queue, token)
    yield store.queues.drop(where)
    yield store.queues.unregister(keys.queues_key(caller.settings.namespace), queue)
    caller.forget(queue, dropped=True)


def sweep(caller: Caller, queue: str, token: str | None) -> Flow[int]:
    """Forget all that is due; the answer is how much that was."""
    where = caller.keys_of(queue)
    caller.authorise("admin", queue, token)
    total, more = 0, True
    while more:
        forgotten: int
        forgotten, more, _ = yield store.deliveries.sweep(where, caller.limits)
        total += forgotten
    return total
