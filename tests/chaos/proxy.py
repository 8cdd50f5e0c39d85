"""Doors: proxies in front of Redis, one for each client and worker, that misbehave on request.

`tests.support.servers.proxy` is for a test that knows which request shall fail, and remembers all it saw. A door knows
no requests and remembers nothing, so that a million messages may pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16


@dataclass(eq=False)
class _Pipe:
    """One client's connection; without a `server` in a black hole. `thawed` is not set while it is frozen."""

    client: asyncio.StreamWriter
    thawed: asyncio.Event
    server: asyncio.StreamWriter | None = None
    deaf: bool = False  # something was swallowed: what came after would make no sense

    def close(self, reset: bool = False) -> None:
        for end in (self.client, self.server):
            if end is not None:
                if reset and end is self.client:
                    linger = struct.pack("ii", 1, 0)
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                end.transport.abort() if reset else end.close()


class Door:
    """Forwards TCP connections to the unix socket `target`. An async context manager.

    Faults, until they are set back: `hole` takes everything and answers nothing; `split` sends replies byte by byte;
    `delay` is in seconds per reply; `drop_every` and `cut_every` hit each n-th reply (0: none): it is left out, or ends
    in its middle, and its connection is closed.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._pipes: set[_Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._replies = 0
        #: held by whoever makes it misbehave: one at a time
        self.busy = asyncio.Lock()
        self.hole = False
        self.split = False
        self.delay = 0.0
        self.drop_every = 0
        self.cut_every = 0

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/0"

    def freeze(self) -> None:
        """Hold the present connections up, both ways, until `heal`; then all arrives, later than newer calls."""
        for pipe in self._pipes:
            pipe.thawed.clear()

    def heal(self) -> None:
        """Behave from now on. Connections that lost something stay silent, as they would behind a broken router."""
        self.hole = self.split = False
        self.delay, self.drop_every, self.cut_every = 0.0, 0, 0
        for pipe in self._pipes:
            pipe.thawed.set()

    def reset(self) -> None:
        """Reset all connections."""
        for pipe in list(self._pipes):
            pipe.close(reset=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = _Pipe(writer, asyncio.Event())
        pipe.thawed.set()
        self._pipes.add(pipe)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # cancelled: the door is closed
                await self._serve(pipe, reader)
        finally:
            pipe.close()
            self._pipes.discard(pipe)
            self._tasks.discard(task)

    async def _serve(self, pipe: _Pipe, reader: asyncio.StreamReader) -> None:
        if self.hole:
            while await reader.read(_CHUNK):
                pass
            return
        from_server, pipe.server = await asyncio.open_unix_connection(self._target)
        forth = asyncio.create_task(self._pump(pipe, reader, pipe.server, self._request))
        back = asyncio.create_task(self._pump(pipe, from_server, pipe.client, self._reply))
        try:
            await asyncio.wait((forth, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            forth.cancel()
            back.cancel()
            await asyncio.gather(forth, back, return_exceptions=True)

    async def _pump(
        self,
        pipe: _Pipe,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        act: Callable[[asyncio.StreamWriter, bytes], Awaitable[bool]],
    ) -> None:
        while data := await source.read(_CHUNK):
            await pipe.thawed.wait()
            pipe.deaf = pipe.deaf or self.hole
            if not pipe.deaf and not await act(sink, data):
                return

    async def _request(self, server: asyncio.StreamWriter, data: bytes) -> bool:
        server.write(data)
        await server.drain()
        return True

    async def _reply(self, client: asyncio.StreamWriter, data: bytes) -> bool:
        self._replies += 1
        if self.drop_every and self._replies % self.drop_every == 0:
            return False
        if self.delay:
            await asyncio.sleep(self.delay)
        whole = not (self.cut_every and self._replies % self.cut_every == 0)
        if not whole:
            data = data[: len(data) // 2]
        if self.split:
            for index in range(len(data)):
                client.write(data[index : index + 1])
                await asyncio.sleep(0)
        else:
            client.write(data)
        await client.drain()
        return whole

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=256)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.heal()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
