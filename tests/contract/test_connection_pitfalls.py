"""What redis-py, and clients like it, are known to have got wrong: each shown not to reach a caller of redisq."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from redisq import AsyncRedisQ, Indeterminate, RedisQ, Settings, Unavailable
from redisq.link import listener
from redisq.link.aio import AsyncLink
from redisq.link.endpoint import Endpoint
from redisq.link.listener import Listener
from redisq.store.keys import partition_keys
from tests.contract.test_connection import run_program
from tests.support.servers.proxy import Proxy, script, until

QUEUE = "orders"
Start = Callable[..., Any]


@pytest.fixture
def settings(raw_real: Any, proxy: Proxy) -> Settings:
    """Settings of patient callers behind the proxy."""
    changed: Settings = raw_real.settings.model_copy(update={"url": proxy.url, "retry_deadline": 60})
    return changed


# --- Defaults that change from version to version ---


def test_nothing_is_left_to_a_default_of_redis_py() -> None:
    endpoint = Endpoint.of(Settings(url="redis://host", auth="none", command_timeout=4, connect_timeout=3))
    for made, timeout in ((endpoint.connection(), 4), (endpoint.async_connection(), None)):
        assert made.socket_timeout == timeout
        assert made.socket_connect_timeout == 3
        assert made.socket_keepalive is True
        assert made.retry._retries == 0
        assert int(made.protocol) == 2


def test_a_script_is_sent_once_unless_we_say_so(make_client: Any, settings: Settings, proxy: Proxy) -> None:
    """redis-py by itself sends a command up to ten times after a lost reply."""
    mq = make_client(settings.model_copy(update={"retry_deadline": 0}))
    mq.queue_message(QUEUE, 1)
    for mishap in (proxy.cut_reply, proxy.swallow_reply, proxy.reset):
        until(lambda: answers(mq))
        before = proxy.count(script("stats"))
        mishap(script("stats"))
        with pytest.raises(Indeterminate):
            make_client(settings.model_copy(update={"retry_deadline": 0, "command_timeout": 0.1})).stats(QUEUE)
        assert proxy.count(script("stats")) == before + 1
        proxy.heal()


def answers(mq: Any) -> bool:
    try:
        return mq.stats(QUEUE) is not None
    except Unavailable:
        return False


def test_only_commands_that_every_server_knows_are_sent_at_connect(
    make_client: Any, settings: Settings, proxy: Proxy
) -> None:
    make_client(settings).queue_message(QUEUE, 1)
    assert proxy.count(b"CLIENT")
    assert proxy.count(b"HELLO") == proxy.count(b"MAINT_NOTIFICATIONS") == 0


# --- Blocking reads ---


@contextmanager
def bell_on(settings: Settings) -> Iterator[tuple[asyncio.Runner, Listener, AsyncLink]]:
    """The doorbell of the queue, the link it belongs to, and a loop to use both on."""
    link = AsyncLink(settings)
    bell = Listener(link, partition_keys(settings.namespace, QUEUE).bell)
    with asyncio.Runner() as runner:
        yield runner, bell, link
        runner.run(bell.close())
        runner.run(link.close())


def test_a_blocking_read_outlasts_the_socket_timeout(raw_real: Any, settings: Settings, proxy: Proxy) -> None:
    settings = settings.model_copy(update={"url": proxy.url, "command_timeout": 0.1})
    with bell_on(settings) as (runner, bell, _):
        assert runner.run(bell.wait(0.4)) is False
        raw_real.redis.rpush(raw_real.keys.bell, 1)
        assert runner.run(bell.wait(0.4)) is True
        assert proxy.accepted == 1


def test_no_call_waits_behind_a_blocking_read(settings: Settings) -> None:
    settings = settings.model_copy(update={"max_connections": 1, "retry_deadline": 0})

    async def main(bell: Listener) -> bool:
        rings = asyncio.create_task(bell.wait(60))
        async with AsyncRedisQ(settings=settings) as mq:
            for _ in range(3):
                assert (await mq.stats(QUEUE)).ready == 0
            assert not rings.done()
            await mq.queue_message(QUEUE, 1)
        return await rings

    with bell_on(settings) as (runner, bell, _):
        assert runner.run(main(bell))


@pytest.mark.parametrize("mishap", ["swallow_request", "swallow_reply"])
def test_a_half_open_connection_is_noticed_soon_after_the_block(
    raw_real: Any, settings: Settings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, mishap: str
) -> None:
    """The server took the connection and says nothing more: a BLPOP that was to end after 0.1 s is given up."""
    assert listener._BLOCK_MARGIN <= 5
    monkeypatch.setattr(listener, "_BLOCK_MARGIN", 0.2)
    with bell_on(settings) as (runner, bell, _), RedisQ(settings=settings) as mq:
        getattr(proxy, mishap)(b"BLPOP")
        with pytest.raises(Unavailable, match="did not answer in time"):
            runner.run(bell.wait(0.1))
        mq.queue_message(QUEUE, 1)
        assert runner.run(bell.wait(60)) is True


def test_a_cancelled_wait_for_the_bell_takes_no_ring_with_it(raw_real: Any, settings: Settings) -> None:
    async def main(bell: Listener) -> None:
        for _ in range(5):
            rings = asyncio.create_task(bell.wait(60))
            until_blocked = asyncio.to_thread(until, lambda: blocked(raw_real.redis) == 1)
            await until_blocked
            rings.cancel()
            await asyncio.wait([rings])
            assert rings.cancelled()
            await asyncio.to_thread(until, lambda: blocked(raw_real.redis) == 0)
            raw_real.redis.rpush(raw_real.keys.bell, 1)
            assert await bell.wait(60) is True
            assert await bell.wait(0.01) is False

    with bell_on(settings) as (runner, bell, _):
        runner.run(main(bell))


def blocked(below: redis.Redis) -> int:
    return int(below.info("clients")["blocked_clients"])


def test_a_change_of_role_ends_a_blocking_read_and_then_it_goes_on(start_another: Start) -> None:
    server = start_another()
    settings = Settings(url=server.url, auth="none", retry_deadline=60)
    with redis.Redis.from_url(server.url, protocol=2) as below, RedisQ(settings=settings) as mq:

        async def main(bell: Listener) -> None:
            rings = asyncio.create_task(bell.wait(60))
            await asyncio.to_thread(until, lambda: blocked(below) == 1)
            await asyncio.to_thread(below.replicaof, "127.0.0.1", 1)
            with pytest.raises(Unavailable, match="its role has changed"):
                await rings
            await asyncio.to_thread(below.replicaof, "NO", "ONE")
            await asyncio.to_thread(mq.queue_message, QUEUE, 1)
            assert await bell.wait(60) is True

        with bell_on(settings) as (runner, bell, _):
            runner.run(main(bell))


@pytest.mark.parametrize("kind", ["ERROR", "TIMEOUT"])
def test_an_administrator_may_unblock_a_blocking_read(raw_real: Any, settings: Settings, kind: str) -> None:
    async def main(bell: Listener) -> bool:
        rings = asyncio.create_task(bell.wait(60))
        await asyncio.to_thread(until, lambda: blocked(raw_real.redis) == 1)
        for client in raw_real.redis.client_list():
            if client["cmd"] == "blpop":
                raw_real.redis.client_unblock(client["id"], error=kind == "ERROR")
        return await rings

    with bell_on(settings) as (runner, bell, _):
        if kind == "ERROR":
            with pytest.raises(Unavailable):
                runner.run(main(bell))
        else:
            assert runner.run(main(bell)) is False


# --- Whose reply is it ---


def test_among_many_cancelled_calls_each_reply_is_its_own(raw_real: Any, settings: Settings, proxy: Proxy) -> None:
    chance = random.Random(11)
    proxy.delay = lambda: chance.random() * 0.001
    with RedisQ(settings=raw_real.settings) as direct:
        ids = direct.queue_messages(QUEUE, range(40))

    async def get(mq: AsyncRedisQ, n: int) -> bool:
        await asyncio.sleep(chance.random() * 0.6)
        try:
            async with asyncio.timeout(chance.random() * 0.006 if n % 2 else 20):
                assert (await mq.get_message(QUEUE, ids[n % 40])).request == n % 40
        except TimeoutError:
            return False
        return True

    async def main() -> None:
        async with AsyncRedisQ(settings=settings.model_copy(update={"max_connections": 5})) as mq:
            answered = await asyncio.gather(*[get(mq, n) for n in range(400)])
            assert 200 <= sum(answered) < 400

    asyncio.run(main())


INTERRUPTED = """
import signal, sys
from redisq import RedisQ, Settings

class Interrupt(BaseException):
    pass

def interrupt(*_):
    raise Interrupt

signal.signal(signal.SIGALRM, interrupt)
with RedisQ(settings=Settings(url=sys.argv[1], namespace=sys.argv[2], auth="none", max_connections=1)) as mq:
    ids = mq.queue_messages("orders", range(3))
    for n, id in enumerate(ids):
        assert mq.get_message("orders", id).request == n
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            mq.stats("orders")
        except Interrupt:
            continue
        raise AssertionError("the answer was faster")
"""


def test_an_interrupted_thread_leaves_no_reply_behind(raw_real: Any, proxy: Proxy) -> None:
    """As Ctrl-C does, a signal's handler raises while the answer is on its way."""
    proxy.delay = lambda: 0.04
    run_program(INTERRUPTED, proxy.url, raw_real.settings.namespace)


# --- Error replies that redis-py has no class for, or the wrong one ---

IN_SCRIPT = b"-ERR Error running script (call to f_69b0eae4950c2cac1f4cc3bb50d54cdc9fe27c11): @user_script:3: "


@pytest.mark.full(keep=6)
@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", "its role"),
        (b"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", "disk"),
        (b"-LOADING Redis is loading the dataset in memory", "loading"),
        (b"-READONLY You can't write against a read only replica.", "read-only replica"),
        (b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", "slow script"),
        (b"-NOREPLICAS Not enough good replicas to write.", "too few replicas"),
        (b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "primary is down"),
        (IN_SCRIPT + b"@user_script: 3: -READONLY You can't write against a read only replica.", "read-only replica"),
        (IN_SCRIPT + b"@user_script: 3: -MISCONF Redis is configured to save RDB snapshots, but", "disk"),
    ],
    ids=lambda value: value[-20:].decode() if isinstance(value, bytes) else "",
)
def test_what_passes_is_waited_for_and_named_in_the_end(
    make_client: Any, settings: Settings, proxy: Proxy, reply: bytes, says: str
) -> None:
    proxy.answer(script("stats"), reply + b"\r\n", times=3)
    assert make_client(settings).stats(QUEUE).ready == 0
    assert proxy.count(script("stats")) >= 4
    proxy.answer(script("stats"), reply + b"\r\n", times=100_000)
    with pytest.raises(Unavailable, match=says) as caught:
        make_client(settings.model_copy(update={"retry_deadline": 0.05})).stats(QUEUE)
    assert type(caught.value) is Unavailable


# --- Storms ---


@contextmanager
def every_10_ms(act: Callable[[], object]) -> Iterator[None]:
    """Do something again and again in a thread."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.01):
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("storm", ["flush", "kill"])
def test_a_storm_is_not_noticed(raw_real: Any, storm: str) -> None:
    """Scripts are flushed, or all clients killed, again and again while threads and tasks make calls."""
    settings, below = raw_real.settings.model_copy(update={"retry_deadline": 60}), raw_real.redis
    kill = lambda: below.client_kill_filter(_type="normal", skipme=True)  # noqa: E731
    end = time.monotonic() + 0.7

    def in_thread(mq: RedisQ) -> int:
        count = 0
        while time.monotonic() < end:
            id = mq.queue_message(QUEUE, count)
            assert mq.get_message(QUEUE, id).request == count
            mq.delete_message(QUEUE, id)
            count += 1
        return count

    async def in_task(mq: AsyncRedisQ) -> int:
        count = 0
        while time.monotonic() < end:
            id = await mq.queue_message(QUEUE, count)
            assert (await mq.get_message(QUEUE, id)).request == count
            await mq.delete_message(QUEUE, id)
            count += 1
        return count

    async def main() -> int:
        async with AsyncRedisQ(settings=settings) as mq:
            return sum(await asyncio.gather(*[in_task(mq) for _ in range(5)]))

    with RedisQ(settings=settings) as mq, ThreadPoolExecutor(6) as pool:
        with every_10_ms(below.script_flush if storm == "flush" else kill):
            tasks = pool.submit(lambda: asyncio.run(main()))
            count = sum(pool.map(in_thread, [mq] * 5)) + tasks.result()
        stats = mq.stats(QUEUE)
        assert count >= 10
        assert (stats.ready, stats.queued, stats.deleted) == (0, count, count)


MANY_FILES = """
import asyncio, os, resource, sys
from redisq import AsyncRedisQ, RedisQ, Settings
from redisq.link.aio import AsyncLink
from redisq.link.listener import Listener
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
settings = Settings(url=sys.argv[1], namespace=sys.argv[2], auth="none")
with RedisQ(settings=settings) as mq:
    id = mq.queue_message("orders", 1)
    assert mq.get_message("orders", id).request == 1
async def main():
    async with AsyncRedisQ(settings=settings) as mq:
        assert (await mq.get_message("orders", id)).request == 1
    bell = Listener(AsyncLink(settings), "nobody rings")
    assert await bell.wait(0.01) is False
    await bell.close()
asyncio.run(main())
"""


def test_file_descriptors_beyond_1024_are_no_hindrance(raw_real: Any) -> None:
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2048:
        pytest.skip("this user may not open so many files")
    run_program(MANY_FILES, raw_real.server.url, raw_real.settings.namespace)


def test_no_representation_holds_the_password() -> None:
    settings = Settings(url="redis://someone:hunter2@host:6380/0", auth="none")
    link = AsyncLink(settings)
    endpoint = Endpoint.of(settings)
    shown = [repr(thing) for thing in (settings, link, endpoint, endpoint.known(), Listener(link, "bell"))]
    shown += [repr(RedisQ(settings=settings)), repr(endpoint.connection()), repr(endpoint.async_connection())]
    assert not any("hunter2" in text for text in shown)
    assert urlsplit(endpoint.url).password == "hunter2"
