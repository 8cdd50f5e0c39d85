"""What a connection does with what its client sends, and what may follow what.

Whether a request is being answered is another matter: that goes on beside the next one's head and body.
"""

from __future__ import annotations

from enum import StrEnum, auto

from redisq.runtime.states import Table


class State(StrEnum):
    """What comes next from the client, or what becomes of it."""

    HEAD = auto()
    BODY = auto()
    IDLE = auto()
    REFUSED = auto()
    LINGERING = auto()
    CLOSED = auto()


HEAD, BODY, IDLE, REFUSED, LINGERING, CLOSED = State

_AT_ANY_TIME = {
    REFUSED: "it is malformed, too large or too slow, or the server stops",
    LINGERING: "an answer is the last one, or the one running is given up: what still comes is forgotten",
    CLOSED: "nothing is under way and the server stops, or the client is gone",
}
#: A new connection expects a HEAD.
TRANSITIONS: Table[State] = {
    HEAD: {BODY: "the head is complete, the request begins", **_AT_ANY_TIME},
    BODY: {IDLE: "the body is complete", **_AT_ANY_TIME},
    IDLE: {HEAD: "bytes come", **_AT_ANY_TIME},
    REFUSED: {
        LINGERING: "the requests before it are answered, and so is it",
        CLOSED: "half an answer was sent, or the client is gone",
    },
    LINGERING: {CLOSED: "the client is gone, or its time is over"},
    CLOSED: {},
}
#: What comes is parsed.
PARSING = frozenset({HEAD, BODY, IDLE})
#: This side has ended.
LEAVING = frozenset({LINGERING, CLOSED})
