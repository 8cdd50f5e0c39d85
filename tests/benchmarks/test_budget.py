"""No operation may cost more Redis commands or bytes on the wire than today: counted exactly, on any machine.

When something has become cheaper, or has to cost more: `python -m tests.benchmarks --budget` prints the table anew. Put
it in place of `TODAY`, and say in the commit why it costs more.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from redisq import embedded
from tests.benchmarks import budget
from tests.benchmarks.budget import Cost, Meter
from tests.conftest import REAL

pytestmark = pytest.mark.skipif(REAL is None, reason="fakeredis does not count")

#: Per message: Redis commands, those within scripts included; bytes to the server, and from it.
TODAY = {
    "queue one by one": Cost(8.40, 522.0, 8.5),  # 8, and what one call in 32 looks up to sweep
    "queue in bulk": Cost(1.14, 59.9, 8.0),
    "get one by one": Cost(5.00, 215.0, 63.4),
    "delete one by one": Cost(21.98, 523.0, 12.0),  # with the channel on which a worker is told
    "queue one by one, asyncio": Cost(8.40, 534.0, 8.5),
    "queue, 64 callers at once": Cost(1.47, 74.0, 8.1),
    "claim and complete, 50 at once": Cost(1.70, 79.6, 85.1),
    "idle worker, per minute": Cost(156.00, 9507.0, 615.0),
}
#: How much more passes: the digits of an entry's id depend on the time.
MARGIN = 1.03


def excess(cost: Cost, today: Cost) -> list[str]:
    """Name what of a cost is beyond today's."""
    return [name for name in vars(today) if getattr(cost, name) > MARGIN * getattr(today, name)]


@pytest.fixture(scope="module")
def server() -> Iterator[embedded.EmbeddedServer]:
    """A server that nobody else uses meanwhile."""
    with embedded.start(kind=REAL) as server:
        yield server


@pytest.fixture(scope="module")
def costs(server: embedded.EmbeddedServer) -> dict[str, Cost]:
    """What each operation costs now."""
    return budget.count(server.url)


@pytest.mark.parametrize("operation", TODAY)
def test_it_costs_no_more_than_today(costs: dict[str, Cost], operation: str) -> None:
    assert excess(costs[operation], TODAY[operation]) == [], f"{operation}: {costs[operation]}"


def test_the_table_is_whole(costs: dict[str, Cost]) -> None:
    assert list(costs) == list(TODAY)


def test_the_table_can_be_printed(costs: dict[str, Cost]) -> None:
    found: dict[str, dict[str, Cost]] = {}
    exec(budget.written(costs), {"Cost": Cost}, found)  # noqa: S102 - it is source
    printed = found["TODAY"]
    assert list(printed) == list(costs)
    assert all(excess(cost, printed[operation]) == [] for operation, cost in costs.items())


def test_more_is_noticed() -> None:
    today = Cost(10, 100, 1000)
    assert excess(today, today) == []
    assert excess(Cost(10.2, 102, 1020), today) == []
    assert excess(Cost(11, 100, 1000), today) == ["commands"]
    assert excess(Cost(5, 104, 1031), today) == ["to_server", "from_server"]


def test_it_counts_what_was_sent_and_nothing_else(server: embedded.EmbeddedServer) -> None:
    meter, costs = Meter(server.url), dict[str, Cost]()
    meter.look()
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.ping()
        with meter.counting(costs, "nothing", 1):
            pass
        with meter.counting(costs, "ping", 2):
            client.ping()
            client.ping()
        with meter.counting(costs, "a script's own", 1):
            client.eval("redis.call('PING') return redis.call('PING')", 0)
    meter.close()
    assert costs["nothing"] == Cost(0, 0, 0)
    assert costs["ping"] == Cost(1, len(b"*1\r\n$4\r\nPING\r\n"), len(b"+PONG\r\n"))
    assert costs["a script's own"].commands == 3
