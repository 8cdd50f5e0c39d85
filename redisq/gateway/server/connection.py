"""One connection of the gateway's server: uvicorn's protocol, made strict and given an end.

It is built on the protocol over httptools (llhttp), not on the one over h11, because that parser is both the stricter
and the faster. h11 takes a bare LF for the end of a line, joins folded lines, lets control characters pass in values
and the same Content-Length twice; llhttp refuses all of it, and `heads` refuses what llhttp lets pass. A request of
eight headers costs 15 us of CPU over llhttp, and 80 us over h11 (loop, parser and answer; no socket).

uvicorn times nothing but the pause between two requests. Here each connection only notes when something began; the
server looks at all of them a few times a second (`look`), which costs a request nothing: no timer is set or cancelled.

A request that is refused is never executed, nor is anything that comes after it on its connection: nothing more is
parsed. Its answer waits for those of requests before it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from redisq.gateway.server import heads
from redisq.gateway.server.connections import Behind, Connections, Peer
from redisq.gateway.server.measure import Clock, Size
from redisq.gateway.server.refusals import Refused
from redisq.gateway.server.response import Cycle
from redisq.gateway.server.states import (
    BODY,
    CLOSED,
    HEAD,
    IDLE,
    LEAVING,
    LINGERING,
    PARSING,
    REFUSED,
    TRANSITIONS,
    State,
)
from redisq.gateway.server.transport import BoundedTransport
from redisq.gateway.server.unread import Lined
from redisq.runtime.states import follow

log = logging.getLogger("redisq.gateway.server")

_PIPELINE = 16  # requests that wait behind one another on a connection; what comes then is parsed when some have ended
_DISCARDED = 8 * 1024 * 1024  # bytes that are read and forgotten, so that a client who still sends gets its answer
_LINGER = 2.0  # seconds that it is given for that


class Connection(Lined):
    """A connection that is strict with what comes, and cut when something takes too long."""

    server_state: Connections

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        peer: Peer | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self._options = server_state.options
        self._peer = peer  # None until it is counted
        self._now = self.loop.time()
        self._state = HEAD  # see TRANSITIONS
        self._clock = Clock(self._options, self._now)
        self._size = Size(self._options)
        self._keep_alive = False  # what the request being read wants
        self._running: RequestResponseCycle | None = None
        self._task: asyncio.Task[None] | None = None
        self._held = bytearray()  # came behind very many requests, and is not parsed yet; nothing is read meanwhile
        self._refused: Refused | None = None  # what is answered when the requests before it have been
        self._discarded = 0
        self._behind = Behind(server_state)

    def _enter(self, state: State) -> None:
        self._state = follow(TRANSITIONS, self._state, state)
        self._clock.since, self._size.read = self._now, 0

    # --- What comes ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or turn it away at once."""
        self._output = output = BoundedTransport(cast(asyncio.Transport, transport), self._close)
        if self._peer is None:
            self._peer = self.server_state.enter(output)
        if self._peer is None:
            output.write(Refused(503, "there are too many connections").answer())
            self._leave(CLOSED)
            return
        super().connection_made(output)
        self.client = self._peer.client

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application, and count the connection no more."""
        if self._peer is not None:
            super().connection_lost(exc)
            self.pipeline.clear()
            self.server_state.leave(self._peer)
            self._behind.end_all()
        if self._state is not CLOSED:
            self._enter(CLOSED)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless nothing more is parsed."""
        if self._state not in PARSING:
            self._discarded += len(data)
            if self._state is REFUSED or self._discarded > _DISCARDED:
                self.flow.pause_reading()
            return
        self._now = self._clock.arrived = self.loop.time()
        if self._state is IDLE:
            self._enter(HEAD)
        if self._held:
            self._held += data
        else:
            self._feed(data)

    def _go_on(self) -> None:
        """Parse what is held, as far as there is room for its requests, and then read on."""
        data = bytes(self._held)
        self._held.clear()
        self._output.release()
        self._feed(data)
        if not self._held and not self.flow.read_paused:
            self._output.resume_reading()

    def _feed(self, data: bytes) -> None:
        """Parse piece by piece, so that what is too long, or too many, shows even when it came as a whole."""
        piece, view = self._options.head_bytes // 4, memoryview(data)
        try:
            for start in range(0, len(data), piece):
                if len(self.pipeline) >= _PIPELINE:
                    self._held += view[start:]
                    self._output.hold()
                    return
                part = view[start : start + piece] if len(data) > piece else data
                self._size.read += len(part)
                self.parser.feed_data(part)
                self._size.check(self._state)
        except Refused as refused:
            self.refuse(refused)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__
            self.refuse(cause if isinstance(cause, Refused) else Refused(400, "this is not HTTP/1.1 as it should be"))

    def on_message_begin(self) -> None:
        """Begin a request; one that follows another in the same bytes begins here."""
        super().on_message_begin()
        if self._state is IDLE:
            self._enter(HEAD)
            self._size.read = 1  # at least

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field, without the white space behind its value, which the parser leaves there."""
        super().on_header(name, value.rstrip(heads.WHITE))

    def on_headers_complete(self) -> None:
        """Check the head, and start the request or put it behind those before it."""
        version, method = self.parser.get_http_version(), self.parser.get_method()
        self._size.check_head(self.url, self.headers)
        hosts = heads.check(version, method, self.headers)
        path, _, query = heads.path_and_query(self.url, hosts).partition(b"?")
        if self.server_state.stopping:
            raise Refused(503, "the server is being stopped")
        if self._peer is not None and self._peer.trusted:
            self._behind.begin(self.scope, self.headers)
        scope = self.scope
        scope["method"], scope["http_version"] = method.decode("ascii"), version
        scope["path"], scope["raw_path"], scope["query_string"] = unquote(path.decode("ascii")), path, query
        self._keep_alive = version != "1.0" and self.parser.should_keep_alive()
        self._take_on()
        self.headers = []  # trailers shall not pass for headers
        self._enter(BODY)
        self._size.payload = self._size.chunks = 0

    def _take_on(self) -> None:
        """Start the request whose head has come, or put it behind those before it."""
        before = self.cycle
        self.cycle = cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=False,  # an answer that begins before the body has come is the last one
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on."""
        self._size.payload += len(body)
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """Count a chunk, around which a few more bytes are allowed."""
        self._size.chunks += 1

    def on_message_complete(self) -> None:
        """End a request's body; from now on only the application is waited for."""
        if self.headers:
            raise Refused(400, "there are trailers")
        cycle = self.cycle
        if not cycle.response_started and not self.server_state.stopping:
            cycle.keep_alive = self._keep_alive
        super().on_message_complete()
        self._enter(IDLE)
        if cycle is self._running:
            self._clock.asked = self._now

    # --- What goes ---

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Run the application."""
        self._running = cycle
        self._task = task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def on_response_complete(self) -> None:
        """Go on with the next request, or with the refusal that waits, or begin the pause between two requests."""
        self.server_state.total_requests += 1
        self._running = self._task = self._clock.asked = None
        self._behind.end_first()
        if self._output.is_closing():
            return
        if self._state is not REFUSED:
            self.flow.resume_reading()
        self._now = self.loop.time()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._clock.asked = None if cycle.more_body else self._now
            self._start_asgi_task(cycle, app)
        elif self._refused is not None:
            self._dismiss(self._refused)
        elif self._state is IDLE:
            self._clock.since = self._now
        if self._held and len(self.pipeline) < _PIPELINE and self._state in PARSING:
            self._go_on()

    def refuse(self, refused: Refused) -> None:
        """Parse nothing more; answer what came before, then this. A request whose body is not one is not answered."""
        in_body, self._refused = self._state is BODY, refused
        self._enter(REFUSED)
        if in_body and self._running is self.cycle:
            self._abandon(self.cycle, refused)
            return
        if in_body and self.pipeline:
            self.pipeline.popleft()  # the newest, which has never run
        if self._running is None:
            self._dismiss(refused)
        else:
            self.flow.pause_reading()

    def cut(self, refused: Refused) -> None:
        """Give up the request that is running, and those behind it."""
        self.pipeline.clear()
        if self._running is None or self._task is None:
            self._output.abort()
            return
        self._abandon(self._running, refused)
        self._task.cancel()

    def _abandon(self, cycle: RequestResponseCycle, refused: Refused) -> None:
        """Let the application see its client gone; the client sees half an answer, or this one in its place."""
        cycle.disconnected = True
        cycle.message_event.set()
        self.flow.resume_writing()
        if cycle.response_started:
            self._output.abort()  # half an answer must not pass for a whole one
        elif self._state not in LEAVING:
            self._dismiss(refused)

    def _dismiss(self, refused: Refused) -> None:
        log.debug("refused with %d: %s", refused.status, refused.reason)
        self._output.write(refused.answer())
        self._leave(LINGERING)

    def _close(self) -> None:
        """Close when all is sent; a client that still sends is listened to for a while, or might not get its answer."""
        if self._state not in LEAVING:
            self._leave(CLOSED if self._state is IDLE and not self._held else LINGERING)

    def _leave(self, state: State) -> None:
        """End this side when all is sent, and the other one, too, or read on for a while: LINGERING."""
        self._now = self.loop.time()
        self._enter(state)
        if state is CLOSED:
            self._output.close_both()
            return
        self._held.clear()
        self._output.release()
        self._output.end()
        self.flow.resume_reading()

    # --- When it ends ---

    def look(self, now: float) -> None:
        """Cut what takes too long. The server calls it a few times a second, also while it stops."""
        options, output, leaving = self._options, self._output, self._state in LEAVING
        stalled = not leaving and (self.flow.read_paused or bool(self._held))
        self._clock.look(now, stalled=stalled)
        if output.stuck(now, options.write_timeout, options.slowest_rate):
            output.abort()
        elif leaving:
            if now - self._clock.since > _LINGER and not output.get_write_buffer_size():
                output.abort()
        elif not stalled and self._clock.client_is_late(self._state, self._size.read, now):
            self._wait_no_longer()
        if self._state in LEAVING or self._running is None or output.get_write_buffer_size():
            return
        if self._clock.application_is_late(now):
            self.cut(Refused(503, "the answer took too long"))

    def _wait_no_longer(self) -> None:
        """End the wait for a client; one that has said nothing at all is told nothing."""
        if self._state is IDLE:
            self._close()
        elif self._state is BODY:
            self.refuse(Refused(408, "the body came too slowly"))
        elif self._size.read:
            self.refuse(Refused(408, "the head came too slowly"))
        else:
            self._output.abort()

    def shutdown(self) -> None:
        """Close what is idle; let what runs be the last one of its connection."""
        if self._running is not None:
            self.cycle.keep_alive = False
        elif self._state is HEAD and self._size.read:
            self.refuse(Refused(503, "the server is being stopped"))
        elif self._state in PARSING:
            self._leave(CLOSED)
