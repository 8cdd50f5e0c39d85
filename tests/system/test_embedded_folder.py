"""The folder of a private server: only ours is taken, nobody else reads it, and another server's data is left alone."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import redis

from redisq import RedisQ, Settings, embedded
from redisq.embedded.folder import LOCK_FILE, LOG_FILE, STATE_FILE, Folder
from redisq.errors import InvalidSettings, RedisQError, Unavailable
from redisq.runtime.private import NotPrivate
from tests.conftest import CANDIDATES, REAL, REAL_SERVERS, start
from tests.system.test_embedded import REAL_KINDS, client, needs_real

NONE = [pytest.param("none", marks=pytest.mark.skip("no real Redis here"))]


@pytest.fixture(params=[0o000, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of ours as `mkdir` makes it: others may look into it."""
    made = tmp_path / "data"
    made.mkdir()
    made.chmod(0o755)
    return made


def modes(folder: Path) -> dict[str, int]:
    """List the modes of all that lies in a folder, beside a server that may make, rename and remove files meanwhile."""
    found: dict[str, int] = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = stat.S_IMODE(path.lstat().st_mode)
    return found


def everything(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Whatever a folder holds: modes, contents, and where links lead."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        link, plain = stat.S_ISLNK(status.st_mode), stat.S_ISREG(status.st_mode)
        content = os.readlink(path) if link else path.read_bytes() if plain else b""
        found[str(path.relative_to(folder))] = (status.st_mode, content)
    return found


# Nobody else reads it.


@pytest.mark.full(keep=3)
@pytest.mark.parametrize("name", REAL_SERVERS or NONE, ids=lambda name: Path(name).name)
@pytest.mark.parametrize("there", [False, True], ids=["made", "there"])
def test_files_are_closed_to_others_whatever_the_umask(name: str, there: bool, umask: int, tmp_path: Path) -> None:
    folder = tmp_path / "above" / "data"
    if there:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    with start(name, directory=folder) as server, client(server.url) as connection:
        connection.set("name", "value")
        connection.bgrewriteaof()
        found = modes(folder)
    found |= modes(folder)
    assert {LOCK_FILE, STATE_FILE, LOG_FILE} <= found.keys()
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
    assert there or stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.umask(umask) == umask, "the umask is the caller's own"


@needs_real
def test_files_that_others_could_read_are_closed_to_them(folder: Path) -> None:
    with start(str(REAL), directory=folder) as server, client(server.url) as connection:
        connection.set("name", "value")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with start(str(REAL), directory=folder) as server, client(server.url) as connection:
        assert connection.get("name") == "value"
        assert {name: oct(mode) for name, mode in modes(folder).items() if mode & 0o077} == {}


def test_files_that_others_could_write_are_taken_where_nobody_reached_them(folder: Path) -> None:
    with embedded.start(folder):
        pass
    folder.chmod(0o700)
    for path in folder.iterdir():
        path.chmod(0o775 if path.is_dir() else 0o664)  # as they were made under another umask
    with embedded.start(folder):
        assert {name: oct(mode) for name, mode in modes(folder).items() if mode & 0o077} == {}


# Only ours is taken.


@pytest.fixture(params=["start", "shared", "client"])
def refused(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Try to use a folder, in each way there is, and give the refusal."""

    def use(folder: Path) -> None:
        if request.param == "start":
            embedded.start(folder)
        elif request.param == "shared":
            embedded.shared(f"embedded://{folder}")
        else:
            with RedisQ(settings=Settings(url=f"embedded://{folder}", auth="none", retry_deadline=60)) as mq:
                mq.queue_message("orders", 1)

    def attempt(folder: Path) -> str:
        with pytest.raises(RedisQError) as refusal:
            use(folder)
        assert isinstance(refusal.value, InvalidSettings)
        assert isinstance(refusal.value, Unavailable)
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    return attempt


@pytest.mark.parametrize("mode", [0o775, 0o1777, 0o720], ids=oct)
def test_a_folder_that_others_may_write_to_is_refused(mode: int, folder: Path, refused: Callable[[Path], str]) -> None:
    folder.chmod(mode)
    told = refused(folder)
    assert told.startswith(f"Other users may write to the folder {folder}.")
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == mode


def test_a_folder_of_somebody_else_is_refused(refused: Callable[[Path], str], tmp_path: Path) -> None:
    other = tmp_path / "theirs"
    other.mkdir()
    if os.geteuid() == 0:
        os.chown(other, 12345, 12345)
    else:
        other = Path("/usr")
    before = sorted(path.name for path in other.iterdir())
    assert refused(other).startswith(f"{other} belongs to another user")
    assert sorted(path.name for path in other.iterdir()) == before


@pytest.mark.parametrize("dangling", [False, True], ids=["link", "dangling"])
def test_a_link_in_place_of_the_folder_is_refused(
    dangling: bool, folder: Path, refused: Callable[[Path], str], tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere" if dangling else folder)
    assert refused(link).startswith(f"{link} is a link")
    assert list(folder.iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


def test_a_file_in_place_of_the_folder_is_refused(refused: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert refused(tmp_path / "file") == f"{tmp_path / 'file'} is no folder."
    assert (tmp_path / "file").read_text() == "mine"


def closed_to_us(folder: Path) -> Path:
    (folder / "closed").mkdir(mode=0o500)
    if os.access(folder / "closed", os.W_OK):
        pytest.skip("root may write anywhere")
    return folder / "closed"


def below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "data"


def in_a_loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop" / "data"


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (closed_to_us, "Permission denied"),
        (below_a_file, "Not a directory|File exists"),
        (in_a_loop, "Too many levels of symbolic links|File exists"),
        (lambda folder: folder / ("x" * 300), "File name too long"),
        (lambda _: Path("/proc/redisq"), "No such file or directory"),
    ],
    ids=["closed", "below a file", "loop", "too long", "proc"],
)
def test_a_folder_that_cannot_be_made_or_written_to_is_refused_by_name(
    where: Callable[[Path], Path], why: str, folder: Path, refused: Callable[[Path], str]
) -> None:
    path = where(folder)
    told = refused(path)
    assert re.fullmatch(
        f"The folder {re.escape(str(path))} of the embedded server cannot be used: ({why})\\. Name one .*", told
    )


@pytest.mark.parametrize("path", ["/\ud800", "/tmp/\0x"])
def test_a_path_that_no_system_knows_is_refused_before_anything_is_started(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redisq.embedded.server._start_supervisor", lambda _: pytest.fail("it was started"))
    with pytest.raises(InvalidSettings, match="no name of a file"):
        embedded.start(path)
    with pytest.raises(InvalidSettings, match="no name of a file"):
        embedded.shared("embedded://" + path.replace("\0", "%00"))


@pytest.mark.parametrize(
    "name",
    [
        *(LOCK_FILE, STATE_FILE, LOG_FILE),
        *("appendonly.aof", "dump.rdb", "temp-1.rdb", "temp-rewriteaof-bg-7.aof"),
        *("appendonlydir", "appendonlydir/appendonly.aof.manifest", "appendonlydir/appendonly.aof.1.incr.aof"),
    ],
)
@pytest.mark.parametrize("what", ["link", "dangling", "pipe", "socket", "theirs", "writable"])
def test_whatever_is_opened_in_it_has_to_be_ours(name: str, what: str, folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    place = folder / name
    place.parent.mkdir(exist_ok=True)
    place.parent.chmod(0o755)
    if what == "link":
        place.symlink_to(tmp_path if name == "appendonlydir" else victim)
    elif what == "dangling":
        place.symlink_to(tmp_path / "nowhere")
    elif what == "pipe":
        os.mkfifo(place)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(place.parent):  # whose path may be too long
            listener.bind(place.name)
    elif name == "appendonlydir":
        place.mkdir()
    else:
        place.write_text("")
    if what == "theirs":
        if os.geteuid():
            pytest.skip("only root gives a file to somebody else")
        os.chown(place, 12345, 12345)
    if what == "writable":
        place.chmod(0o777)
    before = everything(tmp_path)
    with pytest.raises(NotPrivate, match=re.escape(str(place))):
        Folder(folder)
    assert everything(tmp_path) == before
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", [LOCK_FILE, LOG_FILE, "appendonlydir"])
def test_a_link_in_it_is_followed_in_no_way(
    name: str, folder: Path, refused: Callable[[Path], str], tmp_path: Path
) -> None:
    (tmp_path / "victim").mkdir()
    (folder / name).symlink_to(tmp_path / "victim")
    assert refused(folder).startswith(f"{folder / name} is a link")
    assert list((tmp_path / "victim").iterdir()) == []
    assert [path.name for path in folder.iterdir()] == [name]


def test_other_files_in_it_are_nobodys_business(folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to(tmp_path)
    (folder / "temp-files").mkdir()
    (folder / "dump.rdb.bak").symlink_to(tmp_path / "nowhere")
    (folder / "notes").write_text("mine")
    (folder / "notes").chmod(0o666)
    before = everything(folder)
    with embedded.start(folder):
        pass
    assert before.items() <= everything(folder).items()


# A port has a password.


@pytest.mark.parametrize("name", REAL_SERVERS or NONE, ids=lambda name: Path(name).name)
def test_a_port_has_a_random_password_that_no_process_shows(name: str, tmp_path: Path) -> None:
    with start(name, tcp=True) as server, start(name, directory=tmp_path / "data", tcp=True) as other:
        passwords = [urlsplit(one.url).password or "" for one in (server, other)]
        assert len(set(passwords)) == 2
        assert min(map(len, passwords)) >= 32
        for one, password in zip((server, other), passwords, strict=True):
            port = urlsplit(one.url).port
            with client(one.url) as connection:
                assert connection.ping()
            with client(f"redis://127.0.0.1:{port}") as stranger, pytest.raises(redis.AuthenticationError):
                stranger.get("name")
            assert password not in repr(one) + str(one)
            with pytest.raises(Unavailable) as busy:
                embedded.start(one.directory)
            assert password not in str(busy.value)
            assert str(port) in str(busy.value)
        shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        assert not [password for password in passwords if password in shown]


@needs_real
def test_options_are_not_on_the_command_line(tmp_path: Path) -> None:
    with start(str(REAL), options={"requirepass": "a-password-of-mine"}):
        shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        assert "redisq.embedded.supervisor" in shown
        assert "a-password-of-mine" not in shown


@needs_real
@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "port"])
@pytest.mark.parametrize(
    ("option", "password"),
    [
        ({"requirepass": "a-password"}, "a-password"),
        ({"RequirePass": '"p4ss: w@rd/ü%"'}, "p4ss: w@rd/ü%"),
        ({"requirepass": r'"a\"b\\\x41"'}, r'a"b\A'),
        ({"requirepass": r"'it\'s'"}, "it's"),
        ({"requirepass": '""'}, None),
    ],
    ids=["plain", "quoted", "escapes", "single quotes", "none"],
)
def test_a_password_of_yours_is_in_the_url(option: dict[str, str], password: str | None, tcp: bool) -> None:
    with start(str(REAL), tcp=tcp, options=option) as server:
        with client(server.url) as connection:
            assert connection.ping()
        with RedisQ(settings=Settings(url=server.url, auth="none", retry_deadline=0)) as mq:
            assert mq.queues() == []
        found = urlsplit(server.url).password
        assert (found and unquote(found)) == password
        with client(server.url.replace(f":{found}@", "")) as stranger:
            if password is None:
                assert stranger.ping()
            else:
                with pytest.raises(redis.AuthenticationError):
                    stranger.ping()
        with pytest.raises(Unavailable) as busy:
            embedded.start(server.directory)
        assert found is None or found not in str(busy.value)


@needs_real
@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "port"])
def test_a_snapshot_is_read_by_a_server_with_a_password_of_yours(tcp: bool, folder: Path) -> None:
    write_with(REAL_KINDS[0], folder, "snapshot")
    assert not (folder / "appendonly.aof").exists()
    server = embedded.start(folder, kind=REAL_KINDS[0], tcp=tcp, options={"requirepass": "a-password"})
    with server, client(server.url) as connection:
        assert connection.get("name") == "value"


# Another server's data is opened, or left as it is.


def write_with(kind: str, folder: Path, how: str) -> None:
    """Have a server write `name` and then end, leaving files as `how` says."""
    with embedded.start(folder, kind=kind) as server, client(server.url) as connection:
        connection.set("name", "value")
        if how == "rewritten":
            connection.bgrewriteaof()
            while (told := connection.info("persistence"))["aof_rewrite_in_progress"]:
                pass
            assert told["aof_last_bgrewrite_status"] == "ok"
        if how == "snapshot":
            connection.save()
    if how == "snapshot":  # as a server without an append-only file leaves it
        shutil.rmtree(folder / "appendonlydir", ignore_errors=True)
        (folder / "appendonly.aof").unlink(missing_ok=True)


def reads(reader: str, writer: str, how: str) -> bool:
    """Whether a kind of server reads what another wrote: an older one does not read a newer one's."""
    ages = [CANDIDATES[kind].version.split(".") for kind in (reader, writer)]
    return [*map(int, ages[0])][:2] >= [*map(int, ages[1])][:2]


@pytest.mark.full(keep=4)
@pytest.mark.parametrize("how", ["as it is", "rewritten", "snapshot"])
@pytest.mark.parametrize("writer", REAL_KINDS or NONE)
@pytest.mark.parametrize("reader", REAL_KINDS or NONE)
def test_a_folder_of_another_server_is_opened_or_left_as_it_is(
    reader: str, writer: str, how: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    write_with(writer, folder, how)
    before = everything(folder)
    if reads(reader, writer, how):
        for _ in range(2):  # the second time from files of its own
            with embedded.start(folder, kind=reader) as server, client(server.url) as connection:
                assert connection.get("name") == "value"
        return
    with pytest.raises(Unavailable) as refusal:
        embedded.start(folder, kind=reader)
    assert str(folder) in str(refusal.value)
    assert CANDIDATES[writer].version in str(refusal.value)
    assert f"{reader} {CANDIDATES[reader].version}" in str(refusal.value)
    assert "REDISQ_EMBEDDED_SERVER" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert everything(folder) == before
    with embedded.start(folder, kind=writer) as server, client(server.url) as connection:
        assert connection.get("name") == "value"


#: A snapshot of no keys, of a version that no server reads today.
FUTURE = b"REDIS0099\xfa\x09redis-ver\x0512.34\xfa\x0aredis-bits\xc0\x40\xff" + bytes(8)
MANIFEST = b"file appendonly.aof.1.base.rdb seq 1 type b\n"


@pytest.mark.full(keep=4)
@pytest.mark.parametrize("name", REAL_SERVERS or NONE, ids=lambda name: Path(name).name)
@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"dump.rdb": FUTURE}, "Redis 12.34"),
        ({"dump.rdb": FUTURE.replace(b"REDIS0099\xfa\x09redis", b"VALKEY099\xfa\x0avalkey")}, "Valkey 12.34"),
        (
            {"appendonlydir/appendonly.aof.1.base.rdb": FUTURE, "appendonlydir/appendonly.aof.manifest": MANIFEST},
            "Redis 12.34",
        ),
        ({"appendonly.aof": FUTURE}, "Redis 12.34"),
        ({"appendonly.aof": b"*1\r\n$11\r\nNOSUCHTHING\r\n"}, "another server"),
        ({"appendonly.aof": b"what is this?\n", "notes": b"mine"}, "another server"),
    ],
    ids=["snapshot", "valkey", "parts", "preamble", "command", "garbage"],
)
def test_data_that_cannot_be_read_is_left_as_it_is(name: str, files: dict[str, bytes], told: str, folder: Path) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(mode=0o700, exist_ok=True)
        (folder / path).write_bytes(content)
        (folder / path).chmod(0o600)
    before = everything(folder)
    with pytest.raises(Unavailable, match=told) as refusal:
        start(name, directory=folder)
    assert str(folder) in str(refusal.value)
    assert everything(folder) == before


@pytest.mark.parametrize("how", ["as it is", "snapshot"])
@needs_real
def test_fakeredis_does_not_hide_a_servers_data(how: str, folder: Path) -> None:
    write_with(str(REAL), folder, how)
    before = everything(folder)
    with pytest.raises(Unavailable, match="fakeredis would not see it") as refusal:
        embedded.start(folder, kind="fakeredis")
    assert CANDIDATES[str(REAL)].version in str(refusal.value)
    assert everything(folder) == before


@needs_real
def test_a_server_that_ends_at_once_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such-setting"):
        embedded.start(tmp_path / "data", kind=REAL, options={"no-such-setting": "1"})
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_leaves_the_running_server_alone(tmp_path: Path) -> None:
    data: Any = tmp_path / "data"
    with embedded.start(data) as server, client(server.url) as connection:
        before = everything(data)
        with pytest.raises(Unavailable, match="Another server uses"):
            embedded.start(data)
        assert everything(data) == before
        assert connection.ping()
