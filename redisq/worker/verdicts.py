"""What a handler may raise to say how its attempt shall end, instead of leaving it to the queue's retry policy."""

from __future__ import annotations

from redisq.options import seconds_of


class Retry(Exception):
    """The attempt failed; the next one comes `after` that many seconds, instead of the queue's backoff.

    It counts as any failure does: after `max_attempts` of them the message is dead. With None the backoff stays.

    Raises:
        InvalidArgument: `after` is not 0 to a year (31,536,000).
    """

    def __init__(self, message: str = "The handler asked for another attempt.", *, after: float | None = None) -> None:
        if after is not None:
            seconds_of("after", after)
        super().__init__(message)
        self.after = after


class Reject(Exception):
    """The message can never be worked on: it is dead at once, reason `rejected`, with this text as its error."""

    def __init__(self, reason: str = "The handler rejected the message.") -> None:
        super().__init__(reason)
