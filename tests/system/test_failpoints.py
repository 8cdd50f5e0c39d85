"""A worker that dies at a failpoint leaves nothing behind that another cannot finish."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from redisq import RedisQ, Status
from redisq.runtime import failpoints
from tests.system.conftest import Crew

AFTER_A_HANDLER = {"worker.finished", "worker.outcome_sent"}


@pytest.mark.full(keep=2)
@pytest.mark.parametrize("name", failpoints.NAMES)
def test_a_worker_dies_there_and_another_finishes(name: str, make_crew: Callable[..., Crew], producer: RedisQ) -> None:
    crew = make_crew(lease=1)
    ids = producer.queue_messages("tasks", [{"n": n} for n in range(20)])
    victim = crew.start(CREW_ONE_QUEUE="1", REDISQ_FAILPOINTS=f"{name}:kill:1:7")
    assert victim.wait() == -signal.SIGKILL
    assert bool(crew.count("start")) == (name in AFTER_A_HANDLER)
    crew.start(CREW_ONE_QUEUE="1")
    messages = [producer.get_message("tasks", id, wait=30) for id in ids]
    assert {message.status for message in messages} == {Status.COMPLETE}
    assert producer.stats("tasks").completed == 20
