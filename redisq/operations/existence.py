"""Whether a queue exists, as a flow: who names one that does not is told so. Pure.

A queue exists from its first message, or its definition, until it is dropped. Queueing makes one, and so does defining
it; looking up a message of one that does not exist finds no message. Everything else that names a queue asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from redisq import store
from redisq.errors import QueueNotFound
from redisq.model.queue import QueueStats
from redisq.operations.caller import Caller
from redisq.operations.flow import Flow
from redisq.store import keys
from redisq.tokens.scopes import is_queue


def check(
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


def stats(
    caller: Caller, queue: str, token: str | None, visible: Callable[[str], bool] | None = None
) -> Flow[QueueStats]:
    """Count what a queue holds, in one call as a rule; raises as `check` does."""
    where = caller.keys_of(queue)
    caller.authorise("stats", queue, token)
    found: QueueStats = yield store.queues.stats(where)
    if found == QueueStats(queue):
        yield from check(caller, queue, "stats", token, visible)
    return found


def _nearest(queue: str, names: Iterable[str], visible: Callable[[str], bool]) -> str:
    """Name those that resemble it; that there are others is told to nobody who may see none of them."""
    known = list(names)
    seen = [name for name in known if visible(name)]
    return keys.others(queue, seen) if seen or not known else ""
