"""A client of a run, as a process: `python -m tests.chaos.client`. It queues its messages, looks some up, deletes some.

It goes on where a killed predecessor in its slot stopped, and queues again what that one left without an answer.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from redisq import AsyncRedisQ, BatchError, Indeterminate, Item, MessageNotFound, RedisQ, RedisQError
from tests.chaos.history import Log, events, files
from tests.chaos.messages import TRACE, Planned, digest, planned
from tests.chaos.part import Part

LANES = 4  # calls under way at once
_LARGEST_BATCH = 100
_AGAIN = 0.5  # seconds until what was refused, or got no answer, is queued again
_RECENT = 500
_CANCELLED_WITHIN = 1.5  # seconds after what waits for that was accepted
_CANCELS = {True: "ended", None: "told", False: "late"}
_UNSEEN = "-"


class Caller:
    """`RedisQ` or `AsyncRedisQ`, awaited alike. A call of the latter is now and then cancelled half-way."""

    def __init__(self, threads: bool, chance: random.Random) -> None:
        self._client: Any = RedisQ() if threads else AsyncRedisQ()
        self._threads = threads
        self._chance = chance

    async def __call__(self, method: str, *args: Any, **named: Any) -> Any:
        """Run one call. Raises TimeoutError: it was cancelled."""
        if self._threads:
            return await asyncio.to_thread(getattr(self._client, method), *args, **named)
        patience = self._chance.uniform(0, 0.01) if self._chance.random() < 0.01 else None
        async with asyncio.timeout(patience):
            return await getattr(self._client, method)(*args, **named)

    async def close(self) -> None:
        """Close the connections."""
        closed = self._client.close()
        if closed is not None:
            await closed


class Client:
    """Queues the messages of one slot and notes what became of each call."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._chance = random.Random(f"{part.seed}:{part.slot}:{time.monotonic_ns()}")
        self._call = Caller(part.style == "threads", self._chance)
        first, self._again = _predecessors(part)
        self._numbers = iter(range(first, part.messages))
        self._recent: deque[Planned] = deque(maxlen=_RECENT)
        self._group = asyncio.TaskGroup()
        self._log = Log(part.folder, part.slot)
        self._sent, self._began = 0, time.monotonic()

    async def run(self) -> None:
        """Queue all."""
        async with self._group:
            for _ in range(LANES):
                self._group.create_task(self._lane())
        await self._call.close()
        self._log.close()

    async def _lane(self) -> None:
        while batch := self._next_batch():
            await asyncio.sleep(max(0.0, self._began + self._sent / self._part.rate - time.monotonic()))
            await self._queue(batch)
            await self._something_else()

    def _next_batch(self) -> list[Planned]:
        """Take what was not accepted yet and is to be tried again, or else the next new ones, one or many."""
        size = self._chance.choice((1, 1, self._chance.randint(2, _LARGEST_BATCH)))
        if self._again:
            return [self._again.popleft() for _ in range(min(size, len(self._again)))]
        numbers = itertools.islice(self._numbers, size)
        return [planned(self._part.seed, self._part.slot, number) for number in numbers]

    # --- Queueing ---

    async def _queue(self, batch: Sequence[Planned]) -> None:
        self._sent += len(batch)
        if len(batch) == 1:
            (message,) = batch
            refused = await self._noted(
                batch,
                self._call(
                    "queue_message",
                    message.queue,
                    message.body,
                    id=message.id,
                    delay=message.delay,
                    priority=message.priority,
                    headers=message.headers,
                ),
            )
            self._settle(batch, refused)
            return
        for queue in sorted({message.queue for message in batch}):
            own = [message for message in batch if message.queue == queue]
            items = [Item(one.body, headers=one.headers) if one.headers else one.body for one in own]
            ids = [message.id for message in own]
            self._settle(own, await self._noted(own, self._call("queue_messages", queue, items, ids=ids)))

    async def _noted(self, batch: Sequence[Planned], call: Awaitable[Any]) -> dict[int, str]:
        """Note the invocation and the outcome of each message; give those that were not accepted, by index."""
        marks = [(message.id, digest(message.body)) for message in batch]
        numbers = [message.number for message in batch]
        self._log.note_all("queue.invoke", [(*mark, n) for mark, n in zip(marks, numbers, strict=True)])
        errors = await _errors(call, len(batch))
        outcomes = [_outcome(errors[index]) if index in errors else "ok" for index in range(len(batch))]
        for outcome in sorted(set(outcomes)):
            those = [index for index, own in enumerate(outcomes) if own == outcome]
            words = [type(errors[index]).__name__ if index in errors else _UNSEEN for index in those]
            lines = [(*marks[index], word) for index, word in zip(those, words, strict=True)]
            self._log.note_all(f"queue.{outcome}", lines)
        return {index: outcome for index, outcome in enumerate(outcomes) if outcome != "ok"}

    def _settle(self, batch: Sequence[Planned], refused: dict[int, str]) -> None:
        """Remember what was accepted; most of what was not is queued again, with the same id and body."""
        accepted = [message for index, message in enumerate(batch) if index not in refused]
        self._recent += accepted
        for message in accepted:
            if message.body["do"] == "cancel":
                self._group.create_task(self._cancel_soon(message))
        again = [batch[index] for index in refused if self._chance.random() < 0.9]
        if again:
            asyncio.get_running_loop().call_later(_AGAIN, self._again.extend, again)

    # --- Looking up, deleting, queueing again ---

    async def _something_else(self) -> None:
        """Do one more thing to a message that was accepted, now and then."""
        if not self._recent:
            return
        message = self._chance.choice(self._recent)
        lot = self._chance.random()
        for share, act in _OTHER_ACTS:
            lot -= share
            if lot < 0:
                await act(self, message)
                return

    async def _get(self, message: Planned) -> None:
        await self._look(message, None)

    async def _wait(self, message: Planned) -> None:
        await self._look(message, 1.0)

    async def _look(self, message: Planned, wait: float | None) -> None:
        self._log.note("get.invoke", message.id)
        errors = await _errors(self._call("get_message", message.queue, message.id, wait=wait), 1)
        missing = isinstance(errors.get(0), MessageNotFound)
        self._log.note("get.missing" if missing else "get.unknown" if errors else "get.ok", message.id)

    async def _delete(self, message: Planned) -> None:
        self._log.note("delete.invoke", message.id)
        errors = await _errors(self._call("delete_message", message.queue, message.id), 1)
        self._log.note(f"delete.{_outcome(errors[0]) if errors else 'ok'}", message.id)

    async def _cancel(self, message: Planned) -> None:
        """Cancel what may wait, run or have ended."""
        self._log.note("cancel.invoke", message.id)
        told: list[bool | None] = []

        async def call() -> None:
            told.append(await self._call("cancel_message", message.queue, message.id))

        errors = await _errors(call(), 1)
        if not errors:
            outcome = _CANCELS[told[0]]
        else:
            outcome = "missing" if isinstance(errors[0], MessageNotFound) else "unknown"
        self._log.note(f"cancel.{outcome}", message.id)

    async def _cancel_soon(self, message: Planned) -> None:
        await asyncio.sleep(self._chance.uniform(0, _CANCELLED_WITHIN))
        await self._cancel(message)

    async def _cancel_new(self, _: Planned) -> None:
        await self._cancel(self._recent[-1])

    async def _repeat(self, message: Planned) -> None:
        """Queue it again, with another trace: it is the same message."""
        headers = {**message.headers, TRACE: f"00-{self._chance.getrandbits(128):032x}-{1:016x}-01"}
        call = self._call("queue_message", message.queue, message.body, id=message.id, headers=headers)
        await self._noted([message], call)

    async def _contradict(self, message: Planned) -> None:
        """Queue another body under the id: it has to be refused."""
        other = replace(message, body={**message.body, "other": True}, delay=0.0)
        await self._noted([other], self._call("queue_message", other.queue, other.body, id=other.id))


_OTHER_ACTS: Sequence[tuple[float, Callable[[Client, Planned], Awaitable[None]]]] = (
    (0.20, Client._get),
    (0.02, Client._wait),
    (0.15, Client._delete),
    (0.10, Client._cancel),
    (0.20, Client._cancel_new),
    (0.05, Client._repeat),
    (0.03, Client._contradict),
)


async def _errors(call: Awaitable[Any], count: int) -> dict[int, BaseException]:
    """Run a call for `count` messages; give the error of each that has one."""
    try:
        await call
    except BatchError as error:
        return dict(error.errors)
    except (RedisQError, TimeoutError) as error:
        return dict.fromkeys(range(count), error)
    return {}


def _outcome(error: BaseException) -> str:
    return "unknown" if isinstance(error, Indeterminate | TimeoutError) else "fail"


def _predecessors(part: Part) -> tuple[int, deque[Planned]]:
    """Read what the slot's earlier processes did: the next number, and what they left out or got no answer to."""
    numbers: dict[str, int] = {}
    answered: set[str] = set()
    for path in files(part.folder, part.slot):
        for event in events(path):
            if event.what == "queue.invoke":
                numbers[event.id] = int(event.detail)
            elif event.what.startswith("queue."):
                answered.add(event.id)
    invoked = set(numbers.values())
    first = max(invoked, default=-1) + 1
    left = {number for id, number in numbers.items() if id not in answered} | (set(range(first)) - invoked)
    return first, deque(planned(part.seed, part.slot, number) for number in sorted(left))


def main() -> None:
    """Be the client that the environment names."""
    logging.basicConfig(level=logging.WARNING)
    part = Part.mine()
    with asyncio.Runner(loop_factory=_loop_factory(part.style)) as runner:
        runner.run(_run(part))


async def _run(part: Part) -> None:
    await Client(part).run()


def _loop_factory(style: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give uvloop's factory where that is asked for and installed: its transports fail in ways of their own."""
    if style != "uvloop" or importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    main()
