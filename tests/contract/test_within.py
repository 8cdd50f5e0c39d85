"""A limit for each call: what a client gives up after, and that others go on waiting."""

from __future__ import annotations

import asyncio
import threading
import uuid
from typing import Any

import pytest

from redisq import AsyncRedisQ, Indeterminate, RedisQ, Settings, Unavailable
from tests.conftest import settings_for
from tests.contract.conftest import QUEUE
from tests.support.servers.proxy import Proxy

PATIENT = 3600


@pytest.fixture
def nobody(tmp_path: Any) -> str:
    """A URL at which there is no server."""
    return f"unix://{tmp_path}/nobody.sock"


def within(mq: Any, seconds: float) -> Any:
    """The view of a client, as the contract suite sees both kinds."""
    view = object.__new__(type(mq))
    vars(view).update(vars(mq), client=mq.client.within(seconds))
    return view


@pytest.mark.parametrize("call", ["queue_message", "queue_messages", "get_message", "stats"])
def test_a_call_gives_up_by_its_views_deadline(make_client: Any, nobody: str, call: str) -> None:
    """The client itself would go on for an hour: this test would not end."""
    mq = make_client(settings_for(nobody, "any", retry_deadline=PATIENT))
    arguments = {
        "queue_message": [1],
        "queue_messages": [[1]],
        "get_message": [str(uuid.uuid4())],
    }
    for hasty in (within(mq, 0), within(mq, 0.1), make_client(mq.settings, retry_deadline=0)):
        with pytest.raises(Unavailable) as caught:
            getattr(hasty, call)(QUEUE, *arguments.get(call, []))
        assert not isinstance(caught.value, Indeterminate)


def test_a_view_shares_connections_and_what_is_known(make_client: Any, raw_real: Any) -> None:
    mq = make_client(raw_real.settings)
    mq.queue_message(QUEUE, 1)
    before = raw_real.redis.info("clients")["connected_clients"]
    for number in range(20):
        within(mq, 0.5).queue_message(QUEUE, number)
    assert raw_real.redis.info("clients")["connected_clients"] <= before
    assert mq.stats(QUEUE).ready == 21


def test_a_hasty_thread_gives_up_while_a_patient_one_waits(raw_real: Any, proxy: Proxy, nobody: str) -> None:
    settings: Settings = raw_real.settings.model_copy(update={"url": proxy.url, "retry_deadline": PATIENT})
    with RedisQ(settings=settings) as mq:
        mq.stats(QUEUE)
        there, proxy.target = proxy.target, nobody
        proxy.hang_up()
        patient = threading.Thread(target=mq.queue_message, args=(QUEUE, "patient"))
        patient.start()
        with pytest.raises(Unavailable):
            mq.within(0.1).queue_message(QUEUE, "hasty")
        assert patient.is_alive()
        proxy.target = there
        patient.join()
        assert mq.stats(QUEUE).ready >= 1


def test_a_hasty_task_gives_up_while_a_patient_one_waits(raw_real: Any, proxy: Proxy, nobody: str) -> None:
    settings: Settings = raw_real.settings.model_copy(update={"url": proxy.url, "retry_deadline": PATIENT})

    async def main() -> None:
        async with AsyncRedisQ(settings=settings) as mq:
            await mq.stats(QUEUE)
            there, proxy.target = proxy.target, nobody
            proxy.hang_up()
            patient = [asyncio.ensure_future(mq.queue_message(QUEUE, "patient")) for _ in range(3)]
            hasty = [asyncio.ensure_future(mq.within(0.1).queue_message(QUEUE, "hasty")) for _ in range(3)]
            for outcome in await asyncio.gather(*hasty, return_exceptions=True):
                assert isinstance(outcome, Unavailable)
            assert not any(task.done() for task in patient)
            proxy.target = there
            await asyncio.gather(*patient)

    asyncio.run(main())
