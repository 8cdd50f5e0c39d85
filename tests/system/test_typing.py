"""A user with a type checker: the examples of README and guide, and what an editor completes, are well typed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from redisq.model.listing import Which
from redisq.model.queue import Changes, Definition
from redisq.operations.listing import LISTS
from tests.system.test_readme import BLOCKS

#: What a user may write. An error that is expected is ignored by its name: `--strict` tells of one that is not there.
USER = """
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from typing_extensions import TypedDict

from redisq import AsyncRedisQ, Batch, Delivery, Handlers, Item, Message, RedisQ, Retry, Worker


class Order(BaseModel):
    sku: str


@dataclass
class Line:
    count: int


class Address(TypedDict):
    street: str


worker = Worker()


@worker.handler("a")
def a(order: Order) -> Line:
    return Line(len(order.sku))


@worker.handler("b", max_attempts=3)
async def b(delivery: Delivery, lines: list[Line] | None) -> Address:
    if delivery.attempt == 1:
        raise Retry(after=1)
    return {"street": str(lines)}


@worker.handler("c")
def c(address: Address) -> None: ...


@worker.lifespan
async def opened() -> AsyncIterator[dict[str, int]]:
    yield {"pool": 1}


@worker.middleware
async def timed(delivery: Delivery, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    return await call_next(delivery)


@worker.middleware
def plain(delivery: Delivery | Batch, call_next: Callable[[Any], Any]) -> Any:
    return call_next(delivery)


more = Handlers()
worker.include(more)


@more.handler("rows", batch=10, linger=0.1)
def rows(deliveries: list[Delivery]) -> list[int | Exception]:
    return [Retry() if delivery.cancelled else delivery.attempt for delivery in deliveries]


@more.handler("batches", batch=10)
async def batches(batch: Batch) -> None:
    print(batch.queue, batch.state, batch[0].id)


def use(mq: RedisQ) -> list[Message]:
    mq.define("a", max_length=5, security="none", lease=None)
    mq.define("a", max_lenght=5)  # type: ignore[call-arg]
    mq.define("a", security="nothing")  # type: ignore[arg-type]
    mq.define("a", paused="yes")  # type: ignore[arg-type]
    page = mq.list_messages("a", "in_progress")
    mq.list_messages("a", "running", cursor=page.next)  # type: ignore[arg-type]
    mq.redrive("a", reason="lost")
    mq.purge_dead("a", reason="gone")  # type: ignore[arg-type]
    mq.queue_message("a", Order(sku="a"), delay=5, idempotency_key="k")
    mq.queue_message("a", 1, prio=5)  # type: ignore[call-arg]
    ids = mq.within(0.5).queue_messages("a", [Item(Line(1), delay=5), {"plain": 1}])
    Item(1, delay="5")  # type: ignore[arg-type]
    RedisQ("redis://localhost", retry_deadline=0.5)
    return [message for message in mq.wait_for("a", ids, 5) if message.finished]


async def use_async(mq: AsyncRedisQ) -> Any:
    async for message in mq.within(1).wait_for("a", ["id"], 5):
        print(message.result)
    await mq.define("a", max_length="5")  # type: ignore[arg-type]
    return await mq.dead_letters("a", reason="expired")


if __name__ == "__main__":
    asyncio.run(use_async(AsyncRedisQ()))
    worker.run()
"""


def test_a_users_project_is_well_typed(tmp_path: Path) -> None:
    names = ["user.py"]
    (tmp_path / "user.py").write_text(USER)
    for text in (text for kind, text in BLOCKS if kind == "python"):
        found = re.match(r"# (\w+\.py)\n", text)
        assert found
        if re.search(r"^(import|from) django", text, re.MULTILINE):  # which has no types
            continue
        names.append(found[1])
        (tmp_path / found[1]).write_text(text)
    assert {"shop.py", "producer.py", "parcels.py"} < {*names}
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", *names]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr


def test_what_an_editor_completes_is_what_there_is() -> None:
    assert get_args(Which) == tuple(LISTS)
    assert get_type_hints(Changes).keys() == Definition.__dataclass_fields__.keys()


@pytest.mark.parametrize("name", [name for name in Definition.__dataclass_fields__ if name != "security"])
def test_a_change_is_of_the_type_that_the_definition_has(name: str) -> None:
    assert get_type_hints(Changes)[name] == get_type_hints(Definition)[name]
