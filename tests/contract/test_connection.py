"""What a caller sees when connections fail: the same as when they do not, or a typed error in time. Nothing twice."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import redis

from redisq import (
    AsyncRedisQ,
    BatchError,
    Indeterminate,
    InvalidSettings,
    MessageNotFound,
    QueueFull,
    RedisQ,
    Settings,
    Status,
    Unavailable,
    store,
)
from redisq.link.conversation import Failed, converse
from redisq.link.endpoint import Endpoint
from redisq.link.faults import classify
from redisq.link.server import Server
from redisq.operations.queueing import _CHUNK
from redisq.store.call import Call
from redisq.store.keys import partition_keys
from tests.support.servers.proxy import Proxy, script, until

QUEUE = "orders"
ID = "05749898-74a0-47e1-b10d-5acf29d040c4"
OTHER_ID = "16cb2774-e598-4f79-80bb-1d15e9103b4b"
Start = Callable[..., Any]

#: operation -> how to call it on the message ID, and its script
OPERATIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "queue_message": (lambda mq: mq.queue_message(QUEUE, 1, id=ID), "queue"),
    "queue_messages": (lambda mq: mq.queue_messages(QUEUE, [1], ids=[ID]), "queue"),
    "get_message": (lambda mq: mq.get_message(QUEUE, ID), "get"),
    "delete_message": (lambda mq: mq.delete_message(QUEUE, ID), "delete"),
    "stats": (lambda mq: mq.stats(QUEUE), "stats"),
    "queues": (lambda mq: mq.queues(), "registry"),
    "define": (lambda mq: mq.define(QUEUE, max_length=9), "define"),
    "sweep": (lambda mq: mq.sweep(QUEUE), "sweep"),
}
operation = pytest.mark.parametrize("operation", OPERATIONS)


def error_of(caught: BaseException) -> BaseException:
    """Give the error itself, that of the first message for a batch."""
    return caught.errors[0] if isinstance(caught, BatchError) else caught


def live_through(mq: Any, hand: Any) -> None:
    """Do everything once, and check that it worked."""
    id = mq.queue_message(QUEUE, {"n": 1})
    assert mq.get_message(QUEUE, id).status is Status.PENDING
    assert mq.queue_message(QUEUE, {"n": 1}, id=id) == id
    hand.complete(hand.claim(), "done")
    assert mq.get_message(QUEUE, id, wait=10).result == "done"
    later = mq.queue_message(QUEUE, b"\0\r\n", delay=60)
    assert mq.get_message(QUEUE, later).available_at is not None
    mq.delete_message(QUEUE, later)
    with pytest.raises(MessageNotFound):
        mq.delete_message(QUEUE, later)
    assert mq.define(QUEUE, lease=7.5).lease == 7.5
    assert (mq.stats(QUEUE).queued, mq.queues(), mq.sweep(QUEUE)) == (2, [QUEUE], 0)


@pytest.fixture
def through(make_client: Any, raw_real: Any, proxy: Proxy) -> Callable[..., Any]:
    """Make clients that talk through the proxy, to a server that knows all scripts and the queue."""
    direct = make_client(raw_real.settings)
    direct.queue_message(QUEUE, 1, id=ID)
    for operate, _ in OPERATIONS.values():
        operate(direct)
    direct.define(QUEUE, max_length=None, dedup_window=0)
    direct.queue_message(QUEUE, 1, id=ID)
    direct.define(QUEUE, dedup_window=None)
    Endpoint.of(Settings(url=proxy.url)).known().judge("", strict=False)  # what is asked for once is no part of a count

    def make(**changes: Any) -> Any:
        return make_client(raw_real.settings.model_copy(update={"url": proxy.url, **changes}))

    return make


# --- Redis is not there, or not for us --------------------------------------------------------------------------------


@pytest.fixture
def nowhere() -> Iterator[str]:
    """A URL at which nothing listens, on a port that nobody else takes meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{holder.getsockname()[1]}/0"


@operation
@pytest.mark.parametrize("deadline", [0, 0.1])
def test_when_nothing_listens_every_call_is_unavailable(
    make_client: Any, nowhere: str, operation: str, deadline: float
) -> None:
    mq = make_client(Settings(url=nowhere, auth="none", retry_deadline=deadline))
    with pytest.raises(Unavailable, match="REDISQ_URL") as caught:
        OPERATIONS[operation][0](mq)
    assert type(caught.value) is Unavailable  # nothing was sent: no doubt
    assert urlsplit(nowhere).netloc in str(caught.value)


def test_a_socket_that_does_not_exist_is_unavailable(make_client: Any, tmp_path: Path) -> None:
    mq = make_client(Settings(url=f"unix://{tmp_path}/none.sock", auth="none", retry_deadline=0))
    with pytest.raises(Unavailable, match=r"none\.sock") as caught:
        mq.queue_message(QUEUE, 1)
    assert type(caught.value) is Unavailable


PASSWORD = "p4ss:w@rd/ü"


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_password_is_wanted_and_never_shown(make_client: Any, start_another: Start, protocol: int) -> None:
    server = start_another(tcp=True, options={"requirepass": f'"{PASSWORD}"'})
    where = urlsplit(server.url).netloc.rpartition("@")[2]
    good, wrong = quote(PASSWORD, safe=""), quote("wr0ng-" + PASSWORD, safe="")
    login = f"redis://:{good}@{where}/0?protocol={protocol}"
    mq = make_client(Settings(url=login, auth="none"))
    mq.queue_message(QUEUE, 1)
    for url, advice in (
        (f"redis://:{wrong}@{where}/0?protocol={protocol}", "the user name or password in REDISQ_URL is wrong"),
        (f"redis://{where}/0?protocol={protocol}", "wants a password"),
        (f"redis://nobody:{good}@{where}/0?protocol={protocol}", "the user name or password in REDISQ_URL is wrong"),
    ):
        refused = make_client(Settings(url=url, auth="none"))
        with pytest.raises(Unavailable, match=advice) as caught:
            refused.queue_message(QUEUE, 1)
        assert type(caught.value) is Unavailable
        shown = "".join(traceback.format_exception(caught.value)) + repr(refused.client) + repr(refused.settings)
        for secret in (PASSWORD, good, "wr0ng", "p4ss"):
            assert secret not in shown


def test_an_unreachable_servers_password_is_not_shown(make_client: Any, nowhere: str) -> None:
    url = nowhere.replace("redis://", f"redis://user:{quote(PASSWORD, safe='')}@")
    mq = make_client(Settings(url=url, auth="none", retry_deadline=0))
    with pytest.raises(Unavailable) as caught:
        mq.queue_message(QUEUE, 1)
    assert "p4ss" not in "".join(traceback.format_exception(caught.value)) + repr(mq.settings) + str(mq.settings)


def test_a_replica_is_read_and_told_apart(make_client: Any, start_another: Start, nowhere: str) -> None:
    server = start_another()
    settings = Settings(url=server.url, auth="none", retry_deadline=0.1)
    mq = make_client(settings)
    mq.queue_message(QUEUE, 1, id=ID)
    with redis.Redis.from_url(server.url, protocol=2) as below:
        below.replicaof("127.0.0.1", urlsplit(nowhere).port)
        with pytest.raises(Unavailable, match="read-only replica") as caught:
            mq.queue_message(QUEUE, 2)
        assert type(caught.value) is Unavailable
        assert mq.get_message(QUEUE, ID).request == 1


def test_a_failover_is_waited_for(make_client: Any, start_another: Start, nowhere: str) -> None:
    server = start_another()
    with Proxy(server.url) as proxy, redis.Redis.from_url(server.url, protocol=2) as below:
        mq = make_client(Settings(url=proxy.url, auth="none", retry_deadline=60))
        mq.queue_message(QUEUE, 1)
        below.replicaof("127.0.0.1", urlsplit(nowhere).port)
        seen = proxy.count(script("queue"))

        def promote() -> None:
            until(lambda: proxy.count(script("queue")) >= seen + 2)
            below.replicaof("NO", "ONE")

        promotion = threading.Thread(target=promote)
        promotion.start()
        assert mq.queue_message(QUEUE, 1, id=ID) == ID
        promotion.join()
        assert mq.stats(QUEUE).ready == 2


def test_full_memory_refuses_new_messages_and_nothing_else(
    make_client: Any, start_another: Start, hand_on: Any
) -> None:
    server = start_another()
    settings = Settings(url=server.url, auth="none")
    mq, hand = make_client(settings), hand_on(settings)
    first, second = mq.queue_messages(QUEUE, ["a", "b"])
    with redis.Redis.from_url(server.url, protocol=2) as below:
        below.config_set("maxmemory", 1)
        with pytest.raises(QueueFull, match="out of memory") as caught:
            mq.queue_message(QUEUE, "c")
        assert caught.value.retry_after > 0
        assert mq.queue_message(QUEUE, "a", id=first) == first
        hand.complete(hand.claim(), "done")
        assert mq.get_message(QUEUE, first).result == "done"
        mq.delete_message(QUEUE, second)
        below.config_set("maxmemory", 0)
    assert mq.stats(QUEUE).ready == 0
    mq.queue_message(QUEUE, "c")


def test_a_server_that_comes_back_is_waited_for(make_client: Any, start_another: Start, tmp_path: Path) -> None:
    server = start_another(directory=tmp_path / "data")
    with Proxy(server.url) as proxy:
        mq = make_client(Settings(url=proxy.url, auth="none", retry_deadline=60))
        mq.queue_message(QUEUE, 1)
        server.close()

        def restart() -> None:
            proxy.target = start_another(directory=tmp_path / "data").url

        restarting = threading.Thread(target=restart)
        restarting.start()
        assert mq.queue_message(QUEUE, 1, id=ID) == ID
        restarting.join()
        assert mq.stats(QUEUE).ready == 2


@pytest.mark.full(keep=12)
@operation
@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"-LOADING Redis is loading the dataset in memory", "loading"),
        (b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL.", "slow script"),
        (b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "primary is down"),
        (b"-TRYAGAIN Multiple keys request during rehashing of slot", "slots are moving"),
    ],
    ids=lambda value: value.split()[0][1:].decode() if isinstance(value, bytes) else "",
)
def test_what_passes_is_waited_for(
    through: Callable[..., Any], proxy: Proxy, operation: str, reply: bytes, says: str
) -> None:
    operate, name = OPERATIONS[operation]
    mq = through(retry_deadline=60)
    proxy.answer(script(name), reply + b"\r\n", times=2)
    operate(mq)
    proxy.answer(script(name), reply + b"\r\n", times=1000)
    with pytest.raises((Unavailable, BatchError)) as caught:
        operate(through(retry_deadline=0.05))
    assert type(error_of(caught.value)) is Unavailable
    assert says in str(error_of(caught.value))


# --- Lost replies -----------------------------------------------------------------------------------------------------


@pytest.mark.full(keep=8)
@operation
@pytest.mark.parametrize("times", [1, 2])
def test_a_lost_reply_is_not_noticed(
    through: Callable[..., Any], proxy: Proxy, raw_real: Any, operation: str, times: int
) -> None:
    operate, name = OPERATIONS[operation]
    mq = through(retry_deadline=60)
    proxy.cut_reply(script(name), times)
    operate(mq)
    assert proxy.count(script(name)) == times + 1
    assert mq.stats(QUEUE).ready == (0 if operation == "delete_message" else 1)


@operation
def test_a_reset_connection_is_not_noticed(through: Callable[..., Any], proxy: Proxy, operation: str) -> None:
    operate, name = OPERATIONS[operation]
    mq = through(retry_deadline=60)
    proxy.reset(script(name), times=2)
    operate(mq)
    assert proxy.count(script(name)) == 3


def test_a_message_whose_reply_was_lost_is_queued_once(through: Callable[..., Any], proxy: Proxy) -> None:
    mq = through(retry_deadline=60)
    proxy.cut_reply(script("queue"))
    id = mq.queue_message(QUEUE, "new")
    assert mq.get_message(QUEUE, id).request == "new"
    stats = mq.stats(QUEUE)
    assert stats.ready == 2
    proxy.cut_reply(script("queue"), times=2)
    ids = mq.queue_messages(QUEUE, range(1200))  # three calls, of which one is sent thrice
    assert len(set(ids)) == 1200
    assert mq.stats(QUEUE).queued == stats.queued + 1200


def test_a_full_queue_leaves_in_doubt_what_was_sent_before(through: Callable[..., Any], proxy: Proxy) -> None:
    """The first sending may be under way yet, in a link that is stuck."""
    mq = through(retry_deadline=60)
    mq.define(QUEUE, max_length=mq.stats(QUEUE).ready)
    with pytest.raises(QueueFull):
        mq.queue_message(QUEUE, "new")
    proxy.reset(script("queue"))
    with pytest.raises(Indeterminate, match="max_length") as caught:
        mq.queue_message(QUEUE, "new", id=OTHER_ID)
    assert caught.value.id == OTHER_ID
    proxy.reset(script("queue"))
    with pytest.raises(BatchError) as batch:
        mq.queue_messages(QUEUE, ["new"])
    assert type(batch.value.errors[0]) is Indeterminate


def test_a_delete_whose_reply_was_lost_succeeds(through: Callable[..., Any], proxy: Proxy) -> None:
    mq = through(retry_deadline=60)
    deleted = mq.stats(QUEUE).deleted
    proxy.cut_reply(script("delete"))
    assert mq.delete_message(QUEUE, ID) is None
    assert mq.stats(QUEUE).deleted == deleted + 1
    with pytest.raises(MessageNotFound):
        mq.delete_message(QUEUE, ID)


@pytest.mark.full(keep=1)
def test_replies_may_come_byte_by_byte(make_client: Any, raw_real: Any, proxy: Proxy, hand_on: Any) -> None:
    proxy.split = True
    settings = raw_real.settings.model_copy(update={"url": proxy.url})
    live_through(make_client(settings), hand_on(settings))


@pytest.mark.full(keep=6)
@operation
@pytest.mark.parametrize("part", [b"*", b"*1\r\n", b"*1\r\n$2\r\nO", b"*2\r\n+OK\r\n"])
def test_half_a_reply_is_none_and_reaches_no_later_call(
    through: Callable[..., Any], proxy: Proxy, operation: str, part: bytes
) -> None:
    operate, name = OPERATIONS[operation]
    mq = through(command_timeout=0.25, retry_deadline=60)
    id = mq.queue_message(QUEUE, "before")
    proxy.answer(script(name), part)
    operate(mq)
    assert proxy.count(script(name)) == (3 if name == "queue" else 2)
    assert mq.get_message(QUEUE, id).request == "before"


def test_a_call_that_is_answered_at_once_begins_no_conversation(
    through: Callable[..., Any], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beginning one is most of what a link does in Python. See `opening`."""
    mq, begun = through(), []

    def spy(call: Call[Any], *args: Any, **how: Any) -> Any:
        begun.append(call.script.name)
        return converse(call, *args, **how)

    def live() -> None:
        id = mq.queue_message(QUEUE, 2)
        assert mq.get_message(QUEUE, id).request == 2
        mq.delete_message(QUEUE, id)

    live()  # what is asked before the first call of a script is a conversation
    for link in ("sync", "aio"):
        monkeypatch.setattr(f"redisq.link.{link}.converse", spy)
    live()
    assert begun == []
    proxy.reset(script("delete"))
    live()
    assert begun == ["delete"]


# --- No reply at all --------------------------------------------------------------------------------------------------


@pytest.mark.full(keep=6)
@operation
@pytest.mark.parametrize("mishap", ["swallow_request", "swallow_reply", "cut_reply", "reset"])
def test_without_any_reply_the_call_ends_in_doubt(
    through: Callable[..., Any], proxy: Proxy, operation: str, mishap: str
) -> None:
    operate, name = OPERATIONS[operation]
    mq = through(command_timeout=0.25, retry_deadline=0.1)
    getattr(proxy, mishap)(script(name), times=1000)
    with pytest.raises((Indeterminate, BatchError)) as caught:
        operate(mq)
    error = error_of(caught.value)
    assert isinstance(error, Indeterminate)
    if operation == "queue_message":
        assert error.id == ID
    proxy.heal()
    mq = through(retry_deadline=60)  # the gate may stay shut for longer than the other's deadline
    if operation != "delete_message":  # which may have happened, and is then not found
        operate(mq)
        assert mq.stats(QUEUE).ready == 1


@pytest.mark.full(keep=2)
@pytest.mark.parametrize("mishap", ["swallow_request", "swallow_reply"])
@pytest.mark.parametrize("name", ["register", "queue"])
def test_a_message_in_doubt_can_be_queued_again_with_its_id(
    through: Callable[..., Any], proxy: Proxy, mishap: str, name: str
) -> None:
    mq = through(command_timeout=0.25, retry_deadline=0.1)
    getattr(proxy, mishap)(script(name), times=1000)
    with pytest.raises(Indeterminate) as caught:
        mq.queue_message(QUEUE, "new")
    id = caught.value.id
    assert str(uuid.UUID(id)) == id
    proxy.heal()
    mq = through(retry_deadline=60)
    assert mq.queue_message(QUEUE, "new", id=id) == id
    assert mq.get_message(QUEUE, id).request == "new"
    assert mq.stats(QUEUE).ready == 2


def test_a_late_reply_reaches_nobody(through: Callable[..., Any], proxy: Proxy) -> None:
    mq = through(command_timeout=0.2, retry_deadline=0)
    other = mq.queue_message(QUEUE, "other")
    held = proxy.hold_reply(script("get"))
    with pytest.raises(Indeterminate):
        mq.get_message(QUEUE, ID)
    held.let_go()
    for _ in range(3):
        assert mq.get_message(QUEUE, other).request == "other"
        assert mq.stats(QUEUE).ready == 2


def test_a_server_that_accepts_and_says_nothing_is_unavailable(through: Callable[..., Any], proxy: Proxy) -> None:
    mq = through(command_timeout=0.1, connect_timeout=0.1, retry_deadline=0.1)
    proxy.swallow_request(b"CLIENT", times=1000)
    with pytest.raises(Unavailable) as caught:
        mq.stats(QUEUE)
    assert type(caught.value) is Unavailable  # the call itself was not sent
    proxy.heal()
    assert through(retry_deadline=60).stats(QUEUE).ready == 1


def test_a_batch_gives_up_once_not_once_for_each_call(through: Callable[..., Any], proxy: Proxy) -> None:
    mq = through(retry_deadline=0)
    mq.queue_message(QUEUE, 1, id=ID)
    before = proxy.count(script("queue"))
    proxy.cut_reply(script("queue"), times=1000, skip=1)
    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, range(2500))
    assert proxy.count(script("queue")) == before + 2
    assert set(caught.value.errors) == set(range(_CHUNK, 2500))
    assert isinstance(caught.value.errors[_CHUNK], Indeterminate)
    assert type(caught.value.errors[1000]) is Unavailable  # was not sent
    proxy.heal()
    queued = mq.queue_messages(QUEUE, range(2500), ids=caught.value.ids)
    assert queued == caught.value.ids
    assert mq.stats(QUEUE).ready == 2501


def test_an_error_of_tls_counts_as_a_lost_connection() -> None:
    fault = classify(redis.ConnectionError("TLS/SSL connection has been closed (EOF) (_ssl.c:1006)"), "host:6379")
    assert (fault.retry, fault.lost) == (True, True)


def test_a_lost_reply_stays_in_doubt_when_no_connection_is_free_for_the_repeat() -> None:
    call, server = store.messages.get(partition_keys("ns", QUEUE), [b"x" * 16]), Server("host:6379")
    server.judge("", strict=False)
    server.permitted.add(call.script.sha)
    conversation = converse(call, server, 60.0, lambda: 0.0)
    next(conversation)
    conversation.send(Failed(redis.ConnectionError("Connection closed by server."), sent=True))
    with pytest.raises(Indeterminate, match="busy"):
        conversation.send(Failed(Unavailable("All connections are busy."), sent=False))


# --- Disturbances between calls ---------------------------------------------------------------------------------------


def test_a_flushed_script_cache_is_not_noticed(mq: Any, hand: Any, raw: Any) -> None:
    id = mq.queue_message(QUEUE, 1)
    for _ in range(3):
        raw.redis.script_flush()
        assert mq.queue_message(QUEUE, 1, id=id) == id
        raw.redis.script_flush()
        assert mq.get_message(QUEUE, id).request == 1
        raw.redis.script_flush()
        hand.release(hand.claim())
    mq.delete_message(QUEUE, id)


def test_killed_connections_are_not_noticed(mq: Any, raw: Any) -> None:
    if raw.server.kind == "fakeredis":
        pytest.skip("fakeredis: cannot hang up on a client; it answers a killed one with an error")
    ids = []
    for n in range(5):
        for operate in (
            lambda: ids.append(mq.queue_message(QUEUE, n)),  # noqa: B023 - called at once
            lambda: mq.get_message(QUEUE, ids[-1]),
            lambda: mq.stats(QUEUE),
        ):
            raw.redis.client_kill_filter(_type="normal", skipme=True)
            operate()
    raw.redis.client_kill_filter(_type="normal", skipme=True)
    mq.delete_message(QUEUE, ids[0])
    assert mq.stats(QUEUE).ready == 4


# --- Ways to connect --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_every_way_to_connect_works(
    make_client: Any, start_another: Start, hand_on: Any, tcp: bool, protocol: int
) -> None:
    server = start_another(tcp=tcp)
    settings = Settings(url=f"{server.url}?protocol={protocol}", auth="none")
    live_through(make_client(settings), hand_on(settings))


def test_resp3_works(make_client: Any, raw: Any, hand_on: Any) -> None:
    settings = raw.settings.model_copy(update={"url": f"{raw.server.url}?protocol=3"})
    live_through(make_client(settings), hand_on(settings))


PARSER = """
import asyncio, sys
with_hiredis, url, namespace = sys.argv[1] == "hiredis", *sys.argv[2:]
if not with_hiredis:
    sys.modules["hiredis"] = None
import redis.asyncio.connection, redis.connection
from redisq import AsyncRedisQ, RedisQ, Settings
assert ("iredis" in redis.connection.DefaultParser.__name__) is with_hiredis
assert ("iredis" in redis.asyncio.connection.DefaultParser.__name__) is with_hiredis
settings = Settings(url=url, namespace=namespace, auth="none")
body = {"bytes": b"\\r\\n$5\\r\\n", "text": "x" * 100_000}
with RedisQ(settings=settings) as mq:
    ids = mq.queue_messages("orders", [body] * 10)
    assert all(mq.get_message("orders", id).request == body for id in ids)
    assert mq.stats("orders").ready == 10
async def main():
    async with AsyncRedisQ(settings=settings) as mq:
        found = await asyncio.gather(*[mq.get_message("orders", id) for id in ids])
        assert all(message.request == body for message in found)
        await asyncio.gather(*[mq.delete_message("orders", id) for id in ids])
        assert (await mq.stats("orders")).ready == 0
asyncio.run(main())
"""


def run_program(program: str, *arguments: str) -> None:
    """Run a program with this Python and this redisq; it ends with 0."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("parser", ["hiredis", "python"])
def test_both_parsers_work(raw_real: Any, parser: str, protocol: int) -> None:
    if parser == "hiredis":
        pytest.importorskip("hiredis")
    run_program(PARSER, parser, f"{raw_real.server.url}?protocol={protocol}", raw_real.settings.namespace)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "127.0.0.1",
        "http://localhost:6379",
        "redis+sentinel://localhost",
        "redis://localhost:port",
        "redis://localhost:99999",
        "redis://localhost:6379/0?nonsense=1",
        "redis://localhost:6379/0?socket_timeout=soon",
        "redis://localhost:6379/0?db=first",
        "redis://localhost:6379/0?protocol=4",
        "redis://localhost:6379/0?protocol=x",
        "redis://user:s3cret/part@localhost",
        "redis://[::1",
        "embedded://elsewhere",
    ],
)
def test_a_url_that_is_none_is_refused(make_client: Any, url: str) -> None:
    """When the settings are made; and where they were not, as in a copy, before anything is connected to."""
    with pytest.raises(InvalidSettings) as caught:
        Settings(url=url, auth="none", retry_deadline=0)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    mq = make_client(Settings(auth="none", retry_deadline=0).model_copy(update={"url": url}))
    with pytest.raises(InvalidSettings) as caught:
        mq.queue_message(QUEUE, 1)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


# --- Many callers -----------------------------------------------------------------------------------------------------


def test_threads_share_one_client(raw_real: Any) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places in every unlucky moment there is
    try:
        with RedisQ(settings=raw_real.settings) as mq, ThreadPoolExecutor(50) as pool:

            def work(n: int) -> object:
                id = mq.queue_message(QUEUE, n)
                if n % 10 == 0:
                    mq.close()  # what a failing connection does to the others
                return mq.get_message(QUEUE, id).request

            assert list(pool.map(work, range(500))) == list(range(500))
            assert mq.stats(QUEUE).ready == 500
    finally:
        sys.setswitchinterval(interval)


def test_no_more_connections_than_allowed(raw_real: Any, proxy: Proxy) -> None:
    proxy.delay = lambda: 0.002
    settings = raw_real.settings.model_copy(update={"url": proxy.url, "max_connections": 3})
    with RedisQ(settings=settings) as mq, ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(lambda n: mq.queue_message(QUEUE, n), range(60)))
    assert len(set(ids)) == 60
    assert proxy.peak == 3

    async def main() -> None:
        async with AsyncRedisQ(settings=settings) as mq:
            found = await asyncio.gather(*[mq.stats(QUEUE) for _ in ids])
            assert [stats.ready for stats in found] == [60] * 60

    until(lambda: proxy.open == 0)
    proxy.peak = 0
    asyncio.run(main())
    assert proxy.peak == 3


def test_a_call_that_finds_no_free_connection_says_so(raw_real: Any, proxy: Proxy, patient: None) -> None:
    gate = threading.Event()
    proxy.delay = lambda: 0.0 * gate.wait()
    changes = {"url": proxy.url, "max_connections": 1, "retry_deadline": 0}
    settings = raw_real.settings.model_copy(update={**changes, "command_timeout": 0.05})
    with RedisQ(settings=settings) as mq, ThreadPoolExecutor(1) as pool:
        first = pool.submit(mq.stats, QUEUE)
        until(lambda: proxy.open)
        with pytest.raises(Unavailable, match="REDISQ_MAX_CONNECTIONS") as caught:
            mq.stats(QUEUE)
        assert type(caught.value) is Unavailable
        gate.set()
        assert first.result().ready == 0
        assert mq.stats(QUEUE).ready == 0


FORK = """
import os, sys
from redisq import RedisQ, Settings
mq = RedisQ(settings=Settings(url=sys.argv[1], namespace=sys.argv[2], auth="none"))
ids = mq.queue_messages("orders", range(100))
child = os.fork()
for _ in range(5):
    for n, id in enumerate(ids):
        assert mq.get_message("orders", id).request == n
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert mq.get_message("orders", ids[7]).request == 7
mq.close()
"""


def test_a_forked_child_has_its_own_connections(raw_real: Any, proxy: Proxy) -> None:
    run_program(FORK, proxy.url, raw_real.settings.namespace)
    assert proxy.peak == 2


def test_a_cancelled_call_leaves_no_reply_behind(raw_real: Any, proxy: Proxy) -> None:
    chance = random.Random(7)
    proxy.delay = lambda: chance.random() * 0.004
    settings = raw_real.settings.model_copy(update={"url": proxy.url, "max_connections": 4})

    async def main() -> None:
        async with AsyncRedisQ(settings=settings) as mq:
            ids = await mq.queue_messages(QUEUE, range(50))
            cancelled = 0
            for n in range(200):
                call = asyncio.create_task(mq.get_message(QUEUE, ids[n % 50]))
                await asyncio.wait([call], timeout=chance.random() * 0.006)
                call.cancel()
                await asyncio.wait([call])
                cancelled += call.cancelled()
                assert call.cancelled() or call.result().request == n % 50
                if n % 10 == 0:
                    found = await asyncio.gather(*[mq.get_message(QUEUE, id) for id in ids[:8]])
                    assert [message.request for message in found] == list(range(8))
            assert 0 < cancelled < 200  # the others were faster
            found = await asyncio.gather(*[mq.get_message(QUEUE, id) for id in ids])
            assert [message.request for message in found] == list(range(50))

    asyncio.run(main())


def test_a_client_for_asyncio_serves_one_loop_after_another(raw_real: Any) -> None:
    mq = AsyncRedisQ(settings=raw_real.settings)

    async def main() -> str:
        id = await mq.queue_message(QUEUE, 1)
        await mq.close()
        return id

    assert len({asyncio.run(main()) for _ in range(3)}) == 3
