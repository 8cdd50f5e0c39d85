"""Replies of scripts as far as several have the same: outcomes, refusals, texts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from redisq.errors import (
    ApplicationConflict,
    InvalidApplication,
    LeaseLost,
    MessageConflict,
    MessageNotFound,
    MessageTooLarge,
    QueueFull,
    RedisQError,
)
from redisq.model.queue import stored_number

T = TypeVar("T")
Outcome: TypeAlias = T | RedisQError


def nothing(_reply: Any) -> None:
    return None


def outcomes(decode: Callable[[Any], T], reply: Any) -> list[Outcome[T]]:
    """Read one outcome per message; for the only one a script may answer with a bare word."""
    if isinstance(reply, bytes):
        return [decode(reply)]
    return [refusal(item) if isinstance(item, list) else decode(item) for item in reply]


def read_outcome(reply: Any) -> RedisQError | None:
    return refusal(reply) if isinstance(reply, list) else None


def refusal(words: Sequence[bytes]) -> RedisQError:
    match words[0]:
        case b"LEASE_LOST":
            return LeaseLost()
        case b"MESSAGE_NOT_FOUND":
            return MessageNotFound()
        case b"MESSAGE_CONFLICT":
            return MessageConflict()
        case b"MESSAGE_TOO_LARGE":
            return MessageTooLarge(
                f"The message is larger than the queue's max_bytes, {int(words[1]):,} bytes. Send a reference to its "
                "data, or raise max_bytes."
            )
        case b"QUEUE_FULL":
            return QueueFull(
                f"The queue is at its max_length of {int(words[1]):,} waiting messages. Queue again later."
            )
        case b"RECORD_CHANGED":
            return ApplicationConflict()
        case b"TOO_MANY_APPLICATIONS":
            return InvalidApplication(f"There are {int(words[1]):,} applications already: no more can be registered.")
        case word:
            return RedisQError(f"A script answered with an unknown word, {word!r}: is a newer redisq at work?")


def text(reply: bytes | None) -> str | None:
    """Read what anybody may have written."""
    return None if reply is None else reply.decode(errors="backslashreplace")


def pairs(reply: Sequence[bytes]) -> dict[str, str]:
    """Read names and values that anybody may have written."""
    texts = [text.decode(errors="backslashreplace") for text in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def numbers(reply: Sequence[bytes]) -> dict[str, int]:
    """Read names and whole numbers; 0 stands for anything else."""
    return {name: stored_number(number) or 0 for name, number in pairs(reply).items()}
