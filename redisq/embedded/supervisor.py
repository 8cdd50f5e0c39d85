"""Run one private server for `embedded.py`, in a process of its own, and leave nothing behind when it ends.

    your process ──socket──> supervisor (python -m redisq.embedded.supervisor) ──> redis-server

The supervisor owns the server, its private temporary folder (which goes at the end) and the lock on its directory. It
ends them when your process asks for it, ends, is killed or replaces itself (exec), and no other process is attached to
the server. It has a session of its own, so Ctrl-C in a terminal reaches your program alone. It answers on stdout, in
lines of JSON: the running server, or {"error"}; and {"kept"} when the server has to outlive your process.

The order comes as the first line on stdin, not on the command line, which every user of the machine may read: it may
hold a password. The server's data lies in its directory; see `folder.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from redisq.embedded.folder import LOG_FILE, STATE_FILE, Folder
from redisq.runtime import process
from redisq.runtime.private import NotPrivate

Ask = Callable[[str], bytes]  # what the server replies to a command

_START_TIMEOUT = 15.0  # seconds without an answer; "I am loading" is an answer
_REWRITE_TIMEOUT = 60.0  # seconds to write the append-only file anew
_STOP_TIMEOUT = 5.0  # seconds from SIGTERM to SIGKILL
_WATCH = 1.0  # seconds between looks at what cannot wake us: who our parent is, whether the server lives, the locks
_OTHER = "REDISQ_EMBEDDED_SERVER names another server to start."
_ESCAPED = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_SOCKET_PATH_LIMIT = 100  # bytes; the system's own is 103 on macOS, 107 on Linux


class _Refusal(Exception):
    """Why there is no server, for the owner. `busy`: another uses the directory; `unsafe`: it cannot be used."""

    def __init__(self, message: str, *, busy: bool = False, unsafe: bool = False) -> None:
        super().__init__(message)
        self.busy, self.unsafe = busy, unsafe


class _Unopened(_Refusal):
    """The server has not touched the directory's data: it was not started, or ended at once."""


def main() -> None:
    """Do what the JSON in the first line on stdin orders; `embedded.start` writes it."""
    os.umask(0o077)  # for the server, too
    try:
        with process.catching(lambda _: sys.exit()), contextlib.ExitStack() as leaving:
            _supervise(json.loads(_first_line()), leaving)
    except _Refusal as error:
        _report({"error": str(error), "busy": error.busy, "unsafe": error.unsafe})
    except NotPrivate as error:
        _report({"error": str(error), "unsafe": True})
    except OSError as error:
        _report({"error": f"The embedded server cannot be started: {error.strerror or error}."})


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        if not (more := os.read(0, 65_536)):
            sys.exit()  # the owner is gone
        line += more
    return line


def _report(news: Mapping[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):  # the owner is gone
        os.write(1, json.dumps(news).encode() + b"\n")


def _supervise(order: Mapping[str, Any], leaving: contextlib.ExitStack) -> None:
    """Run the server until nobody uses it. `leaving` undoes everything, however this ends."""
    private = _private_folder()
    leaving.callback(shutil.rmtree, private, ignore_errors=True)
    path = Path(order["directory"] or private)
    with _using(path):
        folder = Folder(path)
        leaving.callback(folder.close)
        lock = _take(folder)
        leaving.callback(os.close, lock)
        state = leaving.enter_context(os.fdopen(folder.open(STATE_FILE), "a"))
        state.truncate(0)
        folder.enter()
        folder.close_to_others()
        os.dup2(folder.open_log(), 2)
    server = None
    try:
        if order["binary"]:
            server, url = _run(order, folder, private / "redis.sock", lock, leaving)
        else:
            url = _run_fakeredis(folder)
    except _Unopened:
        folder.put_back()
        raise
    pid = server.pid if server else os.getpid()
    running = {**order["server"], "url": url, "pid": pid, "directory": str(folder.path)}
    with _using(path):
        state.write(json.dumps(running))
        state.flush()
    _report(running)
    _wait_until_unused(order["owner"], server, state)


@contextlib.contextmanager
def _using(path: Path) -> Iterator[None]:
    """Say of which folder it is that it cannot be made, or that nothing can be written there."""
    try:
        yield
    except OSError as error:
        raise _Refusal(
            f"The folder {path} of the embedded server cannot be used: {error.strerror or error}. Name one that is "
            "there, or can be made, and that you may write to.",
            unsafe=True,
        ) from error


def _private_folder() -> Path:
    """Make a temporary folder whose path leaves room for a unix socket's name."""
    usual = tempfile.gettempdir()
    fits = len(os.fsencode(f"{usual}/redisq-12345678/redis.sock")) <= _SOCKET_PATH_LIMIT
    return Path(tempfile.mkdtemp(prefix="redisq-", dir=usual if fits else "/tmp"))  # noqa: S108 - mkdtemp makes it ours alone


def _take(folder: Folder) -> int:
    """Lock the folder and give the lock's descriptor."""
    lock = folder.take()
    if lock is None:
        with open(folder.open(STATE_FILE)) as state:
            other = json.loads(state.read() or "{}")
        who = f"process {other['pid']} at {_shown(other['url'])}" if other else "it is just starting or ending"
        raise _Refusal(f"Another server uses the directory {folder.path}: {who}.", busy=True)
    return lock


def _shown(url: str) -> str:
    """Return a server's URL without its password."""
    return re.sub(r"^(redis|unix)://:[^@/]*@", r"\1://", url)


def _run(
    order: Mapping[str, Any], folder: Folder, path: Path, lock: int, leaving: contextlib.ExitStack
) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server's program and wait until it answers on the unix socket `path`."""
    _refuse_newer_data(order, folder)
    snapshot = folder.holds_only_a_snapshot() and "appendonly" not in order["options"]
    own = _password_among(order["options"])
    password = secrets.token_urlsafe(24) if order["tcp"] and own is None else own or ""
    ask = functools.partial(_ask, path, password)
    greet = functools.partial(ask, "PING")  # without the password, one that is still loading only says that it wants it
    for _ in range(5):  # another process may be faster to take a free port
        port = _free_port() if order["tcp"] else 0
        config = path.with_name("redis.conf")
        config.write_bytes(os.fsencode(_configuration(order, path, port, password if own is None else "", snapshot)))
        server = subprocess.Popen(
            [order["binary"], config],
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[lock],
            preexec_fn=_end_with_supervisor,
        )
        leaving.callback(_end, server, politely=bool(order["directory"]))
        if _wait_until_ready(server, greet, order["owner"]):
            if snapshot:
                _rewrite(server, ask, order["owner"], "CONFIG SET appendonly yes", "There was a snapshot alone")
            elif b"Truncating the AOF" in folder.said():
                _rewrite(server, ask, order["owner"], "BGREWRITEAOF", "The append-only file ended in half a call")
            plain = _unquoted(password)
            login = f":{quote(plain, safe='')}@" if plain else ""
            return server, f"redis://{login}127.0.0.1:{port}/0" if port else f"unix://{login}{quote(str(path))}"
        said = folder.said().decode(errors="replace").strip().splitlines()
        if not any("Address already in use" in line for line in said):
            raise _Unopened(_why_it_ended(order, folder, server.returncode, said))
    raise _Unopened(f"{_name(order)} found no free port.")


def _password_among(options: Mapping[str, str]) -> str | None:
    """Return the password of yours, as redis.conf and a command that is typed in take it; None for none."""
    return next((value for name, value in options.items() if name.lower() == "requirepass"), None)


def _unquoted(word: str) -> bytes:
    """Read a word of redis.conf, which may stand in quotes."""
    raw = os.fsencode(word.strip())
    if raw[:1] == b'"':
        return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else _plain(found[2]), raw[1:-1])
    return raw[1:-1].replace(b"\\'", b"'") if raw[:1] == b"'" else raw


def _plain(escaped: bytes) -> bytes:
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}.get(escaped, escaped)


def _name(order: Mapping[str, Any]) -> str:
    return "{kind} {version}".format(**order["server"])


def _refuse_newer_data(order: Mapping[str, Any], folder: Folder) -> None:
    if folder.in_parts() and int(order["server"]["version"].split(".")[0]) < 7:
        raise _Unopened(
            f"{_name(order)} would not see the data in {folder.path}, which only Redis 7 or later reads: "
            f"it is of {folder.writer() or 'another server'}. {_OTHER}"
        )


def _why_it_ended(order: Mapping[str, Any], folder: Folder, status: int, said: list[str]) -> str:
    """Return why a server ended at once; where the data is another one's, that it was left as it is."""
    writer = folder.writer()
    if writer and writer.split()[-1] != order["server"]["version"]:
        because = said[-1].partition(" # ")[2] or said[-1] if said else f"exit status {status}"
        return (
            f"{_name(order)} cannot open the data in {folder.path}, which is of {writer} and was left as it is: "
            f"{because.partition(': ')[0].rstrip('.')}. {_OTHER}"
        )
    ending = "\n".join(said[-5:])
    return f"{_name(order)} ended with exit status {status}. Its log ends:\n{ending}"


def _configuration(order: Mapping[str, Any], path: Path, port: int, password: str, snapshot: bool) -> str:
    # Without `dir` the server works in its current folder, whose name then needs no quoting. It listens on the port
    # before the socket, so once it answers on the socket, the port is known to be ours.
    settings = {
        "port": port,
        "bind": "127.0.0.1",
        "unixsocket": json.dumps(str(path), ensure_ascii=False),
        "unixsocketperm": "700",
        "save": '""',
        # With it, a server reads no snapshot. It is told later then, and writes what it has read.
        "appendonly": "no" if snapshot else "yes",
        # Each answer is written first, so killing the server loses nothing; while it syncs each second (the default),
        # it may hold writes back for two.
        "appendfsync": "no",
        "maxmemory-policy": "noeviction",
        **({"requirepass": password} if password else {}),
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


def _wait_until_ready(server: subprocess.Popen[bytes], greet: Callable[[], bytes], owner: int) -> bool:
    """Return True once the server answers, False when it ended instead."""
    deadline = time.monotonic() + _START_TIMEOUT
    while server.poll() is None:
        reply = greet()
        if reply and not reply.startswith(b"-LOADING"):
            return True
        if reply:
            deadline = time.monotonic() + _START_TIMEOUT
        if time.monotonic() > deadline:
            raise _Refusal(f"The server did not answer within {_START_TIMEOUT:.0f} seconds.")
        if _owner_is_done(owner, 0.01):
            sys.exit()
    return False


def _rewrite(server: subprocess.Popen[bytes], ask: Ask, owner: int, command: str, why: str) -> None:
    """Have the server write its append-only file anew, as `command` makes it, and return when it has.

    It cut a file that ended in the middle of a script's commands. It has loaded none of them, but left those that were
    whole in the file: with more written behind them, the next start would run half of that script. Until then nothing
    is lost by giving up: a start on the file as it is now cuts it again. https://github.com/valkey-io/valkey/pull/4342
    Or it has read a snapshot, and has no such file yet; the snapshot stays.
    """
    deadline = time.monotonic() + _REWRITE_TIMEOUT
    reply = ask(command)
    written = {b"aof_rewrite_in_progress:0", b"aof_rewrite_scheduled:0", b"aof_last_bgrewrite_status:ok"}
    while reply.startswith(b"+") and server.poll() is None and time.monotonic() < deadline:
        if written.issubset(ask("INFO persistence").splitlines()):
            return
        if _owner_is_done(owner, 0.01):
            sys.exit()
    said = reply.decode(errors="replace").strip().rstrip(".") or "nothing"
    raise _Refusal(
        f"{why}, and the server did not write an append-only file anew. It said: {said}. {LOG_FILE} tells more."
    )


def _ask(path: Path, password: str, command: str) -> bytes:
    """Return the server's reply to a command, empty without one."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_WATCH)
        connection.connect(str(path))
        with connection.makefile("rb") as replies:
            if password:
                connection.sendall(os.fsencode(f"AUTH {password}\r\n"))
                replies.readline()
            connection.sendall(f"{command}\r\n".encode())
            reply = replies.readline()
            return replies.read(int(reply[1:])) if reply.startswith(b"$") else reply
    return b""


def _run_fakeredis(folder: Folder) -> str:
    """Serve fakeredis from a thread of this process."""
    if writer := folder.writer():
        raise _Unopened(f"The data in {folder.path} is of {writer}; fakeredis would not see it. {_OTHER}")
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
