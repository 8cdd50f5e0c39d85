"""How a message is stored: its body with what stands before it, and its state record. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import unquote

from redisq.body import codec
from redisq.errors import InvalidMessage
from redisq.model.message import Transition

DAMAGED = "What Redis holds of this message was damaged by another program."


class Head(NamedTuple):
    """What stands before a message's body in the hash of bodies, up to the digest: `entry;expires;priority`.

    `entry` is the id of its first stream entry, and says when it was queued. `expires` is 0 for never.
    """

    queued_at: datetime
    expires_at: datetime | None
    priority: int

    @classmethod
    def of(cls, text: bytes) -> Head:
        """Read it.

        Raises:
            InvalidMessage: it was damaged.
        """
        entry, *terms = text.split(b";")
        expires, priority = (*terms, b"0", b"0")[:2]
        try:
            return cls(instant(entry), None if expires == b"0" else instant(expires), int(priority))
        except (ValueError, OverflowError):
            raise InvalidMessage(DAMAGED) from None


def parted(stored: bytes) -> tuple[bytes, bytes]:
    """Part what is stored of a message: what tells of it, see `Head`, and behind a space and the digest its body.

    The body of a damaged one is empty.
    """
    head, _, rest = stored.partition(b" ")
    return head, rest[8:]


class Record(NamedTuple):
    """A message's state record, by the names of `lib/record.lua`.

    `status` is P, I, C or E; `counts` how often it failed, lost its lease and was released, and how suspect it is;
    `cause` a word; `at` and `entry` times and places that depend on the status; `history` what was out of the ordinary.
    `payload` is the encoded progress, result or error. "-" stands for nothing.
    """

    status: bytes
    attempt: bytes
    nonce: bytes
    counts: bytes
    cause: bytes
    at: bytes
    entry: bytes
    history: bytes
    payload: bytes

    @classmethod
    def of(cls, text: bytes) -> Record:
        """Read a record.

        Raises:
            ValueError: it was damaged, or is a tombstone.
        """
        fields = text.split(b" ", 8)
        if len(fields) != 9:
            raise ValueError("not nine fields")
        return cls(*fields)

    @property
    def text(self) -> bytes:
        """The record as it is stored."""
        return b" ".join(self)

    @property
    def numbers(self) -> tuple[int, ...]:
        """How often failed, lost, released, and how suspect it is."""
        return (0, 0, 0, 0) if self.counts == b"-" else tuple(int(number) for number in self.counts.split(b","))

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """What happened out of the ordinary."""
        if self.history == b"-":
            return ()
        lines = (line.split(",") for line in self.history.decode(errors="replace").split(";"))
        return tuple(_transition(event, int(attempt), float(at), who) for event, attempt, at, who in lines)

    @property
    def value(self) -> Any:
        """The payload, decoded; None when there is none."""
        return codec.decode(self.payload) if self.payload else None

    def error(self) -> dict[str, str]:
        """Return why an attempt failed, or why the message is dead; with a traceback, if there is one."""
        value, reason = self.value, self.cause.decode()
        if isinstance(value, dict):
            told = {"type": str(value.get("type")), "message": str(value.get("message")), "reason": reason}
            return {**told, "traceback": str(value["traceback"])} if value.get("traceback") else told
        if reason == "unreadable":
            return {"type": "Unreadable", "message": "The message's body is gone from Redis.", "reason": reason}
        if reason == "cancelled":
            return {**CANCELLED, "reason": reason}
        if reason == "expired":
            text = "Its expires_in had passed before it was delivered."
            return {"type": "Expired", "message": text, "reason": reason}
        text = f"Its lease lapsed {self.numbers[1]} times: the worker died, hung or lost Redis each time."
        return {"type": "LeaseLost", "message": text, "reason": reason}


#: What would end a field of a record, or its error; and the sign that stands for all of these.
_ENDS_A_FIELD = re.compile(r"[\0-\x20,;|%\x7f]")
_TOLD_TYPE, _TOLD_TEXT = 150, 300  # characters


def told_text(kind: str, text: str) -> str:
    """Write an error's type and text, both cut, as a history holds them after a name; see `lib/record.lua`."""
    parts = (kind[:_TOLD_TYPE], text[:_TOLD_TEXT])
    return "".join("|" + _ENDS_A_FIELD.sub(lambda found: f"%{ord(found[0]):02X}", part) for part in parts)


def _transition(event: str, attempt: int, at: float, who: str) -> Transition:
    event, _, count = event.partition("*")
    by, *told = who.split("|")
    error = {"type": unquote(told[0]), "message": unquote(told[1])} if len(told) == 2 else None
    return Transition(event, attempt, instant(at), by, int(count or 1), error)


#: The error of a message that was cancelled, where its handler has told none.
CANCELLED = {"type": "Cancelled", "message": "It was cancelled before it was done."}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(milliseconds_or_entry: bytes | float) -> datetime:
    """Read milliseconds since 1970, as a number or at the head of a stream's entry id."""
    if isinstance(milliseconds_or_entry, bytes):
        milliseconds_or_entry = float(milliseconds_or_entry.partition(b"-")[0])
    return _EPOCH + timedelta(milliseconds=milliseconds_or_entry)
