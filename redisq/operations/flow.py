"""What an operation is: a generator of calls and pauses that `RedisQ` and `AsyncRedisQ` drive. Pure.

A flow yields a `Call` and is sent its decoded reply (or has its error thrown in), or yields a `Pause`; or it yields a
`Begin`, goes on with something else while that call is under way, and yields a `Finish` for its reply. What would hold
an event loop up is yielded as `Aside`. Before its first call it has checked the names, the ids, the body and the grant,
so that a refused operation sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from redisq.errors import RedisQError
from redisq.store.call import Call

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait, in seconds. One on the beat may be half as long or half as long again, to end with others' waits."""

    seconds: float
    on_the_beat: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """A call to send now and to answer later: a handle is sent back."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Finish:
    """A handle of a call that was begun, and is answered now."""

    handle: Any


@dataclass(frozen=True, slots=True)
class Aside:
    """Work that takes a while: on an event loop it is done in a thread, and its answer is sent back."""

    work: Callable[[], Any]


Flow = Generator[Call[Any] | Pause | Begin | Finish | Aside, Any, T]


def settled(outcome: T | RedisQError) -> T:
    """Return an outcome, or raise the error that stands in its place."""
    if isinstance(outcome, RedisQError):
        raise outcome
    return outcome
