"""How much has come from a client, how long it has taken, and whether that is too much. Pure: time is passed in, by the
loop's clock.
"""

from __future__ import annotations

from redisq.gateway.server import heads
from redisq.gateway.server.limits import Limits
from redisq.gateway.server.refusals import Refused
from redisq.gateway.server.states import BODY, HEAD, IDLE, State

_CHUNK = 16  # bytes around one chunk: its size, two ends of lines, a few zeros


class Size:
    """How much has come of a head, or of a body, with what the parser does not tell."""

    __slots__ = ("_options", "chunks", "payload", "read")

    def __init__(self, options: Limits) -> None:
        self._options = options
        self.read = 0  # bytes of this head, or of this body with all that is around it
        self.payload = 0  # bytes of this body without
        self.chunks = 0

    def check(self, state: State) -> None:
        """Bound a line without an end, extensions of chunks, trailers. Raises: Refused."""
        most = self._options.head_bytes
        if state is HEAD and self.read > most:
            raise Refused(431, "the head is too large")
        if state is BODY and self.read - self.payload > most + self.chunks * _CHUNK:
            raise Refused(400, "there is too much around the chunks")

    def check_head(self, target: bytes, headers: heads.Headers) -> None:
        """Bound a head that is complete. Raises: Refused.

        Its bytes are counted exactly only when they may be too many: what it came with is in `read`, but for the piece
        that it begins in when that is another request's, too.
        """
        most = self._options.head_bytes
        size = self.read + most // 4
        if size > most:
            size = heads.size_of(target, headers)
        if len(headers) > self._options.head_fields or size > most:
            raise Refused(431, "the head is too large")


class Clock:
    """When what is waited for began, and whether it takes too long."""

    __slots__ = ("_looked", "_options", "_stalled", "arrived", "asked", "since")

    def __init__(self, options: Limits, now: float) -> None:
        self._options = options
        self.since = now  # when the connection came to its state, or the pause between two requests began
        self.arrived = now  # when the last bytes of a body came
        self.asked: float | None = None  # since when only the application is waited for
        self._stalled = 0.0  # seconds for which it has not taken more of a body
        self._looked = now

    def look(self, now: float, *, stalled: bool) -> None:
        """Take note of the time that has passed; while nothing is read the client is not to blame for it."""
        passed, self._looked = now - self._looked, now
        if stalled:
            self.since += passed
            self.arrived += passed
            self._stalled += passed
        else:
            self._stalled = 0.0

    def client_is_late(self, state: State, size: int, now: float) -> bool:
        """Return whether a head, a body of `size` bytes so far or the next request has been waited for too long."""
        options, spent = self._options, now - self.since
        if state is BODY:
            late = spent - size / options.slowest_rate > options.body_timeout
            return late or now - self.arrived > options.body_idle_timeout
        if state is HEAD:
            return spent > options.head_timeout
        return state is IDLE and self.asked is None and spent > options.keep_alive

    def application_is_late(self, now: float) -> bool:
        """Return whether a request that runs takes too long by its own fault."""
        return (self._stalled if self.asked is None else now - self.asked) > self._options.request_timeout
