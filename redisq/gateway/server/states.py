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


_AT_ANY_TIME = {
    State.REFUSED: "it is malformed, too large or too slow, or the server stops",
    State.LINGERING: "an answer is the last one, or the one running is given up: what still comes is forgotten",
    State.CLOSED: "nothing is under way and the server stops, or the client is gone",
}
#: A new connection expects a HEAD.
TRANSITIONS: Table[State] = {
    State.HEAD: {State.BODY: "the head is complete, the request begins", **_AT_ANY_TIME},
    State.BODY: {State.IDLE: "the body is complete", **_AT_ANY_TIME},
    State.IDLE: {State.HEAD: "bytes come", **_AT_ANY_TIME},
    State.REFUSED: {
        State.LINGERING: "the requests before it are answered, and so is it",
        State.CLOSED: "half an answer was sent, or the client is gone",
    },
    State.LINGERING: {State.CLOSED: "the client is gone, or its time is over"},
    State.CLOSED: {},
}
#: What comes is parsed.
PARSING = frozenset({State.HEAD, State.BODY, State.IDLE})
#: This side has ended.
LEAVING = frozenset({State.LINGERING, State.CLOSED})
