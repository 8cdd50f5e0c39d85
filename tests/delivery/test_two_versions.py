"""Clients and workers of the version before beside new ones on one queue, as in every rolling deploy.

`before.zip` is redisq as it was when queues learned to say what they need: all but gateway, command line and guide. A
version older than that cannot refuse a queue by name; from it on, one that does not know what a queue needs does.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redisq import RedisQ, Status, UpgradeNeeded, embedded, store
from redisq.operations.caller import limits_of
from redisq.store.call import new_nonce
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE
from tests.support.servers.proxy import until
from tests.support.workers.spawned import PATIENCE, Nursery, environment_of

ARCHIVE = Path(__file__).with_name("before.zip")

#: What a client does, of either version: queue messages in each way, and look them up when they have ended.
CLIENT = """
import json, sys
from redisq import RedisQ, RedisQError, Worker
with RedisQ() as mq:
    done, count = sys.argv[1], int(sys.argv[2])
    if done == "queue":
        ids = [mq.queue_message("tasks", {"n": n}, priority=n % 4, delay=0.3 * (n % 3)) for n in range(count)]
        ids += [mq.queue_message("tasks", {"n": n}) for n in range(count)]
        ids += mq.queue_messages("tasks", ({"n": n, "sleep": 0.001} for n in range(count)))
        ids += [mq.queue_message("tasks", {"kill": True}, idempotency_key=f"{sys.argv[3]} {n}") for n in range(1)]
        print(json.dumps(ids))
    elif done == "get":
        found = [mq.get_message("tasks", id, wait=count) for id in json.load(sys.stdin)]
        print(json.dumps([[one.status, one.result, len(one.history)] for one in found]))
    elif done == "again":
        print(json.dumps(mq.queue_message("tasks", {"n": 1}, id=sys.argv[3])))
    elif done == "errors":
        one = mq.get_message("tasks", sys.argv[3])
        print(json.dumps([one.status, one.error, [[step.event, step.attempt, step.by] for step in one.history]]))
    elif done == "fail":
        worker = Worker()

        @worker.handler("tasks")
        def fail(delivery):
            raise ValueError("told to fail")

        print(worker.run(burst=True))
    elif done == "redrive":
        print(json.dumps(mq.redrive("tasks")))
    else:
        try:
            mq.queue_message("tasks", {})
        except RedisQError as error:
            print(json.dumps([error.code, str(error)]))
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the version before lies."""
    folder = tmp_path_factory.mktemp("before")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return str(folder)


def client(raw: Raw, path: str | None, *arguments: str, reads: Any = None) -> Any:
    """Run the client in a process of its own, with redisq from `path`, or from here."""
    environment = environment_of(raw.settings, **({"PYTHONPATH": path} if path else {}))
    done = subprocess.run(
        [sys.executable, "-P", "-c", CLIENT, *arguments],
        env=environment,
        input=json.dumps(reads),
        text=True,
        check=True,
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
    )
    return json.loads(done.stdout)


@pytest.fixture
def crews(
    real_server: embedded.EmbeddedServer, below: Callable[..., Raw], before: str, tmp_path: Path
) -> Iterator[tuple[Raw, Nursery, Nursery]]:
    """Workers of the version before and of this one; leases are short, so that those that die are found out."""
    raw = below(real_server, lease=2.0)
    old = Nursery(raw.settings, tmp_path / "old.log", 10, PYTHONPATH=before)
    new = Nursery(raw.settings, tmp_path / "new.log", 10)
    yield raw, old, new
    old.close()
    new.close()


def test_both_work_on_one_queue(crews: tuple[Raw, Nursery, Nursery], before: str) -> None:
    raw, old, new = crews
    alive = {old.start(): old, new.start(): new}
    ids = {path: client(raw, path, "queue", "40", str(path)) for path in (before, None)}
    everything = ids[before] + ids[None]

    def replace() -> None:
        """Whoever has taken its worker along is replaced, as by a process manager."""
        for pid, crew in list(alive.items()):
            if pid in crew.codes:
                del alive[pid]
                alive[crew.start()] = crew

    with RedisQ(settings=raw.settings) as mq:
        until(lambda: (replace(), mq.stats(QUEUE).completed == len(everything))[1], PATIENCE)
        assert mq.doctor(QUEUE) == []
    for path in (before, None):  # each reads what the other has written
        for status, result, _ in client(raw, path, "get", "60", reads=everything):
            assert (status, result >= 1) == (Status.COMPLETE, True)
    ends, starts = old.count("end") + new.count("end"), old.count("start") + new.count("start")
    assert set(ends) == set(everything)
    assert {id for id, count in starts.items() if count != 1} <= in_dead_hands(old, new)
    for pid, crew in alive.items():
        assert crew.end(pid, signal.SIGTERM) == 0


def test_headers_are_passed_over_by_the_version_before(crews: tuple[Raw, Nursery, Nursery], before: str) -> None:
    raw, old, _ = crews
    with RedisQ(settings=raw.settings) as mq:
        id = mq.queue_message(QUEUE, {"n": 1}, headers={"tenant": "a"})
        assert client(raw, before, "again", "0", id) == id  # the same message to it, too
        plain = client(raw, before, "again", "0", str(uuid.uuid4()))
        assert mq.queue_message(QUEUE, {"n": 1}, id=plain, headers={"tenant": "a"}) == plain
        pid = old.start()
        assert [mq.get_message(QUEUE, one, wait=PATIENCE).status for one in (id, plain)] == [Status.COMPLETE] * 2
        assert [mq.get_message(QUEUE, one).headers for one in (id, plain)] == [{"tenant": "a"}, {}]
        assert mq.doctor(QUEUE) == []
    assert client(raw, before, "get", "0", reads=[id, plain]) == [[Status.COMPLETE, 1, 0]] * 2
    assert old.end(pid, signal.SIGTERM) == 0


def test_a_deferred_message_is_one_of_the_version_before_too(crews: tuple[Raw, Nursery, Nursery], before: str) -> None:
    raw, old, _ = crews
    limits = limits_of(raw.settings)
    with RedisQ(settings=raw.settings) as mq:
        id = mq.queue_message(QUEUE, {"n": 1})
        for _ in range(3):
            (one,) = raw.link.call(store.deliveries.claim(raw.keys, limits, "w", new_nonce(), 1)).deliveries
            assert raw.link.call(store.deliveries.defer(raw.keys, limits, [(one.receipt, 0.0)])) == [None]
        assert client(raw, before, "get", "0", reads=[id]) == [["PENDING", None, 1]]
        pid = old.start()
        assert mq.get_message(QUEUE, id, wait=PATIENCE).status is Status.COMPLETE
        (step,) = mq.get_message(QUEUE, id).history
        assert (step.event, step.count, step.attempt) == ("deferred", 3, 3)
        assert mq.doctor(QUEUE) == []
    assert client(raw, before, "get", "0", reads=[id]) == [["COMPLETE", 4, 1]]
    assert old.end(pid, signal.SIGTERM) == 0


def in_dead_hands(*crews: Nursery) -> set[str]:
    """The messages that workers had begun which were taken along by one of them: their outcomes may be lost."""
    events = [event for crew in crews for event in crew.events()]
    dead = {event.pid for event in events if event.kind == "kill"}
    return {event.id for event in events if event.kind == "start" and event.pid in dead}


def test_the_version_before_reads_and_keeps_what_attempts_have_said(
    real_server: embedded.EmbeddedServer, below: Callable[..., Raw], before: str
) -> None:
    raw = below(real_server, max_attempts=3, backoff_base=0.01)
    limits, text = limits_of(raw.settings), "a, b; c|d %2C\n\u00a0\U0001f4e6" + " " * 300
    with RedisQ(settings=raw.settings) as mq:
        id = mq.queue_message(QUEUE, 1)
        (claimed,) = raw.link.call(store.deliveries.claim(raw.keys, limits, "new", new_nonce(), 1)).deliveries
        error = {"type": "Odd|Error", "message": text, "traceback": "Traceback\n"}
        failure = store.deliveries.failure(claimed.receipt, error, delay=0.0)
        assert [failed.failures for failed in raw.link.call(store.deliveries.fail(raw.keys, limits, [failure]))] == [1]
        status, told, history = client(raw, before, "errors", "0", id)
        assert (status, told) == ("PENDING", {"type": "Odd|Error", "message": text, "reason": "failed"})
        assert [(event, attempt) for event, attempt, _ in history] == [("failed", 1)]
        until(lambda: (client(raw, before, "fail", "0"), mq.get_message(QUEUE, id).finished)[1], PATIENCE)
        message = mq.get_message(QUEUE, id)
        assert message.error == {"type": "ValueError", "message": "told to fail", "reason": "failed"}
        assert [(step.event, step.attempt, step.error) for step in message.history] == [
            ("failed", 1, {"type": "Odd|Error", "message": text[:300]}),
            ("failed", 2, None),
            ("failed", 3, None),
        ]
        assert message.history[0].by == "new"
        status, told, history = client(raw, before, "errors", "0", id)
        assert (status, told) == ("ERROR", message.error)
        assert len(history) == 3
        assert mq.doctor(QUEUE) == []


def test_the_version_before_refuses_a_queue_that_needs_more(crews: tuple[Raw, Nursery, Nursery], before: str) -> None:
    raw, old, _ = crews
    with RedisQ(settings=raw.settings) as mq:
        mq.queue_message(QUEUE, {"n": 1})
        raw.redis.hset(raw.keys.config, "needs", "groups@9.1.0")
        pid = old.start()
        until(lambda: "no claim: The queue needs groups, which takes redisq 9.1.0 or later" in old.warnings(), PATIENCE)
        code, text = client(raw, before, "refused", "0")
        assert (code, "groups" in text) == (UpgradeNeeded.code, True)
        assert old.events() == []
        raw.redis.hdel(raw.keys.config, "needs")
        until(lambda: mq.stats(QUEUE).completed == 1, PATIENCE)
    assert old.end(pid, signal.SIGTERM) == 0


#: what a handler does when it has begun, and its message is cancelled -> what becomes of that
ENDINGS = {"fails": {"sleep": 1, "fail": True}, "dies": {"sleep": 1, "kill": True}, "returns": {"sleep": 1}}


@pytest.mark.full(keep=2)
@pytest.mark.parametrize("heir", ["old", "new"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_cancelled_is_delivered_to_nobody_again(
    crews: tuple[Raw, Nursery, Nursery], before: str, ending: str, heir: str
) -> None:
    """A worker of the version before has begun with it, and knows nothing of cancelling; nor may the next one."""
    raw, old, new = crews
    pid = old.start()
    with RedisQ(settings=raw.settings) as mq:
        waiting = mq.queue_message(QUEUE, {}, delay=1)
        id = mq.queue_message(QUEUE, ENDINGS[ending])
        until(lambda: old.count("start")[id], PATIENCE)
        assert (mq.cancel_message(QUEUE, waiting), mq.cancel_message(QUEUE, id)) == (True, None)
        crew = old if heir == "old" else new
        crew.start()
        if ending != "dies":
            assert mq.get_message(QUEUE, id).status is Status.INPROGRESS
            old.end(pid, signal.SIGTERM)
        message = mq.get_message(QUEUE, id, wait=PATIENCE)
        other = mq.get_message(QUEUE, waiting, wait=PATIENCE)
        assert mq.doctor(QUEUE) == []
    if ending == "returns":
        assert (message.status, message.result) == (Status.COMPLETE, 1)
    else:
        assert message.error["reason"] in (["cancelled", "expired"] if heir == "old" else ["cancelled"])
        assert "cancelled" in [step.event for step in message.history]
    assert old.count("start") + new.count("start") == {id: 1}
    assert client(raw, before, "errors", "0", waiting)[:2] == [Status.ERROR, other.error]
    assert client(raw, before, "redrive", "0") == (message.error or {"reason": ""})["reason"].count("expired")
