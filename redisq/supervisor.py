"""Run one private server for `embedded.py`, in a process of its own, and leave nothing behind when it ends.

    your process ──socket──> supervisor (python -m redisq.supervisor ORDER) ──> redis-server

The supervisor owns the server, its private temporary folder (which goes at the end) and the lock on its directory. It
ends them when your process asks for it, ends, is killed or replaces itself (exec), and no other process is attached to
the server. It has a session of its own, so Ctrl-C in a terminal reaches your program alone. It answers on stdout, in
lines of JSON: the running server, or {"error"}; and {"kept"} when the server has to outlive your process.

Beside the server's data in its directory:

    redis.log               what the server says
    redisq-embedded.lock    locked (flock) as long as the supervisor or the server lives
    redisq-embedded.json    the running server, or empty; each attached process holds a shared lock on it
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from redisq import process

LOCK_FILE = "redisq-embedded.lock"
STATE_FILE = "redisq-embedded.json"
LOG_FILE = "redis.log"

_START_TIMEOUT = 15.0  # seconds without an answer; "I am loading" is an answer
_REWRITE_TIMEOUT = 60.0  # seconds to write the append-only file anew
_STOP_TIMEOUT = 5.0  # seconds from SIGTERM to SIGKILL
_WATCH = 1.0  # seconds between looks at what cannot wake us: who our parent is, whether the server lives, the locks
_SOCKET_PATH_LIMIT = 100  # bytes; the system's own is 103 on macOS, 107 on Linux


class _Refusal(Exception):
    """Why there is no server, for the owner. `busy`: because another one uses the directory."""

    def __init__(self, message: str, busy: bool = False) -> None:
        super().__init__(message)
        self.busy = busy


def main() -> None:
    """Do what the JSON in the first argument orders; `embedded.start` writes it."""
    try:
        with process.catching(lambda _: sys.exit()), contextlib.ExitStack() as leaving:
            _supervise(json.loads(sys.argv[1]), leaving)
    except (_Refusal, OSError) as error:
        _report({"error": str(error), "busy": getattr(error, "busy", False)})


def _report(news: Mapping[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):  # the owner is gone
        os.write(1, json.dumps(news).encode() + b"\n")


def _supervise(order: Mapping[str, Any], leaving: contextlib.ExitStack) -> None:
    """Run the server until nobody uses it. `leaving` undoes everything, however this ends."""
    private = _private_folder()
    leaving.callback(shutil.rmtree, private, ignore_errors=True)
    directory = Path(order["directory"] or private)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = leaving.enter_context((directory / LOCK_FILE).open("a"))
    state = leaving.enter_context((directory / STATE_FILE).open("a+"))
    _take(directory, lock, state)
    with (directory / LOG_FILE).open("ab") as log:
        os.dup2(log.fileno(), 2)
    server = None
    if order["binary"]:
        server, url = _run(order, directory, private / "redis.sock", lock, leaving)
    else:
        url = _run_fakeredis()
    pid = server.pid if server else os.getpid()
    running = {**order["server"], "url": url, "pid": pid, "directory": str(directory)}
    state.write(json.dumps(running))
    state.flush()
    _report(running)
    _wait_until_unused(order["owner"], server, state)


def _private_folder() -> Path:
    """Make a temporary folder whose path leaves room for a unix socket's name."""
    usual = tempfile.gettempdir()
    fits = len(os.fsencode(f"{usual}/redisq-12345678/redis.sock")) <= _SOCKET_PATH_LIMIT
    return Path(tempfile.mkdtemp(prefix="redisq-", dir=usual if fits else "/tmp"))  # noqa: S108 - mkdtemp makes it ours alone


def _take(directory: Path, lock: IO[str], state: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        state.seek(0)
        other = json.loads(state.read() or "{}")
        who = f"process {other['pid']} at {other['url']}" if other else "it is just starting or ending"
        raise _Refusal(f"Another server uses the directory {directory}: {who}.", busy=True) from None
    state.truncate(0)


def _run(
    order: Mapping[str, Any], directory: Path, path: Path, lock: IO[str], leaving: contextlib.ExitStack
) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server's program and wait until it answers on the unix socket `path`."""
    name = "{kind} {version}".format(**order["server"])
    if (directory / "appendonlydir").exists() and int(order["server"]["version"].split(".")[0]) < 7:
        raise _Refusal(f"The data in {directory} is of Redis 7 or later; {name} would not see it.")
    log = directory / LOG_FILE
    for _ in range(5):  # another process may be faster to take a free port
        begin = log.stat().st_size
        port = _free_port() if order["tcp"] else 0
        config = path.with_name("redis.conf")
        config.write_text(_configuration(order, path, port))
        server = subprocess.Popen(
            [order["binary"], config],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[lock.fileno()],
            preexec_fn=_end_with_supervisor,
        )
        leaving.callback(_end, server, politely=bool(order["directory"]))
        if _wait_until_ready(server, path, order["owner"]):
            if b"Truncating the AOF" in log.read_bytes()[begin:]:
                _rewrite(server, path, order["owner"])
            return server, f"redis://127.0.0.1:{port}/0" if port else f"unix://{quote(str(path))}"
        said = log.read_bytes()[begin:].decode(errors="replace").strip()
        if "Address already in use" not in said:
            ending = "\n".join(said.splitlines()[-5:])
            raise _Refusal(f"{name} ended with exit status {server.returncode}. Its log ends:\n{ending}")
    raise _Refusal(f"{name} found no free port.")


def _configuration(order: Mapping[str, Any], path: Path, port: int) -> str:
    # Without `dir` the server works in its current folder, whose name then needs no quoting. It listens on the port
    # before the socket, so once it answers on the socket, the port is known to be ours.
    settings = {
        "port": port,
        "bind": "127.0.0.1",
        "unixsocket": json.dumps(str(path), ensure_ascii=False),
        "unixsocketperm": "700",
        "save": '""',
        "appendonly": "yes",
        # Each answer is written first, so killing the server loses nothing; while it syncs each second (the default),
        # it may hold writes back for two.
        "appendfsync": "no",
        "maxmemory-policy": "noeviction",
        **order["options"],
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _end_with_supervisor() -> None:
    """Have Linux end the server should this process be killed. The thread that starts it is the only one here."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _wait_until_ready(server: subprocess.Popen[bytes], path: Path, owner: int) -> bool:
    """Return True once the server answers, False when it ended instead."""
    deadline = time.monotonic() + _START_TIMEOUT
    while server.poll() is None:
        reply = _ask(path, "PING")
        if reply and not reply.startswith(b"-LOADING"):
            return True
        if reply:
            deadline = time.monotonic() + _START_TIMEOUT
        if time.monotonic() > deadline:
            raise _Refusal(f"The server did not answer within {_START_TIMEOUT:.0f} seconds.")
        if _owner_is_done(owner, 0.01):
            sys.exit()
    return False


def _rewrite(server: subprocess.Popen[bytes], path: Path, owner: int) -> None:
    """Have the server write its append-only file anew, and return when it has.

    It cut a file that ended in the middle of a script's commands. It has loaded none of them, but left those that were
    whole in the file: with more written behind them, the next start would run half of that script. Until then nothing
    is lost by giving up: a start on the file as it is now cuts it again. https://github.com/valkey-io/valkey/pull/4342
    """
    deadline = time.monotonic() + _REWRITE_TIMEOUT
    reply = _ask(path, "BGREWRITEAOF")
    written = {b"aof_rewrite_in_progress:0", b"aof_rewrite_scheduled:0", b"aof_last_bgrewrite_status:ok"}
    while reply.startswith(b"+") and server.poll() is None and time.monotonic() < deadline:
        if written.issubset(_ask(path, "INFO persistence").splitlines()):
            return
        if _owner_is_done(owner, 0.01):
            sys.exit()
    said = reply.decode(errors="replace").strip() or "nothing"
    raise _Refusal(
        f"The append-only file ended in half a call, and the server did not write it anew. It said: {said}. "
        f"{LOG_FILE} tells more."
    )


def _ask(path: Path, command: str) -> bytes:
    """Give the server's reply to a command, empty without one."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_WATCH)
        connection.connect(str(path))
        connection.sendall(f"{command}\r\n".encode())
        with connection.makefile("rb") as replies:
            reply = replies.readline()
            return replies.read(int(reply[1:])) if reply.startswith(b"$") else reply
    return b""


def _run_fakeredis() -> str:
    """Serve fakeredis from a thread of this process."""
    from fakeredis import TcpFakeServer

    TcpFakeServer.request_queue_size = 128  # with its own 5, some of many simultaneous connections wait a second
    server = TcpFakeServer(("127.0.0.1", 0))

    class Handler(server.RequestHandlerClass):  # type: ignore[name-defined,misc]
        """Keeps a connection open after an error reply, as Redis does; fakeredis' own closes it."""

        def setup(self) -> None:
            super().setup()
            client = self.current_client
            read = client.read_response

            def read_response() -> Any:
                try:
                    return read()
                except ConnectionError:
                    raise
                except Exception as refusal:
                    return refusal

            client.read_response = read_response

    server.RequestHandlerClass = Handler
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"redis://127.0.0.1:{server.server_address[1]}/0"


def _owner_is_done(owner: int, timeout: float) -> bool:
    """Wait up to `timeout` seconds for the end of the owner's socket, and tell whether the owner is done.

    A forked child of a killed owner may hold the socket open; then only our having a new parent tells.
    """
    return bool(select.select([0], [], [], timeout)[0]) or os.getppid() != owner


def _wait_until_unused(owner: int, server: subprocess.Popen[bytes] | None, state: IO[str]) -> None:
    """Return when the server ended, or the owner is done and no process is attached; from then on none can attach."""
    told = False
    while server is None or server.poll() is None:
        if not told and not _owner_is_done(owner, _WATCH):
            continue
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state.truncate(0)
            return
        if not told:
            _report({"kept": True})
            told = True
        time.sleep(_WATCH)


def _end(server: subprocess.Popen[bytes], politely: bool) -> None:
    if politely:
        server.terminate()
    else:
        server.kill()  # there is nothing to keep
    try:
        server.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
