"""What a handler may raise to say how its attempt shall end, instead of leaving it to the queue's retry policy."""

from __future__ import annotations

_YEAR = 31_536_000


class Retry(Exception):
    """The attempt failed; the next one comes `after` that many seconds, instead of the queue's backoff.

    It counts as any failure does: after `max_attempts` of them the message is dead. With None the backoff stays.

    Raises:
        ValueError: `after` is not 0 to a year (31,536,000).
    """

    def __init__(self, message: str = "The handler asked for another attempt.", *, after: float | None = None) -> None:
        if after is not None and (isinstance(after, bool) or not 0 <= after <= _YEAR):
            raise ValueError("after takes seconds, from 0 to a year (31,536,000)")
        super().__init__(message)
        self.after = after


class Reject(Exception):
    """The message can never be worked on: it is dead at once, reason `rejected`, with this text as its error."""

    def __init__(self, reason: str = "The handler rejected the message.") -> None:
        super().__init__(reason)
