"""The folder of a private server: taken when it is ours alone, and as it was when no server starts in it.

Beside the server's data it holds:

    redis.log               what the server says
    redisq-embedded.lock    locked (flock) as long as the supervisor or the server lives
    redisq-embedded.json    the running server, or empty; each attached process holds a shared lock on it

They and the server's data are 600 and no links, whatever the umask; see `private.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from redisq.runtime import private

LOCK_FILE = "redisq-embedded.lock"
STATE_FILE = "redisq-embedded.json"
LOG_FILE = "redis.log"

#: What the server keeps: one append-only file before Redis 7, a folder of them since; a snapshot if somebody made it.
_ONE_FILE = "appendonly.aof"
_PARTS = "appendonlydir"
_MANIFEST = "appendonly.aof.manifest"
_SNAPSHOT = "dump.rdb"

#: What the server opens besides, and makes on its way.
_DATA = re.compile(r"appendonly\.aof.*|dump\.rdb|temp-.*\.(aof|rdb).*")
_WRITER = re.compile(rb"\xfa[\x09\x0a](redis|valkey)-ver(.)", re.DOTALL)  # then the version, of that length
_HEAD = 256  # bytes of a snapshot that tell who wrote it


class Folder:
    """A folder that was opened; only its descriptor counts from then on, whatever its path leads to later.

    Raises:
        NotPrivate: the folder, or something in it that a server or its supervisor opens, is not ours alone.
        OSError: it cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_new = not path.exists()
        self._folder = private.open_folder(path, make=True)
        private.check_files(self._folder, self._names(), path)
        with self._parts() as parts:
            if parts is not None:
                private.check_files(parts, os.listdir(parts), path / _PARTS)
        self._before, self._parts_before = set[str](), set[str]()  # names
        self._said = 0  # bytes of the log, before this start

    def close(self) -> None:
        """Let go of it."""
        os.close(self._folder)

    def enter(self) -> None:
        """Make it the current folder of this process, and so of the server that it starts."""
        os.fchdir(self._folder)

    def take(self) -> int | None:
        """Lock it and give the lock's descriptor; None when another server has it."""
        while True:
            lock, is_new = self._open_lock()
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return None
            # A start that failed may just have removed the file that it had made, which this one has opened.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), os.stat(LOCK_FILE, dir_fd=self._folder, follow_symlinks=False)):
                    self._look(is_new)
                    return lock
            os.close(lock)

    def _open_lock(self) -> tuple[int, bool]:
        with contextlib.suppress(FileExistsError):
            return private.open_file(self._folder, LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL), True
        return self.open(LOCK_FILE), False

    def _look(self, is_new: bool) -> None:
        """Remember what is here, now that nobody else changes it."""
        self._before = set(os.listdir(self._folder)) - ({LOCK_FILE} if is_new else set())
        with self._parts() as parts:
            self._parts_before = set(os.listdir(parts)) if parts is not None else set()

    def open(self, name: str) -> int:
        """Open a file to read and to append."""
        return private.open_file(self._folder, name, os.O_RDWR | os.O_APPEND | os.O_CREAT)

    def open_log(self) -> int:
        """Open the log; what it holds so far is not of this start."""
        log = self.open(LOG_FILE)
        self._said = os.fstat(log).st_size
        return log

    def said(self) -> bytes:
        """Return what the log holds of this start."""
        with open(self.open(LOG_FILE), "rb") as log:
            log.seek(self._said)
            return log.read()

    def close_to_others(self) -> None:
        """Take from other users what they may do with the server's data, as an older umask left it."""
        private.close_to_others(self._folder, self._names())
        with self._parts() as parts:
            if parts is not None:
                os.fchmod(parts, 0o700)
                private.close_to_others(parts, os.listdir(parts))

    def in_parts(self) -> bool:
        """Return whether Redis 7 or later, or Valkey, has kept an append-only file here."""
        return _PARTS in self._before

    def holds_only_a_snapshot(self) -> bool:
        """Return whether a server that looks for an append-only file alone would find nothing, and start empty."""
        return _SNAPSHOT in self._before and not self._has_append_only_file()

    def writer(self) -> str | None:
        """Return which server wrote the data, as far as it tells; None when there is none."""
        heads = [self._head(_ONE_FILE, _SNAPSHOT)]
        with self._parts() as parts:
            if parts is not None:
                heads.insert(0, _head_of(parts, *sorted(os.listdir(parts))))
        if not self._has_append_only_file() and not self.holds_only_a_snapshot():
            return None
        for head in heads:
            if found := _WRITER.search(head):
                version = head[found.end() : found.end() + found[2][0]].decode(errors="replace")
                return f"{found[1].decode().capitalize()} {version}"
        return "another server"

    def put_back(self) -> None:
        """Have it hold again what it held before a start that failed. The server has ended, or was never started."""
        with self._parts() as parts:
            if parts is not None:
                self._put_back_parts(parts)
        if LOG_FILE in self._before:
            with open(self.open(LOG_FILE), "rb+") as log:
                log.truncate(self._said)
        for name in {LOG_FILE, STATE_FILE, LOCK_FILE} - self._before:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)
        if self._is_new:
            with contextlib.suppress(OSError):  # something else was put into it
                os.rmdir(self.path)

    def _put_back_parts(self, parts: int) -> None:
        """Undo what a server does with the one file of an older one, before it reads it."""
        new = set(os.listdir(parts)) - self._parts_before
        if _ONE_FILE in new:
            os.rename(_ONE_FILE, _ONE_FILE, src_dir_fd=parts, dst_dir_fd=self._folder)
        for name in new - {_ONE_FILE}:
            os.unlink(name, dir_fd=parts)
        if _PARTS not in self._before:
            os.rmdir(_PARTS, dir_fd=self._folder)

    def _names(self) -> list[str]:
        """List what is here of the server and its supervisor, and what they may make."""
        return [*filter(_DATA.fullmatch, os.listdir(self._folder)), LOCK_FILE, STATE_FILE, LOG_FILE]

    @contextlib.contextmanager
    def _parts(self) -> Iterator[int | None]:
        """Open the folder of append-only files, if there is one."""
        try:
            parts = private.open_folder(_PARTS, within=self._folder, shown=self.path / _PARTS)
        except FileNotFoundError:
            yield None
            return
        try:
            yield parts
        finally:
            os.close(parts)

    def _has_append_only_file(self) -> bool:
        """Return whether a server finds one. An empty one holds nothing: it was made, and its server killed at once."""
        with self._parts() as parts:
            if parts is not None and _MANIFEST in os.listdir(parts):
                return True
        return bool(self._head(_ONE_FILE))

    def _head(self, *names: str) -> bytes:
        return _head_of(self._folder, *names)


def _head_of(folder: int, *names: str) -> bytes:
    """Read how the first of some files begins that says who wrote it, else the first that says anything."""
    heads = []
    for name in names:
        with contextlib.suppress(FileNotFoundError), open(private.open_file(folder, name, os.O_RDONLY), "rb") as file:
            heads.append(file.read(_HEAD))
    return next((head for head in heads if _WRITER.search(head)), next(filter(None, heads), b""))
