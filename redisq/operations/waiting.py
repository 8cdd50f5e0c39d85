"""Looking one message up, and waiting for it, as a flow. Pure.

Nobody is told when a message ends, so who waits looks again and again, ever more rarely. What all looks of a process
cost Redis is bounded: all who wait for messages of one queue ask together whether any has ended meanwhile, in one call,
and look at their own only then; and where they are of many queues each is asked about more rarely, the longer the wait
has lasted: that is 50 commands a second for up to 120 queues.
"""

from __future__ import annotations

import time
import uuid

from redisq import store
from redisq.errors import RedisQError
from redisq.model.message import Message
from redisq.operations import options
from redisq.operations.caller import Operations
from redisq.operations.flow import Flow, Pause
from redisq.store import keys
from redisq.store.reply import Outcome

_FIRST_LOOK, _LONGEST_LOOK = 0.005, 0.25  # seconds between looks
_FEW_QUEUES = 6  # with more than these the looks get rarer
#: Seconds between looks at one queue where many are waited for: few values, so that looks fall together. Beyond
#: `_SOON`, never more than was waited already.
_PAUSES = (_LONGEST_LOOK, 0.5, 1.0, 2.5, 5.0)
_SOON = 1.0


def get_message(
    operations: Operations, queue: str, id: str | uuid.UUID, token: str | None, wait: float | None
) -> Flow[Message]:
    """Look one message up; with `wait`, when it has finished or that many seconds have passed."""
    where = operations.keys_of(queue)
    operations.authorise("get", queue, token)
    name, seconds = keys.known_id(id), 0.0 if wait is None else options.seconds_of("wait=", wait)
    end = time.monotonic() + seconds
    if not seconds:
        return _read((yield store.messages.get(where, [name])))
    operations.waits[queue] += 1
    try:
        return (yield from _wait(operations, queue, name, token, end))
    finally:
        operations.waits[queue] -= 1
        if not operations.waits[queue]:
            del operations.waits[queue]


def _wait(operations: Operations, queue: str, name: bytes, token: str | None, end: float) -> Flow[Message]:
    where, pause, began = operations.keys_of(queue), _FIRST_LOOK, time.monotonic()
    ended: bytes | None = None
    while True:
        message = _read((yield store.messages.get(where, [name])))
        while True:
            left = end - time.monotonic()
            if message.finished or left <= 0:
                return message
            yield Pause(pause, on_the_beat=True) if pause * 2 < left else Pause(min(pause, left))
            operations.authorise("get", queue, token)
            if pause < _LONGEST_LOOK:  # most waits are short
                pause = min(pause * 1.5, _LONGEST_LOOK)
                if pause == _LONGEST_LOOK:
                    ended = yield store.messages.ended(
                        where
                    )  # before the look that follows: what ends after it shows later
                break
            pause = _pause_of(len(operations.waits), time.monotonic() - began)
            before, ended = ended, (yield store.messages.ended(where))
            if ended is None or ended != before or time.monotonic() >= end:
                break


def _pause_of(queues: int, waited: float) -> float:
    """Say how long to pause, given how many queues are waited for, and for how long this wait has lasted."""
    enough = _LONGEST_LOOK * queues / _FEW_QUEUES
    pause = next((pause for pause in _PAUSES if pause >= enough), _PAUSES[-1])
    return max(other for other in _PAUSES if other <= min(pause, max(_SOON, waited)))


def _read(outcomes: list[Outcome[Message]]) -> Message:
    (outcome,) = outcomes
    if isinstance(outcome, RedisQError):
        raise outcome
    return outcome
