"""Looking one message up, and waiting for it, as a flow like those of `operations`. Pure.

Nobody is told when a message ends, so who waits looks again and again, ever more rarely. What all looks of a process
cost Redis is bounded: all who wait for messages of one queue ask together whether any has ended meanwhile, in one call,
and look at their own only then; and where they are of many queues each is asked about more rarely.
"""

from __future__ import annotations

import math
import time
import uuid

from redisq import calls, keys
from redisq.errors import RedisQError
from redisq.model import Message
from redisq.operations import Flow, Operations, Pause
from redisq.replies import Outcome

_FIRST_LOOK, _LONGEST_LOOK = 0.005, 0.25  # seconds between looks
_FEW_QUEUES = 6  # with more than these the looks get rarer
_RAREST_LOOK = 1.0  # seconds


def get_message(
    operations: Operations, queue: str, id: str | uuid.UUID, token: str | None, wait: float | None
) -> Flow[Message]:
    """Look one message up; with `wait`, when it has finished or that many seconds have passed."""
    where = operations.keys_of(queue)
    operations.authorise("get", queue, token)
    name, seconds = keys.known_id(id), _checked_wait(wait)
    end = time.monotonic() + seconds
    if not seconds:
        return _read((yield calls.get(where, [name])))
    operations.waits[queue] += 1
    try:
        return (yield from _wait(operations, queue, name, token, end))
    finally:
        operations.waits[queue] -= 1
        if not operations.waits[queue]:
            del operations.waits[queue]


def _wait(operations: Operations, queue: str, name: bytes, token: str | None, end: float) -> Flow[Message]:
    where, pause = operations.keys_of(queue), _FIRST_LOOK
    ended: bytes | None = None
    while True:
        message = _read((yield calls.get(where, [name])))
        while True:
            left = end - time.monotonic()
            if message.finished or left <= 0:
                return message
            yield Pause(pause, on_the_beat=True) if pause * 2 < left else Pause(min(pause, left))
            operations.authorise("get", queue, token)
            if pause < _LONGEST_LOOK:  # most waits are short
                pause = min(pause * 1.5, _LONGEST_LOOK)
                break
            pause = _longest_pause(operations)
            before, ended = ended, (yield calls.ended(where))
            if ended is None or ended != before or time.monotonic() >= end:
                break


def _longest_pause(operations: Operations) -> float:
    return min(_LONGEST_LOOK * max(1.0, len(operations.waits) / _FEW_QUEUES), _RAREST_LOOK)


def _read(outcomes: list[Outcome[Message]]) -> Message:
    (outcome,) = outcomes
    if isinstance(outcome, RedisQError):
        raise outcome
    return outcome


def _checked_wait(wait: float | None) -> float:
    if wait is None:
        return 0.0
    if isinstance(wait, int | float) and not isinstance(wait, bool) and 0 <= wait < math.inf:
        return wait
    raise ValueError("wait= takes seconds, 0 or more")
