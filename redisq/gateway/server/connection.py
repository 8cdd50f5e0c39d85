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
from enum import Enum
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from redisq.gateway.server import addresses, heads
from redisq.gateway.server.connections import Behind, Connections, Peer
from redisq.gateway.server.refusals import Refused
from redisq.gateway.server.response import Cycle
from redisq.gateway.server.transport import BoundedTransport
from redisq.gateway.server.unread import Lined

log = logging.getLogger("redisq.gateway.server")

_PIPELINE = 16  # requests that wait behind one another on a connection; what comes then is parsed when some have ended
_CHUNK = 16  # bytes around one chunk: its size, two ends of lines, a few zeros
_DISCARDED = 8 * 1024 * 1024  # bytes that are read and forgotten, so that a client who still sends gets its answer
_LINGER = 2.0  # seconds that it is given for that


class Reading(Enum):
    """What comes next from the client."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


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
        self._now = self._looked = self.loop.time()
        self._reading = Reading.HEAD
        self._since = self._now  # when what is being read began, or the pause between two requests
        self._arrived = self._now  # when the last bytes of a body came
        self._size = 0  # bytes of this head, or of this body with all that is around it
        self._payload = 0  # bytes of this body without
        self._chunks = 0
        self._keep_alive = False  # what the request being read wants
        self._running: RequestResponseCycle | None = None
        self._task: asyncio.Task[None] | None = None
        self._asked: float | None = None  # since when only the application is waited for
        self._stalled = 0.0  # seconds for which it has not taken more of a body
        self._held = bytearray()  # came behind very many requests, and is not parsed yet; nothing is read meanwhile
        self._refused: Refused | None = None  # why nothing more is parsed
        self._left: float | None = None  # when it was closed from this side
        self._discarded = 0
        self._behind = Behind(server_state)

    # --- What comes ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or turn it away at once."""
        self._output = output = BoundedTransport(cast(asyncio.Transport, transport), self._close)
        if self._peer is None:
            self._peer = self.server_state.enter(output)
        if self._peer is None:
            self._left = self._now
            output.write(Refused(503, "there are too many connections").answer())
            output.close_both()
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

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless nothing more is parsed."""
        if self._refused is not None or self._left is not None:
            self._discard(len(data))
            return
        self._now = self._arrived = self.loop.time()
        if self._reading is Reading.NOTHING:
            self._expect(Reading.HEAD)
        if self._held:
            self._hold(data)
        else:
            self._feed(data)

    def _hold(self, data: bytes | memoryview) -> None:
        """Parse no more, and read no more, until some of the requests that wait have been answered."""
        self._held += data
        self._output.hold()

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
                    self._hold(view[start:])
                    return
                self._parse(view[start : start + piece] if len(data) > piece else data)
        except Refused as refused:
            self.refuse(refused)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__
            self.refuse(cause if isinstance(cause, Refused) else Refused(400, "this is not HTTP/1.1 as it should be"))

    def _expect(self, what: Reading) -> None:
        self._reading, self._since, self._size = what, self._now, 0

    def _parse(self, data: bytes | memoryview) -> None:
        """Parse, and bound what the parser does not tell: a line without an end, extensions of chunks, trailers."""
        most = self._options.head_bytes
        self._size += len(data)
        self.parser.feed_data(data)
        if self._reading is Reading.HEAD and self._size > most:
            raise Refused(431, "the head is too large")
        if self._reading is Reading.BODY and self._size - self._payload > most + self._chunks * _CHUNK:
            raise Refused(400, "there is too much around the chunks")

    def on_message_begin(self) -> None:
        """Begin a request; one that follows another in the same bytes begins here."""
        super().on_message_begin()
        if self._reading is Reading.NOTHING:
            self._expect(Reading.HEAD)
            self._size = 1  # at least

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field, without the white space behind its value, which the parser leaves there."""
        super().on_header(name, value.rstrip(heads.WHITE))

    def on_headers_complete(self) -> None:
        """Check the head, and start the request or put it behind those before it."""
        options, version, method = self._options, self.parser.get_http_version(), self.parser.get_method()
        if len(self.headers) > options.head_fields or self._head_size() > options.head_bytes:
            raise Refused(431, "the head is too large")
        hosts = heads.check(version, method, self.headers)
        path, _, query = heads.path_and_query(self.url, hosts).partition(b"?")
        if self.server_state.stopping:
            raise Refused(503, "the server is being stopped")
        if self._peer is not None and self._peer.trusted:
            self._believe_the_proxy()
        scope = self.scope
        scope["method"], scope["http_version"] = method.decode("ascii"), version
        scope["path"], scope["raw_path"], scope["query_string"] = unquote(path.decode("ascii")), path, query
        self._keep_alive = version != "1.0" and self.parser.should_keep_alive()
        self._take_on(self._cycle())
        self.headers = []  # trailers shall not pass for headers
        self._expect(Reading.BODY)
        self._payload = self._chunks = 0

    def _head_size(self) -> int:
        """Count the bytes of a head, exactly only when it may be too large: what it came with is in `_size`, but for
        the piece that it begins in when that is another request's, too."""
        most = self._size + self._options.head_bytes // 4
        return most if most <= self._options.head_bytes else heads.size_of(self.url, self.headers)

    def _cycle(self) -> Cycle:
        return Cycle(
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

    def _take_on(self, cycle: Cycle) -> None:
        """Start a request, or put it behind those before it."""
        before, self.cycle = self.cycle, cycle
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _believe_the_proxy(self) -> None:
        forwarded = [value for name, value in self.headers if name == b"x-forwarded-for"]
        client = ""
        if forwarded and self.client:
            client = addresses.client_of(self.client[0], forwarded, self._options.trusted_proxies)
            self.scope["client"] = (client, 0)
        self._behind.begin(addresses.neighbourhood(client) if client else "")
        schemes = [value for name, value in self.headers if name == b"x-forwarded-proto"]
        if schemes and schemes[-1].lower() in (b"http", b"https"):
            self.scope["scheme"] = "https" if schemes[-1].lower() == b"https" else "http"

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on."""
        self._payload += len(body)
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """Count a chunk, around which a few more bytes are allowed."""
        self._chunks += 1

    def on_message_complete(self) -> None:
        """End a request's body; from now on only the application is waited for."""
        if self.headers:
            raise Refused(400, "there are trailers")
        cycle = self.cycle
        if not cycle.response_started and not self.server_state.stopping:
            cycle.keep_alive = self._keep_alive
        super().on_message_complete()
        self._expect(Reading.NOTHING)
        if cycle is self._running:
            self._asked = self._now

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
        self._running = self._task = self._asked = None
        self._behind.end_first()
        if self._output.is_closing():
            return
        if self._refused is None:
            self.flow.resume_reading()
        self._now = self.loop.time()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._asked = None if cycle.more_body else self._now
            self._start_asgi_task(cycle, app)
        elif self._refused is not None:
            self._dismiss(self._refused)
        elif self._reading is Reading.NOTHING:
            self._since = self._now
        if self._held and len(self.pipeline) < _PIPELINE and self._refused is None:
            self._go_on()

    def refuse(self, refused: Refused) -> None:
        """Parse nothing more; answer what came before, then this. A request whose body is not one is not answered."""
        self._refused = refused
        if self._reading is Reading.BODY and self._running is self.cycle:
            self._abandon(self.cycle, refused)
            return
        if self._reading is Reading.BODY and self.pipeline:
            self.pipeline.popleft()  # the newest, which has never run
        if self._running is None:
            self._dismiss(refused)
        else:
            self.flow.pause_reading()

    def cut(self, refused: Refused) -> None:
        """Give up the request that is running, and those behind it."""
        self._refused = refused
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
        else:
            self._dismiss(refused)

    def _dismiss(self, refused: Refused) -> None:
        log.debug("refused with %d: %s", refused.status, refused.reason)
        self._output.write(refused.answer())
        self._linger()

    def _close(self) -> None:
        """Close when all is sent; a client that still sends is listened to for a while, or might not get its answer."""
        if self._left is not None:
            return
        if self._reading is Reading.NOTHING and self._refused is None and not self._held:
            self._left = self._now
            self._output.close_both()
        else:
            self._linger()

    def _linger(self) -> None:
        self._left = self.loop.time()
        self._held.clear()
        self._output.release()
        self._output.end()
        self.flow.resume_reading()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._left is None or self._discarded > _DISCARDED:
            self.flow.pause_reading()

    # --- When it ends ---

    def look(self, now: float) -> None:
        """Cut what takes too long. The server calls it a few times a second, also while it stops."""
        options, output = self._options, self._output
        passed, self._looked = now - self._looked, now
        if output.stuck(now, options.write_timeout, options.slowest_rate):
            output.abort()
        elif self._left is not None:
            if now - self._left > _LINGER and not output.get_write_buffer_size():
                output.abort()
        elif self.flow.read_paused or self._held:
            self._since += passed  # the client is not to blame
            self._arrived += passed
            self._stalled += passed
        else:
            self._stalled = 0.0
            self._look_at_the_client(now)
        if self._left is None and self._too_long(now) and not output.get_write_buffer_size():
            self.cut(Refused(503, "the answer took too long"))

    def _look_at_the_client(self, now: float) -> None:
        options, spent = self._options, now - self._since
        if self._reading is Reading.BODY:
            late = spent - self._size / options.slowest_rate > options.body_timeout
            if late or now - self._arrived > options.body_idle_timeout:
                self.refuse(Refused(408, "the body came too slowly"))
        elif self._reading is Reading.HEAD:
            if spent > options.head_timeout:
                self._hurry()
        elif self._running is None and spent > options.keep_alive:
            self._close()

    def _hurry(self) -> None:
        """End the wait for a head; a client that has said nothing at all is told nothing."""
        if self._size:
            self.refuse(Refused(408, "the head came too slowly"))
        else:
            self._output.abort()

    def _too_long(self, now: float) -> bool:
        waited = self._stalled if self._asked is None else now - self._asked
        return self._running is not None and waited > self._options.request_timeout

    def shutdown(self) -> None:
        """Close what is idle; let what runs be the last one of its connection."""
        if self._running is not None:
            self.cycle.keep_alive = False
        elif self._left is None and self._refused is None:
            if self._reading is Reading.HEAD and self._size:
                self.refuse(Refused(503, "the server is being stopped"))
            else:
                self._left = self.loop.time()
                self._output.close_both()
