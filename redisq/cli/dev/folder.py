"""The folder `.redisq` in a project's folder: what `redisq dev` keeps there, and how a second one finds the first.

.gitignore      keeps all of it out of version control
credentials     of the development application, and the master key that they come from, made once; only its owner can
                read them
dev.lock        locked (flock) as long as a `redisq dev` runs here
dev.json        what that one shows, about once a second; gone when it has ended
redis.sock      a link to the socket of the server that runs now, so that its address stays when it is replaced
and the server's own data: see `redisq.embedded.folder`. Nobody else reads any of it, and no link is followed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shlex
import tempfile
import time
from pathlib import Path
from typing import IO
from urllib.parse import quote

from redisq.cli.dev.state import Snapshot
from redisq.cli.modules import current_folder
from redisq.cli.output import CommandError
from redisq.errors import InvalidCredentials
from redisq.runtime import private
from redisq.tokens.applications import MasterKey
from redisq.tokens.token import Credentials

NAME = ".redisq"
MASTER_KEY = "REDISQ_MASTER_KEY"

APPLICATION = "dev"
_FILES = (".gitignore", "credentials", "dev.lock", "dev.json", "dev.json.new")
_PATIENCE = 10.0  # seconds for another one to say what it does, or to end
_SOCKET_PATH_LIMIT = 100  # bytes; the system's own is 103 on macOS, 107 on Linux


class Folder:
    """The folder of one project, made when it is not there.

    Raises:
        CommandError: it cannot be made; it, or a file in it, is a link, somebody else's, or others may write to it.
    """

    def __init__(self, project: Path) -> None:
        self.project = project
        self.path = project / NAME
        self._lock: IO[str] | None = None
        try:
            self._folder = private.open_folder(self.path, make=True)
            private.check_files(self._folder, _FILES, self.path)
            os.fchmod(self._folder, 0o700)  # it holds messages, and what workers print
            private.close_to_others(self._folder, _FILES)
            private.replace_file(self._folder, ".gitignore", "*\n")
        except private.NotPrivate as error:
            raise CommandError(f"The folder {self.path} cannot be used. {error}") from None
        except OSError as error:
            raise CommandError(f"The folder {self.path} cannot be used: {error.strerror}.") from error

    @classmethod
    def here(cls) -> Folder:
        """Return the folder of the current folder."""
        return cls(Path(current_folder()))

    @property
    def url(self) -> str:
        """The address under which any process reaches this folder's Redis, and starts it when it does not run."""
        return f"embedded://{quote(str(self.path))}"

    def credentials(self) -> Credentials:
        """Return the development application's credentials, made once from a master key of the folder's own.

        However many processes ask at once, all get the same; if this one dies half-way, there are none yet.

        Raises:
            CommandError: the file was damaged.
        """
        return self._known()[0]

    def _known(self) -> tuple[Credentials, MasterKey]:
        file = self.path / "credentials"
        with contextlib.suppress(FileExistsError):
            if not file.exists():
                master = MasterKey.generate()
                new = master.credentials(APPLICATION, secrets.token_hex(8))
                self._place(file, "".join(f"{name}={value}\n" for name, value in _variables(new, master).items()))
        try:
            with self._open(file.name) as credentials:
                found = dict(line.split("=", 1) for line in credentials.read().splitlines())
            known = Credentials.parse(found["REDISQ_APP_ID"], found["REDISQ_APP_SECRET"])
            return known, MasterKey.parse(found[MASTER_KEY])
        except (OSError, ValueError, KeyError, InvalidCredentials, private.NotPrivate):
            raise CommandError(f"{file} cannot be read. Remove it: the next `redisq dev` makes new ones.") from None

    def _open(self, name: str, flags: int = os.O_RDONLY) -> IO[str]:
        mode = "r" if flags == os.O_RDONLY else "a"
        return os.fdopen(private.open_file(self._folder, name, flags), mode, encoding="utf-8")

    def _place(self, file: Path, text: str) -> None:
        """Write a file that nobody else can read, whole or not at all. Raises: FileExistsError."""
        number, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=self.path)  # mode 600
        try:
            with open(number, "w") as new:
                new.write(text)
            os.link(name, file)
        finally:
            os.unlink(name)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that lead to this Redis, as its application, without the master key."""
        return {name: value for name, value in self._all_variables().items() if name != MASTER_KEY}

    def master_key(self) -> dict[str, str]:
        """Return the variable that holds the master key, for the gateway alone."""
        return {MASTER_KEY: self._all_variables()[MASTER_KEY]}

    def exports(self) -> list[str]:
        """Return the lines that make a shell and what it starts use this Redis, whether or not it runs already."""
        return [f"export {name}={shlex.quote(value)}" for name, value in self._all_variables().items()]

    def _all_variables(self) -> dict[str, str]:
        return {"REDISQ_URL": self.url, **_variables(*self._known())}

    def take(self) -> Snapshot | None:
        """Take the folder for this process and give None; or what the one shows that has it.

        Raises:
            CommandError: another one has it, but does not say what it does.
        """
        end = time.monotonic() + _PATIENCE
        self._lock = self._open("dev.lock", os.O_RDWR | os.O_APPEND | os.O_CREAT)
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return None
            if shown := self.published():
                return shown
            if time.monotonic() > end:
                raise CommandError("Another `redisq dev` is just starting or ending here. Try again.")
            time.sleep(0.05)

    def publish(self, snapshot: Snapshot) -> None:
        """Let others see what this process shows.

        Raises:
            CommandError: the folder was removed, or its disk is full.
        """
        try:
            private.replace_file(self._folder, "dev.json", snapshot.to_json())
        except OSError as error:
            raise CommandError(f"The folder {self.path} cannot be used any more: {error.strerror}.") from error

    def published(self) -> Snapshot | None:
        """Return what the process shows that has the folder; None when there is none."""
        try:
            with self._open("dev.json") as file:
                found = Snapshot.from_json(file.read())
            os.kill(found.pid, 0)
        except (OSError, ValueError, TypeError, KeyError, private.NotPrivate):
            return None
        return found

    def link(self, socket: str) -> str | None:
        """Have the link lead to a server's socket and give its path; None when that is too long for a socket's."""
        link = self.path / "redis.sock"
        if len(os.fsencode(link)) > _SOCKET_PATH_LIMIT:
            return None
        new = link.with_name("redis.sock.new")
        new.unlink(missing_ok=True)
        new.symlink_to(socket)
        new.replace(link)
        return str(link)

    def leave(self) -> None:
        """Leave the folder to the next one."""
        for name in ("redis.sock", "dev.json"):
            (self.path / name).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()


def _variables(known: Credentials, master: MasterKey) -> dict[str, str]:
    return {"REDISQ_APP_ID": known.app, "REDISQ_APP_SECRET": known.secret(), MASTER_KEY: master.text()}
