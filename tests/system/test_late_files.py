"""An upgrade in place, or descriptors used up, after the start: all that a process may need it has read before."""

from __future__ import annotations

import hmac
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

import redisq
from redisq import RedisQ, tokens
from redisq.gateway.page.session import COOKIE
from tests.conftest import CREDENTIALS
from tests.gateway.conftest import MASTER
from tests.gateway.test_every_route import BODIES, GUARDED, OPEN, OPEN_PAGES, PAGES
from tests.support.gateways.processes import Fleet
from tests.system.conftest import eventually

#: `redisq`, which from SIGUSR1 on notes what it imports and which files of its path it opens; but for the lines that
#: a traceback shows.
NOTED = """
import atexit, os, signal, sys
from pathlib import Path
from redisq.cli import main
late = []

def note(event, details):
    if event == "import":
        late.append(f"import {details[0]}")
    elif event == "open" and str(details[0]).startswith(tuple(filter(None, sys.path))) and not for_a_traceback():
        late.append(f"open {details[0]}")

def for_a_traceback():
    frame = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.endswith("linecache.py"):
        frame = frame.f_back
    return frame is not None

def begin(*_):
    Path("armed").touch()
    sys.addaudithook(note)

signal.signal(signal.SIGUSR1, begin)
atexit.register(lambda: Path("late").write_text("\\n".join(late)))
sys.exit(main())
"""


class Upgraded:
    """A process of a copy of redisq, which goes away beneath it."""

    def __init__(self, folder: Path, environment: dict[str, str], *command: str) -> None:
        self._library, self._folder = folder / "library", folder
        package = Path(redisq.__file__).parent
        shutil.copytree(package, self._library / "redisq", ignore=shutil.ignore_patterns("__pycache__"))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")}
        self.log = folder / "log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", NOTED, *command],
                cwd=folder,
                env={**inherited, **environment, "PYTHONPATH": str(self._library)},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def lose_files(self) -> None:
        """Have an upgrade in place begin."""
        self._process.send_signal(signal.SIGUSR1)
        eventually((self._folder / "armed").exists, "the hook")
        self._library.rename(self._folder / "gone")

    def end(self) -> str:
        """End the process in order, and give what it has read late."""
        self._process.terminate()
        assert self._process.wait(60) == 0, self.log.read_text()
        return (self._folder / "late").read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def begin(tmp_path: Path, producer: RedisQ) -> Iterator[Callable[..., Upgraded]]:
    """Start a process on the producer's server."""
    made: list[Upgraded] = []

    def start(*command: str, **environment: str) -> Upgraded:
        environment |= {"REDISQ_URL": producer.settings.url, "REDISQ_NAMESPACE": producer.settings.namespace}
        made.append(Upgraded(tmp_path, environment, *command))
        return made[-1]

    yield start
    for process in made:
        process.kill()


WORK = """
import asyncio, datetime, os, pathlib, resource, time
import pydantic, redisq
from redisq import AsyncRedisQ, Reject, Retry, Worker
worker = Worker()

class Order(pydantic.BaseModel):
    count: int

@worker.handler("loop")
async def on_loop(delivery):
    if delivery.request == "long":
        await asyncio.to_thread(outlast, delivery)
    if delivery.request == "block":
        time.sleep(1.2)
    if delivery.request == "client":
        async with AsyncRedisQ() as mq:
            return [await told(mq.queue_message("bounded", {"n": 1})), await told(mq.queue_message("bounded", {})),
                    await told(mq.get_message("bounded", delivery.id)), await told(mq.stats("bounded"))]
    return outcome(delivery)

async def told(call):
    try:
        return await call and ""
    except redisq.RedisQError as error:
        return type(error).__name__

@worker.handler("thread")
def in_thread(delivery):
    if delivery.request == "long":
        outlast(delivery)
    if delivery.request == "client":
        with redisq.RedisQ() as mq:
            mq.queue_message("bounded", {"n": 1})
            mq.queue_messages("bounded", [{"n": 1}, {"n": 2}])
            mq.stats("bounded")
            return [refused(mq.queue_message, "bounded", {}), refused(mq.get_message, "bounded", delivery.id)]
    if delivery.request == "descriptors":
        return without_descriptors(delivery)
    return outcome(delivery)

def refused(call, *arguments):
    try:
        call(*arguments)
    except redisq.RedisQError as error:
        return type(error).__name__

def outlast(delivery):
    first = delivery.deadline
    while delivery.deadline <= first + datetime.timedelta(seconds=2) and not delivery.cancelled:
        time.sleep(0.01)

def without_descriptors(delivery):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, most[1]))  # not even one that is closed can be had again
    try:
        with redisq.RedisQ() as mq:  # that it cannot connect is no reason to part from what is connected
            told = refused(mq.stats, "thread")
        outlast(delivery)
        return told
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)

def outcome(delivery):
    how = delivery.request
    if how == "group":
        raise ExceptionGroup("several", [ValueError(1), KeyError(2)]) from OSError(3)
    if how == "retry" and delivery.attempt == 1:
        raise Retry(after=0.01)
    if how == "reject":
        raise Reject("never")
    if how == "unstorable":
        return object()
    if how == "progress":
        delivery.progress({"done": 1})
        delivery.renew()
    return {"at": datetime.datetime.now(datetime.UTC), "bytes": b"1", "how": how}

@worker.handler("hurried", timeout=0.1)
async def overrun(delivery):
    await asyncio.sleep(60)

@worker.handler("stuck", timeout=0.1)
def overrun_in_thread(delivery):
    time.sleep(1)

@worker.handler("orders")
def model(order: Order):
    return order.count

@worker.handler("ticks")
def ticked(delivery):
    pathlib.Path("ticked").touch()
"""
CRON = '\n@worker.every("* * * * * *", queue="ticks")\ndef tick(moment):\n    return {"at": moment}\n'
#: What becomes of messages: their status, and how often they are delivered.
OUTCOMES: dict[str, dict[Any, tuple[str, int]]] = {
    "loop": {"block": ("COMPLETE", 1)},
    "hurried": {1: ("ERROR", 2)},
    "stuck": {1: ("ERROR", 2)},
    "orders": {0: ("ERROR", 1)},
}
for one in ("loop", "thread"):
    OUTCOMES.setdefault(one, {}).update(
        dict.fromkeys(("long", "client", "plain", "progress"), ("COMPLETE", 1))
        | dict.fromkeys(("reject", "unstorable"), ("ERROR", 1))
        | {"retry": ("COMPLETE", 2), "group": ("ERROR", 2)}
    )
WORKER = {
    "REDISQ_APP_ID": CREDENTIALS.app,
    "REDISQ_APP_SECRET": CREDENTIALS.secret(),
    "REDISQ_LEASE": "2",
    "REDISQ_BACKOFF_BASE": "0.01",
    "REDISQ_MAX_ATTEMPTS": "2",
    "REDISQ_GRACE": "0.1",
    "REDISQ_LOG_ERRORS": "type",  # a traceback is of a fault of ours
    "REDISQ_RETRY_DEADLINE": "0.2",
}
BOUNDED = {"type": "object", "required": ["n"]}


def test_a_worker_outlives_an_upgrade_in_place(
    begin: Callable[..., Upgraded], producer: RedisQ, tmp_path: Path
) -> None:
    pytest.importorskip("jsonschema_rs")
    cron = CRON * (importlib.util.find_spec("cronsim") is not None)
    (tmp_path / "work.py").write_text(WORK + cron)
    producer.define("bounded", schema=BOUNDED)
    worker = begin("worker", "work:worker", **WORKER)
    first = producer.queue_message("orders", {"count": 3})
    assert producer.get_message("orders", first, wait=60).result == 3
    worker.lose_files()
    (tmp_path / "ticked").unlink(missing_ok=True)
    ids = {(queue, how): producer.queue_message(queue, how) for queue, ways in OUTCOMES.items() for how in ways}
    for (queue, how), id in ids.items():
        message = producer.get_message(queue, id, wait=60)
        assert (message.status, message.attempts) == OUTCOMES[queue][how], (queue, how, message.error)
        if how == "client":
            refusals = [name for name in message.result or () if name]
            assert sorted(refusals) == ["MessageNotFound", "SchemaViolation"], queue
    assert producer.stats("bounded").ready == 4
    if cron:
        eventually((tmp_path / "ticked").exists, "a tick of the schedule")
    assert worker.end() == ""
    log = worker.log.read_text()
    assert "Traceback" not in log
    assert "leases not renewed" not in log


def test_handlers_that_use_up_the_descriptors_keep_their_leases(
    begin: Callable[..., Upgraded], producer: RedisQ, tmp_path: Path
) -> None:
    (tmp_path / "work.py").write_text(WORK)
    worker = begin("worker", "work:worker", **WORKER)
    first = producer.queue_message("thread", "descriptors")
    message = producer.get_message("thread", first, wait=60)
    assert (message.status, message.attempts, message.result) == ("COMPLETE", 1, "Unavailable")
    second = producer.queue_message("thread", "plain")
    assert producer.get_message("thread", second, wait=60).attempts == 1
    assert worker.end() == ""
    assert "leases not renewed" not in worker.log.read_text()


# --- The gateway ---

QUEUE = "orders"


def test_a_gateway_outlives_an_upgrade_in_place(
    begin: Callable[..., Upgraded], producer: RedisQ, tmp_path: Path
) -> None:
    pytest.importorskip("uvicorn")
    fleet = Fleet(producer.settings.model_copy(update={"master_key": SecretStr(MASTER.text())}), tmp_path)
    shop = fleet.create("shop")
    gateway = begin("serve", "--port", "0", REDISQ_MASTER_KEY=MASTER.text(), REDISQ_HTTP_FAILURES="1000000")
    found = eventually(lambda: re.search(r"listening on (http://\S+)", gateway.log.read_text()), "the gateway")
    with httpx.Client(base_url=found[1], timeout=60) as client:
        assert client.get("/_ready").status_code == 200
        gateway.lose_files()
        producer.define("bounded", schema=BOUNDED)
        token = fleet.sign(shop)
        tokens_of = {
            "": None,
            "good": token,
            "narrow": tokens.narrow(token, ops=["get"], addresses=["127.0.0.1", "2001:db8::/32"]),
            "elsewhere": tokens.narrow(token, addresses=["192.0.2.1"]),
            "bad": "rq1.x.y.z",
        }
        for whose, used in tokens_of.items():
            for status in use_every_route(client, used):
                assert status < 500, whose
        assert set(use_every_route(client, token)) >= {200}
        work_through(client, {"Authorization": f"Bearer {token}"})
        form = {"grant_type": "client_credentials", "client_id": shop.app, "client_secret": shop.secret()}
        assert client.post("/_token", data=form).status_code == 200
    fleet.close()
    assert gateway.end() == ""
    assert "Traceback" not in gateway.log.read_text()


def use_every_route(client: httpx.Client, token: str | None) -> Iterator[int]:
    """Send a request to each, of a queue and a message that exist and of others; give the statuses."""
    id = str(uuid.uuid4())
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    for method, template in sorted({*GUARDED, *OPEN}):
        for queue in (QUEUE, "ordres"):
            path = template.format(queue=queue, id=id, chapter="http")
            body = {"json": BODIES.get(path.rpartition("/")[2], 1)} if method in ("POST", "PUT", "PATCH") else {}
            yield client.request(method, path, headers=bearer, **body).status_code
            yield client.request(method, path, headers=bearer, content=b"{").status_code
    cookie = {"Cookie": f"{COOKIE}={token}"} if token else {}
    tag = hmac.new((token or "").encode(), b"redisq/page/form/v1", "sha256").hexdigest()
    for method, template in sorted({*PAGES, *OPEN_PAGES}):
        path = template.format(queue=QUEUE, id=id, rest="x")
        how: dict[str, Any] = {"data": {"tag": tag}} if method == "POST" else {}
        headers = {**cookie, "Sec-Fetch-Site": "same-origin"}
        yield client.request(method, path, headers=headers, **how).status_code


def work_through(client: httpx.Client, headers: dict[str, str]) -> None:
    """Take messages through their lives: one by one, in lines, with a schema, by claims."""
    assert client.post("/bounded", headers=headers, json={}).status_code == 422
    assert client.post("/bounded", headers=headers, json={"n": 1}).status_code == 201
    lines = client.post(
        "/bounded", headers={**headers, "Content-Type": "application/x-ndjson"}, content=b'{"n": 2}\n{"n": 3}\n{}\n'
    )
    assert lines.status_code == 200, lines.text
    claims = client.post("/bounded/_claim", headers=headers, json={"max": 3}).json()
    for claimed, ways in zip(claims["deliveries"], (["_renew", "_complete"], ["_fail"], ["_release"]), strict=True):
        for way in ways:
            body = {"receipt": claimed["receipt"]}
            body |= {"error": {"type": "Odd", "message": "told"}} if way == "_fail" else {}
            answer = client.post(f"/bounded/{claimed['id']}/{way}", headers=headers, json=body)
            assert answer.status_code < 300, (way, answer.text)
    assert client.get(f"/bounded/{claimed['id']}", headers=headers).json()["request"] == {"n": 3}
