"""A queue on a real server, step by step beside a model of it: any order of calls, repeats, lapses, restarts.

CHAOS_EXAMPLES and CHAOS_STEPS set how many sequences are tried, and how long each is. With CHAOS_SHRINK=0 a failure is
told as it was found, not after minutes of search for the shortest.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from redisq import AsyncRedisQ, MessageNotFound, RedisQ, RedisQError, Settings
from redisq.body import codec
from redisq.link.sync import Link
from redisq.model.delivery import Receipt
from redisq.operations.caller import limits_of
from redisq.store.call import CLAIM_MEMORY_MS, new_nonce
from redisq.store.keys import id_text, partition_keys
from tests.chaos.__main__ import name, servers
from tests.chaos.model import Model
from tests.chaos.processes import end_with_parent
from tests.chaos.sabotage import OF_THE_MODEL, Bug, plant
from tests.conftest import Raw
from tests.scripts.conftest import ERROR, Orders

pytestmark = pytest.mark.chaos

MOST = 4  # messages of one claim
EXAMPLES = int(os.environ.get("CHAOS_EXAMPLES", "500"))
STEPS = int(os.environ.get("CHAOS_STEPS", "50"))
PHASES = [phase for phase in Phase if phase is not Phase.shrink or os.environ.get("CHAOS_SHRINK") != "0"]
HOUR, DAY = 3_600.0, 86_400.0
#: So long that the time a test takes decides nothing: what is due, is so by minutes.
TIMES = {"lease": HOUR, "retention": 2 * DAY, "dedup_window": 3 * DAY, "dead_retention": 10 * DAY, "backoff_base": 0}
MESSAGES = 12
Delivery = tuple[list[Receipt], int] | bytes
STATUSES = {"P": "PENDING", "I": "INPROGRESS", "C": "COMPLETE", "E": "ERROR"}
WORKERS = st.sampled_from(("w-1", "w-2"))
_LARGEST_FILE = 4_000_000  # bytes that Redis has to load at a restart
_namespaces = itertools.count()


class Server:
    """A Redis that is killed and comes back with all that it had confirmed."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="rq"))
        self.url = f"unix://{self.folder}/s"
        self._start()

    def _start(self) -> None:
        options = ["--port", "0", "--unixsocket", f"{self.folder}/s", "--dir", str(self.folder), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "no"]  # a killed process loses none that it had written
        durable += ["--auto-aof-rewrite-percentage", "0"]  # no file goes while `empty` looks at them
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [self._binary, *options, *durable], stdout=out, stderr=out, preexec_fn=end_with_parent
            )
        with redis.Redis.from_url(self.url, protocol=2) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    assert self._process.poll() is None, (self.folder / "out").read_text()[-500:]
                    time.sleep(0.005)

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kill it and start it on what is on its disk."""
        self._kill()
        self._start()

    def empty(self) -> None:
        """Have it forget everything, when that has become much."""
        files = [path for path in self.folder.rglob("appendonly*") if path.is_file()]
        if sum(path.stat().st_size for path in files) > _LARGEST_FILE:
            self._kill()
            for path in files:
                path.unlink()
            self._start()

    def close(self) -> None:
        """End it."""
        self._kill()
        shutil.rmtree(self.folder)


def few(machine: Machine) -> bool:
    """Whether there is room for more messages: few, so that each gets far."""
    return len(machine.known) < MESSAGES


class Machine(RuleBasedStateMachine):
    """Does the same to a queue and to its model; both have to answer alike, and look alike after each step."""

    ids = Bundle("ids")
    claims = Bundle("claims")  # what each gave
    deliveries = ids | ids | st.tuples(claims, st.integers(0, 3))  # the present one of a message, or any that ever was

    def __init__(self, server: Server) -> None:
        super().__init__()
        server.empty()
        self.server = server
        self.settings = Settings(
            url=server.url, namespace=f"m{next(_namespaces)}", auth="none", max_attempts=3, max_lost=4, **TIMES
        )
        self.client, self.async_client = RedisQ(settings=self.settings), AsyncRedisQ(settings=self.settings)
        self.runner = asyncio.Runner()
        keys = partition_keys(self.settings.namespace, "orders")
        self.raw = redis.Redis.from_url(server.url, protocol=2)
        self.orders = Orders(Raw(cast(Any, None), self.settings, self.raw, Link(self.settings), keys))
        self.orders.limits = limits_of(self.settings)
        self.model = Model(self.orders.limits)
        self.restarted = False
        self.known: list[bytes] = []
        self.last: dict[str, tuple[str, float]] = {}  # worker -> nonce and time of the last claim that gave something

    def teardown(self) -> None:
        self.client.close()
        self.runner.run(self.async_client.close())
        self.runner.close()
        self.orders.raw.link.close()
        self.raw.close()

    # --- Clients ---

    def _new_ids(self, count: int) -> list[bytes]:
        """Make ids, the same ones each time: claims take what lapsed at the same moment in their order."""
        ids = [number.to_bytes(16, "big") for number in range(len(self.known), len(self.known) + count)]
        self.known += ids
        return ids

    def ask(self, threads: bool, method: str, *args: Any, **named: Any) -> Any:
        """Call one of the clients; give its answer, or the class of its refusal."""
        try:
            if threads:
                return getattr(self.client, method)("orders", *args, **named)
            return self.runner.run(getattr(self.async_client, method)("orders", *args, **named))
        except RedisQError as error:
            return type(error)

    @precondition(few)
    @rule(
        target=ids,
        threads=st.booleans(),
        body=st.integers(0, 2),
        delay=st.sampled_from((0, 0, 1500, 4000)),
        priority=st.sampled_from((0, 0, 3, 9)),
    )
    def queue(self, threads: bool, body: int, delay: float, priority: int) -> bytes:
        (id,) = self._new_ids(1)
        assert self.model.queue(id, body, delay, priority) is None
        given = {"id": id_text(id), "delay": delay, "priority": priority}
        assert self.ask(threads, "queue_message", body, **given) == id_text(id)
        return id

    @initialize(target=ids, threads=st.booleans(), bodies=st.lists(st.integers(0, 2), min_size=3, max_size=6))
    def queue_the_first(self, threads: bool, bodies: list[int]) -> Any:
        return self._queue_many(threads, bodies)

    @precondition(few)
    @rule(target=ids, threads=st.booleans(), bodies=st.lists(st.integers(0, 2), min_size=2, max_size=5))
    def queue_many(self, threads: bool, bodies: list[int]) -> Any:
        return self._queue_many(threads, bodies)

    def _queue_many(self, threads: bool, bodies: list[int]) -> Any:
        ids = self._new_ids(len(bodies))
        texts = [id_text(id) for id in ids]
        assert self.ask(threads, "queue_messages", bodies, ids=texts) == texts
        for id, body in zip(ids, bodies, strict=True):
            assert self.model.queue(id, body) is None
        return multiple(*ids)

    @rule(id=ids, threads=st.booleans(), body=st.integers(0, 2), delay=st.sampled_from((0, 1500)))
    def queue_again(self, id: bytes, threads: bool, body: int, delay: float) -> None:
        answer = self.ask(threads, "queue_message", body, id=id_text(id), delay=delay)
        assert answer == (self.model.queue(id, body, delay) or id_text(id))

    @rule(id=ids)
    def get(self, id: bytes) -> None:
        one, other = (self.ask(threads, "get_message", id_text(id)) for threads in (True, False))
        assert one == other
        assert (one is MessageNotFound) == (id not in self.model.kept)

    @rule(id=ids, threads=st.booleans())
    def delete(self, id: bytes, threads: bool) -> None:
        assert self.ask(threads, "delete_message", id_text(id)) == self.model.delete(id)

    @rule(id=ids, threads=st.booleans())
    def cancel(self, id: bytes, threads: bool) -> None:
        assert self.ask(threads, "cancel_message", id_text(id)) == self.model.cancel(id)

    # --- Deliveries ---

    @rule(target=claims, worker=WORKERS, count=st.integers(1, MOST), reclaim=st.booleans())
    def claim(self, worker: str, count: int, reclaim: bool) -> list[Receipt]:
        return self._claim(worker, count, reclaim)

    def _claim(self, worker: str, count: int, reclaim: bool) -> list[Receipt]:
        """Claim: as many as there are, except that of several suspects all but one may be left."""
        nonce = new_nonce()
        ready = set(self.orders.ready())
        receipts = self._claimed(self.orders.claim(count, worker, nonce, **({} if reclaim else {"lapsed_by": 0})))
        if reclaim:
            self.model.condemn()
        waiting, lapsed = self.model.waiting(), self.model.lapsed() if reclaim else set()
        found = {receipt.id for receipt in receipts}
        assert found <= waiting | lapsed
        assert len(found) == len(receipts) <= count
        assert len(found) >= min(count, len(waiting) + bool(lapsed))
        kept = self.model.kept
        lowest = min((kept[id].priority for id in found & waiting), default=9)
        assert all(kept[id].priority <= lowest for id in ready - found)
        for receipt in receipts:
            assert receipt.attempt == self.model.kept[receipt.id].attempt + 1
        self.model.deliver(receipts)
        if receipts:
            self.last[worker] = nonce, self.model.now
            self.repeat_claim(worker)
        return receipts

    @rule(worker=WORKERS)
    def repeat_claim(self, worker: str) -> None:
        """Claim again as a worker does whose last answer was lost: it gets what it still holds, in parts, too."""
        nonce, at = self.last.get(worker, ("", -math.inf))
        if self.model.now < at + CLAIM_MEMORY_MS / 1000:
            held = self.model.held(nonce)
            assert set(self._claimed(self.orders.claim(MOST, worker, nonce))) == held
            parts = [self._claimed(self.orders.claim(1, worker, nonce, skip=skip)) for skip in range(MOST)]
            assert {receipt for part in parts for receipt in part} == held

    @rule(target=claims, worker=WORKERS, count=st.integers(1, MOST))
    def crash(self, worker: str, count: int) -> list[Receipt]:
        """Claim, and never be heard of again."""
        receipts = self._claim(worker, count, True)
        for receipt in receipts:
            self.lapse(receipt.id)
        return receipts

    @rule(target=claims, worker=WORKERS, count=st.integers(1, MOST))
    def stumble(self, worker: str, count: int) -> list[Receipt]:
        """Claim, and fail."""
        receipts = self._claim(worker, count, True)
        for receipt in receipts:
            self.fail(([receipt], 0), 0.0, False)
        return receipts

    def _claimed(self, claim: Any) -> list[Receipt]:
        for delivery in claim.deliveries:
            assert codec.decode_request(delivery.body)[0] == self.model.kept[delivery.receipt.id].body
        return [delivery.receipt for delivery in claim.deliveries]

    def _receipt(self, delivery: Delivery) -> Receipt:
        """Give a delivery's receipt; one that fits nothing, where there is none."""
        if isinstance(delivery, bytes):
            message = self.model.kept.get(delivery)
            return message.receipt if message and message.receipt else Receipt(delivery, 0, "nobody")
        claim, index = delivery
        return claim[index % len(claim)] if claim else self._receipt(self.known[index % len(self.known)])

    @rule(target=claims, delivery=deliveries, attempt=st.integers(0, 1))
    def forge(self, delivery: Delivery, attempt: int) -> list[Receipt]:
        """Make a receipt that fits half: the nonce, or the attempt, is another's."""
        receipt = self._receipt(delivery)
        return [Receipt(receipt.id, receipt.attempt + attempt, receipt.nonce if attempt else new_nonce())]

    @rule(delivery=deliveries, result=st.integers(0, 2))
    def complete(self, delivery: Delivery, result: int) -> None:
        receipt = self._receipt(delivery)
        self._outcome(self.orders.complete(receipt, result=result), self.model.complete(receipt, result))

    @rule(delivery=deliveries, delay=st.sampled_from((0.0, 1500.0)), final=st.booleans())
    def fail(self, delivery: Delivery, delay: float, final: bool) -> None:
        receipt = self._receipt(delivery)
        outcome = self.orders.fail(receipt, delay=delay, final=final)
        self._outcome(outcome, self.model.fail(receipt, codec.decode(ERROR), delay, final))

    @rule(delivery=deliveries)
    def release(self, delivery: Delivery) -> None:
        receipt = self._receipt(delivery)
        self._outcome(self.orders.release(receipt), self.model.release(receipt))

    @rule(delivery=deliveries, progress=st.none() | st.integers(0, 2))
    def renew(self, delivery: Delivery, progress: int | None) -> None:
        receipt = self._receipt(delivery)
        encoded = b"" if progress is None else codec.encode(progress)
        self._outcome(self.orders.renew(receipt, progress=encoded), self.model.renew(receipt, progress))

    @rule(id=ids)
    def redrive(self, id: bytes) -> None:
        self._outcome(self.orders.redrive(id), self.model.redrive(id))

    def _outcome(self, outcomes: list[Any], expected: type[RedisQError] | None) -> None:
        (outcome,) = outcomes
        assert (type(outcome) if isinstance(outcome, RedisQError) else None) == expected

    # --- What befalls a queue ---

    @rule(id=ids)
    def lapse(self, id: bytes) -> None:
        message = self.model.kept.get(id)
        if message and message.status == "I":
            self.orders.lapse(id)
            self.model.lapse(id)

    @rule(seconds=st.sampled_from((2000.0, 2000.0, 5000.0, 5000.0, DAY, 2.5 * DAY, 9 * DAY)))
    def pass_time(self, seconds: float) -> None:
        self.orders.pass_time(seconds)
        self.model.pass_time(seconds)
        while self.orders.sweep()[1]:
            pass

    @precondition(lambda self: not self.restarted)  # once: it takes as long as ten other steps
    @rule()
    def restart(self) -> None:
        self.restarted = True
        self.server.restart()

    @rule()
    def forget_scripts(self) -> None:
        self.raw.script_flush()

    # --- What holds at any time ---

    @invariant()
    def messages_are_alike(self) -> None:
        for id, found in zip(self.known, self.orders.get(*self.known) if self.known else [], strict=True):
            kept = self.model.kept.get(id)
            if kept is None:
                assert isinstance(found, MessageNotFound)
                continue
            assert (found.status, found.request, found.attempts) == (STATUSES[kept.status], kept.body, kept.attempt)
            assert [(one.event, one.attempt) for one in found.history] == kept.history
            assert (found.result, found.progress) == (
                kept.payload if kept.status == "C" else None,
                kept.payload if kept.status == "I" else None,
            )

    @invariant()
    def totals_are_alike(self) -> None:
        stats, model = self.orders.stats(), self.model
        number = {status: sum(one.status == status for one in model.kept.values()) for status in STATUSES}
        assert (stats.ready + stats.scheduled, stats.in_progress) == (number["P"], number["I"])
        cancelled = sum(one.cancelled for one in model.kept.values())
        assert (stats.finished, stats.dead) == (number["C"] + number["E"], number["E"] - cancelled)
        counts = {name: getattr(stats, "died" if name == "dead" else name) for name in model.counts}
        assert counts == model.counts


@pytest.fixture(params=servers() or [pytest.param("", marks=pytest.mark.skip("no real Redis here"))], ids=name)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.close()


def test_a_queue_behaves_as_its_model(server: Server) -> None:
    run_state_machine_as_test(
        lambda: Machine(server),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def run_copy(folder: Path, bug: Bug | None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the test above in a copy of the project."""
    plant(bug, folder)
    command = [sys.executable, "-m", "pytest", "-m", "chaos", "-k", "behaves", "tests/chaos/test_model.py"]
    every = {**os.environ, "CHAOS_SHRINK": "0", **environment}
    return subprocess.run(command, cwd=folder, env=every, capture_output=True, text=True)


@pytest.mark.parametrize("name", OF_THE_MODEL)
def test_a_bug_is_found_out(name: str, tmp_path: Path) -> None:
    run = run_copy(tmp_path, OF_THE_MODEL[name])
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    assert "AssertionError" in run.stdout


def test_it_is_the_bug_that_is_found(tmp_path: Path) -> None:
    run = run_copy(tmp_path, None, CHAOS_EXAMPLES="20")
    assert run.returncode == pytest.ExitCode.OK, run.stdout + run.stderr
