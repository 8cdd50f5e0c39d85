"""What servers really say when something is wrong, and what each means to us.

The replies were recorded from Redis 5.0.6, 6.2.14, 7.0.15 and 7.4.1 and Valkey 8.0.1; MOVED, ASK and TRYAGAIN are those
of the cluster specification. They go through redis-py's own parsers, because that is what takes the words off.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from redis import _parsers as parsers
from redis import exceptions
from redis._parsers.encoders import Encoder

from redisq import QueueFull, Settings, Unavailable, store
from redisq.errors import Indeterminate, RedisQError
from redisq.link.conversation import Failed, report
from redisq.link.endpoint import Endpoint
from redisq.link.faults import classify
from redisq.link.server import Server
from redisq.link.sync import Link
from redisq.store.keys import partition_keys

SHA = "69b0eae4950c2cac1f4cc3bb50d54cdc9fe27c11"
IN_62 = f"ERR Error running script (call to f_{SHA}): @user_script:3: "  # what redis.call raises
REFUSED_62 = IN_62 + "@user_script: 3: -"  # what the server refuses before the command runs
IN_7 = f" script: {SHA}, on @user_script:3."

OOM = "OOM command not allowed when used memory > 'maxmemory'."
READONLY = "READONLY You can't write against a read only replica."
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOREPLICAS = "NOREPLICAS Not enough good replicas to write."
MISCONF_62 = (
    "MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk. Commands that "
    "may modify the data set are disabled, because this instance is configured to report errors during writes if RDB "
    "snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB "
    "error."
)
MISCONF_7 = MISCONF_62.replace(
    "it is currently not able to persist on disk", "it's currently unable to persist to disk"
)


@dataclass(frozen=True)
class Meaning:
    """What a reply means: our error, whether to retry, and words of its text."""

    kind: type[Exception]
    retry: bool
    text: str


FULL = Meaning(QueueFull, False, "is out of memory")
REPLICA = Meaning(Unavailable, True, "read-only replica")
ENTRY = Meaning(Unavailable, False, "`redisq doctor --fix`")
FOREIGN = Meaning(Unavailable, False, "holds a value that is not redisq's")
DISK = Meaning(Unavailable, True, "cannot save to its disk")
FEW = Meaning(Unavailable, True, "too few replicas")
STARTS = Meaning(Unavailable, True, "it is loading its data")
BUSY = Meaning(Unavailable, True, "busy with a slow script")
ORPHAN = Meaning(Unavailable, True, "its primary is down")
SLOTS = Meaning(Unavailable, True, "its cluster is down")
MOVING = Meaning(Unavailable, True, "its slots are moving")
ROLE = Meaning(Unavailable, True, "its role has changed")
STRANGER = Meaning(Unavailable, False, "it wants a password")
WRONG = Meaning(Unavailable, False, "the user name or password in REDISQ_URL is wrong")
ACL = Meaning(Unavailable, False, "its ACL does not allow")
CLUSTER = Meaning(Unavailable, False, "it is part of a cluster")
OLD = Meaning(Unavailable, False, "redisq needs Redis 6.2 or later")
NUMBER = Meaning(Unavailable, False, "no database of that number")
PROTECTED = Meaning(Unavailable, False, "it is in protected mode")
CROWD = Meaning(Unavailable, True, "max number of clients reached")
ARGUMENT = Meaning(RedisQError, False, "was sent a bad argument (delay_ms); nothing was changed")
OTHER = Meaning(Unavailable, False, "answered with an error")

REPLIES: list[tuple[str, Meaning]] = [
    (OOM, FULL),
    (REFUSED_62 + OOM, FULL),
    (OOM + IN_7, FULL),
    (READONLY, REPLICA),
    (REFUSED_62 + READONLY, REPLICA),
    (READONLY + IN_7, REPLICA),
    (WRONGTYPE, FOREIGN),
    (IN_62 + WRONGTYPE, FOREIGN),
    (WRONGTYPE + IN_7, FOREIGN),
    (MISCONF_62, DISK),
    (REFUSED_62 + MISCONF_62, DISK),
    (MISCONF_7, DISK),
    (MISCONF_7 + IN_7, DISK),
    (MISCONF_7.replace("Redis", "Valkey") + IN_7, DISK),
    (NOREPLICAS, FEW),
    (REFUSED_62 + NOREPLICAS, FEW),
    (NOREPLICAS + IN_7, FEW),
    ("LOADING Redis is loading the dataset in memory", STARTS),
    ("LOADING Valkey is loading the dataset in memory", STARTS),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", BUSY),
    ("BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", BUSY),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", ORPHAN),
    ("CLUSTERDOWN Hash slot not served", SLOTS),
    ("TRYAGAIN Multiple keys request during rehashing of slot", MOVING),
    ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", ROLE),
    ("NOAUTH Authentication required.", STRANGER),
    ("WRONGPASS invalid username-password pair or user is disabled.", WRONG),
    ("ERR invalid password", WRONG),
    (
        "ERR AUTH <password> called without any password configured for the default user. "
        "Are you sure your configuration is correct?",
        WRONG,
    ),
    ("NOPERM this user has no permissions to run the 'evalsha' command or its subcommand", ACL),
    ("NOPERM this user has no permissions to access one of the keys used as arguments", ACL),
    ("NOPERM User u has no permissions to run the 'evalsha' command", ACL),
    ("NOPERM No permissions to access a key", ACL),
    (IN_62 + "@user_script: 3: The user executing the script can't run this command or subcommand", ACL),
    (
        IN_62 + "@user_script: 3: The user executing the script can't access at least one of the keys mentioned in the "
        "command arguments",
        ACL,
    ),
    ("ERR The user executing the script can't run this command or subcommand" + IN_7, ACL),
    ("ERR ACL failure in script: User u has no permissions to run the 'set' command" + IN_7, ACL),
    ("ERR ACL failure in script: No permissions to access a key" + IN_7, ACL),
    ("MOVED 3999 127.0.0.1:6381", CLUSTER),
    ("ASK 3999 127.0.0.1:6381", CLUSTER),
    ("CROSSSLOT Keys in request don't hash to the same slot", CLUSTER),
    ("ERR max number of clients reached", CROWD),
    (IN_62 + "user_script:3: attempt to perform arithmetic on a nil value", OTHER),
    ("ERR user_script:3: attempt to perform arithmetic on a nil value" + IN_7, OTHER),
    (IN_62 + "BADARG delay_ms", ARGUMENT),
    ("ERR BADARG delay_ms" + IN_7, ARGUMENT),
    (IN_62 + "WRONGTYPE no number of partitions", ENTRY),
    ("ERR WRONGTYPE no number of partitions" + IN_7, ENTRY),
    (IN_62 + "Script killed by user with SCRIPT KILL...", OTHER),
    ("ERR Script killed by user with SCRIPT KILL..." + IN_7, OTHER),
    ("ERR unknown command 'EVALSHA', with args beginning with: ", OLD),
    ("ERR unknown command `EVALSHA`, with args beginning with: ", OLD),  # 5.0
    (IN_62 + "@user_script: 3: Unknown Redis command called from Lua script", OLD),  # 5.0, 6.2
    ("ERR Unknown Redis command called from script" + IN_7, OLD),
    ("ERR timeout is not an integer or out of range", OLD),  # BLPOP of 5.0
    ("ERR DB index is out of range", NUMBER),
    ("ERR invalid DB index", NUMBER),
    ("ERR SELECT is not allowed in cluster mode", CLUSTER),
    ("DENIED Redis is running in protected mode because protected mode is enabled and no password is set.", PROTECTED),
]


class Feed:
    """One of redis-py's parsers, with bytes in place of a server."""

    def __init__(self, parser: Any) -> None:
        self._server, self._client = socket.socketpair()
        self._parser = parser(socket_read_size=65536)
        encoder = Encoder("utf-8", "strict", False)
        self._parser.on_connect(SimpleNamespace(_sock=self._client, socket_timeout=5, encoder=encoder))

    def error(self, reply: str) -> Exception:
        """Give the exception that redis-py makes of an error reply."""
        self._server.sendall(f"-{reply}\r\n".encode())
        try:
            found = self._parser.read_response(disable_decoding=True)
        except exceptions.RedisError as error:
            return error
        assert isinstance(found, Exception)
        return found

    def close(self) -> None:
        self._parser.on_disconnect()
        self._server.close()
        self._client.close()


@pytest.fixture(params=["python", "hiredis"])
def feed(request: pytest.FixtureRequest) -> Iterator[Feed]:
    if request.param == "hiredis":
        pytest.importorskip("hiredis")
    with closing(Feed(parsers._RESP2Parser if request.param == "python" else parsers._HiredisParser)) as feed:
        yield feed


@pytest.mark.parametrize(("reply", "meaning"), REPLIES)
def test_a_reply(feed: Feed, reply: str, meaning: Meaning) -> None:
    fault = classify(feed.error(reply), "host:6379")
    assert type(fault.error) is meaning.kind
    assert meaning.text in str(fault.error)
    assert fault.retry is meaning.retry
    assert fault.lost is (meaning is CROWD)  # redis-py calls that a lost connection, and it soon is one
    assert fault.away is (meaning in (CROWD, STARTS))
    assert "host:6379" in str(fault.error)


def test_an_unknown_script_is_an_exception_of_its_own(feed: Feed) -> None:
    for reply in ("NOSCRIPT No matching script. Please use EVAL.", "NOSCRIPT No matching script."):
        assert isinstance(feed.error(reply), exceptions.NoScriptError)


def test_a_strange_reply_is_cut_short(feed: Feed) -> None:
    fault = classify(feed.error("ERR " + "x" * 10_000), "host:6379")
    assert len(str(fault.error)) < 300


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (exceptions.ConnectionError("Error 111 connecting to host:6379. Connection refused."), "Connection refused"),
        (exceptions.ConnectionError("Connection closed by server."), "Connection closed by server"),
        (exceptions.TimeoutError("Timeout reading from socket"), "did not answer in time"),
        (exceptions.TimeoutError(), "did not answer in time"),
        (TimeoutError(), "did not answer in time"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (BrokenPipeError(), "BrokenPipeError"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_no_reply(error: Exception, text: str) -> None:
    fault = classify(error, "host:6379")
    assert type(fault.error) is Unavailable
    assert "Redis at host:6379 cannot be reached: " in str(fault.error)
    assert text in str(fault.error)
    assert (fault.retry, fault.lost, fault.away) == (True, True, True)


def test_what_is_no_redis_at_all(feed: Feed) -> None:
    feed._server.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(exceptions.RedisError) as raised:
        feed._parser.read_response(disable_decoding=True)
    assert "what answers there is no Redis" in str(classify(raised.value, "host:6379").error)


# --- A server that is not there, or does not answer ---

PASSWORD = "hunter2"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def error_of_a_call(port: int) -> Unavailable:
    url = f"redis://someone:{PASSWORD}@127.0.0.1:{port}/0"
    link = Link(Settings(url=url, auth="none", retry_deadline=0, command_timeout=0.05, connect_timeout=0.05))
    with closing(link), pytest.raises(Unavailable) as raised:
        link.call(store.queues.stats(partition_keys("ns", "orders")))
    return raised.value


def told(error: BaseException | None) -> str:
    """All that an error and its causes say."""
    return f"{error} {error!r} {told(error.__cause__ or error.__context__)}" if error else ""


def test_connection_refused(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    error = error_of_a_call(port)
    assert not isinstance(error, Indeterminate)  # it was never sent
    assert f"127.0.0.1:{port} cannot be reached" in str(error)
    assert "refused" in str(error)
    assert PASSWORD not in told(error)


def test_a_server_that_never_answers(listener: socket.socket) -> None:
    error = error_of_a_call(listener.getsockname()[1])
    assert "did not answer in time" in str(error)
    assert PASSWORD not in told(error)


def test_a_password_is_in_no_text_of_ours() -> None:
    settings = Settings(url=f"redis://someone:{PASSWORD}@host:6380/0", auth="none")
    endpoint = Endpoint.of(settings)
    assert endpoint.server == "host:6380"
    assert PASSWORD not in repr(endpoint)


# --- This process' own limits ---


def test_a_process_without_descriptors_tells_nothing_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.EMFILE, "Too many open files")
    wrapped = exceptions.ConnectionError("Error 24 connecting")
    wrapped.__context__ = full
    unresolved = socket.gaierror(-3, "Temporary failure in name resolution")
    for error in (full, wrapped, OSError(errno.ENFILE, "Too many open files in system")):
        fault = classify(error, "here:6379")
        assert (fault.retry, fault.away, fault.here) == (True, False, True)
        assert "ulimit -n" in str(fault.error)
    assert classify(unresolved, "here:6379").away
    monkeypatch.setattr("redisq.link.faults.os.open", raising(full))
    assert classify(unresolved, "here:6379").here
    assert not classify(OSError(errno.ECONNREFUSED, "refused"), "here:6379").here


def raising(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


def test_a_process_without_descriptors_keeps_its_connections() -> None:
    """Nor do its other links think that the server is away."""
    server, clock, full = Server("here"), time.monotonic, Failed(OSError(errno.EMFILE, "Too many"), sent=False)
    leave = server.circuit.enter(clock())
    assert leave is not None
    report(full, leave, server, clock())
    assert server.circuit.enter(clock(), probe=False) is leave
    report(Failed(ConnectionRefusedError(), sent=False), leave, server, clock())
    assert server.circuit.enter(clock(), probe=False) is None
