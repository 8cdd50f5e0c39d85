"""The operations on dead letters, as flows: list them, redrive them, purge them. Pure.

They walk over the dead letters page by page, oldest first, so that memory is bounded however many there are.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, get_args

from redisq import store
from redisq.errors import BatchError, InvalidArgument, MessageNotFound, RedisQError
from redisq.model.listing import DeadLetter, DeadPage, Reason
from redisq.model.message import Message, Status
from redisq.operations import options
from redisq.operations.batches import ids_of, in_portion, known
from redisq.operations.caller import Caller
from redisq.operations.flow import Flow
from redisq.store import keys
from redisq.store.call import BATCH, Call, new_nonce
from redisq.store.keys import PartitionKeys
from redisq.store.reply import Outcome

#: Why a message is dead.
REASONS: tuple[str, ...] = get_args(Reason)
#: Dead letters in one list at most.
MOST = 10_000
_WITH_BODIES = 20  # dead letters in one reply, each of which may take a megabyte and more
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Change: TypeAlias = Callable[[Sequence[bytes]], Call[list[Outcome[None]]]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: those of one reason, and those that died `min_age` to `max_age` seconds ago; None is any.

    Raises:
        InvalidArgument: there is no such reason, or an age is not valid.
    """

    reason: Reason | None = None
    min_age: float | None = None
    max_age: float | None = None

    def __post_init__(self) -> None:
        if self.reason is not None and self.reason not in REASONS:
            raise InvalidArgument(f"reason= takes one of {', '.join(REASONS)}")
        for name, age in (("min_age", self.min_age), ("max_age", self.max_age)):
            if age is not None:
                options.seconds_of(f"{name}=", age)

    def __contains__(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter has the reason. Whatever cannot be read is unreadable."""
        return self.reason in (None, letter.reason if letter.message is not None else "unreadable")


class _Walk:
    """A way over the dead letters of a selection, oldest first, in pages of up to `size`.

    It ends with those that were dead when it began. So what is redriven and dies again meanwhile is not met again.
    """

    def __init__(self, caller: Caller, where: PartitionKeys, chosen: Selection, size: int, *, bodies: bool) -> None:
        self._where, self._chosen, self._size = where, chosen, size
        self._portion = caller.portion("dead with bodies" if bodies else "dead", BATCH)
        self._page = DeadPage(max_age=chosen.max_age, limit=size, bodies=bodies)
        self._seen: Sequence[DeadLetter] | None = None
        self._began = time.monotonic()

    def next(self, gone: Collection[bytes] = ()) -> Flow[list[DeadLetter]]:
        """Return the next ones, none after the last. `gone` are those given before that are dead letters no more."""
        while self._seen is None or len(self._seen) == self._page.limit:
            if self._seen is not None:
                self._page = _after(self._page, self._seen, gone)
            _, self._seen = yield from in_portion(self._portion, self._size, self._read)
            if found := [letter for letter in self._seen if letter in self._chosen]:
                return found
        return []

    def _read(self, most: int) -> Call[list[DeadLetter]]:
        self._page = replace(self._page, limit=most)
        min_age = (self._chosen.min_age or 0.0) + time.monotonic() - self._began
        return store.dead_letters.dead(self._where, replace(self._page, min_age=min_age))


def _after(page: DeadPage, seen: Sequence[DeadLetter], gone: Collection[bytes]) -> DeadPage:
    """Return the page after one that was seen: from when its last one died, past those of that time.

    max_age counts for the first page alone. Its bound moves on with the clock, and would leave out some of those after.
    """
    start = seen[-1].died
    passed = sum(letter.died == start and letter.id not in gone for letter in seen)
    return replace(page, start=start, skip=passed + (page.skip if page.start == start else 0), max_age=None)


def find(
    caller: Caller, queue: str, token: str | None, chosen: Selection, limit: int, room: float = math.inf
) -> Flow[list[Message]]:
    """List up to `limit` dead letters, oldest first; no more than have bodies of `room` bytes together, but one."""
    where = _permitted(caller, queue, token)
    options.whole_of("limit=", limit, 1, MOST)
    walk, found = _Walk(caller, where, chosen, min(limit, _WITH_BODIES), bodies=True), list[Message]()
    while len(found) < limit and (letters := (yield from walk.next())):
        for letter in letters:
            room -= letter.size
            if room < 0 and found:
                return found
            found.append(letter.message or _unreadable(queue, letter))
    return found[:limit]


def redrive(
    caller: Caller, queue: str, ids: Iterable[str | uuid.UUID] | None, token: str | None, chosen: Selection
) -> Flow[int]:
    """Queue dead letters anew; the answer is how many."""
    where, who = _permitted(caller, queue, token), caller.application or "-"

    def anew(some: Sequence[bytes]) -> Call[list[Outcome[None]]]:
        return store.dead_letters.redrive(where, caller.limits, who, some)

    return (yield from _change(caller, where, ids, chosen, anew))


def purge(
    caller: Caller, queue: str, ids: Iterable[str | uuid.UUID] | None, token: str | None, chosen: Selection
) -> Flow[int]:
    """Delete dead letters; the answer is how many."""
    where = _permitted(caller, queue, token)

    def delete(some: Sequence[bytes]) -> Call[list[Outcome[None]]]:
        return store.messages.delete(where, caller.limits, some, new_nonce(), letters_only=True)

    return (yield from _change(caller, where, ids, chosen, delete))


def _permitted(caller: Caller, queue: str, token: str | None) -> PartitionKeys:
    where = caller.keys_of(queue)
    caller.authorise("admin", queue, token)
    return where


def _change(
    caller: Caller,
    where: PartitionKeys,
    ids: Iterable[str | uuid.UUID] | None,
    chosen: Selection,
    change: Change,
) -> Flow[int]:
    """Change those with these ids, or else those of the selection."""
    if ids is None:
        return (yield from _change_chosen(caller, where, chosen, change))
    if chosen != Selection():
        raise InvalidArgument("ids= goes with none of reason=, min_age= and max_age=")
    return (yield from _change_named(list(ids_of(ids)), change))


def _change_chosen(caller: Caller, where: PartitionKeys, chosen: Selection, change: Change) -> Flow[int]:
    """Change those of the selection, but leave those that refuse."""
    walk, done, total = _Walk(caller, where, chosen, BATCH, bodies=False), set[bytes](), 0
    while letters := (yield from walk.next(done)):
        outcomes = yield change([letter.id for letter in letters])
        done = {letter.id for letter, outcome in zip(letters, outcomes, strict=True) if outcome is None}
        total += len(done)
    return total


def _change_named(ids: Sequence[str | uuid.UUID], change: Change) -> Flow[int]:
    """Change those with these ids.

    Raises:
        BatchError: some are no dead letters; the others have been changed.
    """
    names = [known(id) for id in ids]
    wanted = list(dict.fromkeys(name for name in names if name is not None))
    refused: set[bytes | None] = {None}
    for first in range(0, len(wanted), BATCH):
        some = wanted[first : first + BATCH]
        outcomes = yield change(some)
        refused.update(name for name, outcome in zip(some, outcomes, strict=True) if outcome is not None)
    errors: dict[int, RedisQError] = {
        index: MessageNotFound("There is no dead letter with this id in this queue, or its body is gone.")
        for index, name in enumerate(names)
        if name in refused
    }
    if errors:
        raise BatchError([str(id) for id in ids], errors)
    return len(wanted)


def _unreadable(queue: str, letter: DeadLetter) -> Message:
    """Make the message of a dead letter that cannot be read."""
    error = {
        "type": "Unreadable",
        "message": "What Redis holds of it is damaged, or was written by a newer redisq.",
        "reason": "unreadable",
    }
    died = _EPOCH + timedelta(milliseconds=letter.died)
    return Message(keys.id_text(letter.id), queue, Status.ERROR, request=None, error=error, finished_at=died)
