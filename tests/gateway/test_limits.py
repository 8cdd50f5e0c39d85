"""What one application, one address and one token may have of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import redis

from redisq import embedded
from redisq.gateway.access.limits import Failures, Limits
from redisq.gateway.requests.errors import TooManyRequests
from redisq.gateway.settings import GatewaySettings
from tests.conftest import settings_for


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


NOWHERE = settings_for("redis://127.0.0.1:1/0", "ns")


def refused(action: Callable[[], object]) -> float:
    """Check that it is refused, and give for how long."""
    with pytest.raises(TooManyRequests) as caught:
        action()
    assert (caught.value.status, caught.value.code) == (429, "too_many_requests")
    return caught.value.retry_after


async def admitted(limits: Limits, application: str, count: int) -> int:
    """Let `count` requests come at once, and give how many were let in."""
    outcomes = await asyncio.gather(*(limits.admit(application) for _ in range(count)), return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, TooManyRequests) for outcome in outcomes)
    return outcomes.count(None)


# --- Rates ---


def test_gateways_share_the_rate_of_an_application(server: embedded.EmbeddedServer, namespace: str) -> None:
    options = GatewaySettings(rate=0.01, burst=50)

    async def main() -> None:
        gateways = [Limits(options, settings_for(server.url, namespace)) for _ in range(3)]
        counts = await asyncio.gather(*(admitted(gateway, "shop", 40) for gateway in gateways))
        assert sum(counts) == 50
        with pytest.raises(TooManyRequests) as caught:
            await gateways[0].admit("shop")
        assert 0 < caught.value.retry_after <= 100
        assert await admitted(gateways[0], "mail", 40) == 40
        for gateway in gateways:
            await gateway.close()

    asyncio.run(main())


def test_a_gateway_takes_a_share_of_tokens_at_once(real_server: embedded.EmbeddedServer, namespace: str) -> None:
    """Of 1,000 a second a hundred; so 350 requests cost four calls."""

    async def main() -> None:
        limits = Limits(GatewaySettings(rate=1000), settings_for(real_server.url, namespace))
        await limits.admit("shop")  # what the server is has been asked now
        before = calls()
        for _ in range(350):
            await limits.admit("shop")
        assert calls() - before == 3
        await limits.close()

    with redis.Redis.from_url(real_server.url) as raw:

        def calls() -> int:
            return int(raw.info("commandstats")["cmdstat_evalsha"]["calls"])

        asyncio.run(main())


def test_an_application_that_was_refused_does_not_ask_redis_until_there_is_a_token(
    server: embedded.EmbeddedServer, namespace: str, clock: Clock
) -> None:
    async def main() -> None:
        limits = Limits(GatewaySettings(rate=0.01, burst=1), settings_for(server.url, namespace), clock)
        await limits.admit("shop")
        waits = []
        for _ in range(3):
            with pytest.raises(TooManyRequests) as caught:
                await limits.admit("shop")
            waits.append(caught.value.retry_after)
            clock.now += 10
        assert waits[1] == pytest.approx(waits[0] - 10)
        assert waits[2] == pytest.approx(waits[0] - 20)
        await limits.close()

    asyncio.run(main())


def test_requests_pass_when_redis_does_not_tell(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        limits = Limits(GatewaySettings(rate=0.01, burst=1), NOWHERE, clock)
        assert await admitted(limits, "shop", 100) == 100

    asyncio.run(main())
    assert [record.getMessage()[:22] for record in caplog.records] == ["requests pass uncounte"]


def test_no_rate_asks_nobody() -> None:
    async def main() -> None:
        assert await admitted(Limits(GatewaySettings(), NOWHERE), "shop", 1000) == 1000

    asyncio.run(main())


# --- Bad tokens ---


def test_an_address_that_fails_too_often_is_refused_until_its_window_has_passed(clock: Clock) -> None:
    limits = Limits(GatewaySettings(failures=3, failures_window=60), NOWHERE, clock)
    for _ in range(3):
        limits.check_address("192.0.2.1")
        limits.failed("192.0.2.1")
        clock.now += 1
    assert refused(lambda: limits.check_address("192.0.2.1")) == 57
    limits.check_address("192.0.2.2")
    clock.now += 57
    limits.check_address("192.0.2.1")
    limits.failed("192.0.2.1")
    limits.check_address("192.0.2.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_a_customer_s_network_counts_as_one_address(clock: Clock, one: str, other: str, same: bool) -> None:
    limits = Limits(GatewaySettings(failures=1), NOWHERE, clock)
    limits.failed(one)
    if same:
        refused(lambda: limits.check_address(other))
    else:
        limits.check_address(other)


def test_only_so_many_addresses_are_remembered_the_last_ones(clock: Clock) -> None:
    failures = Failures(1, 60, clock, addresses=100)
    for number in range(1000):
        failures.note(f"address {number}")
        clock.now += 0.01
    assert len(failures._seen) == 100
    refused(lambda: failures.check("address 999"))
    failures.check("address 0")


def test_what_has_passed_is_forgotten(clock: Clock) -> None:
    failures = Failures(1, 60, clock)
    for number in range(100):
        failures.note(f"address {number}")
    clock.now += 60
    failures.note("another")
    assert list(failures._seen) == ["another"]


# --- Long waits ---


def test_a_token_and_an_address_have_so_many_waits_under_way(clock: Clock) -> None:
    limits = Limits(GatewaySettings(waits_per_token=2, waits_per_address=3), NOWHERE, clock)
    with limits.waiting("a", "192.0.2.1"), limits.waiting("a", "192.0.2.2"):
        assert refused(limits.waiting("a", "192.0.2.3").__enter__) > 0
        with limits.waiting("b", "192.0.2.1"), limits.waiting("b", "192.0.2.1"):
            refused(limits.waiting("c", "192.0.2.1").__enter__)
        with limits.waiting("c", "192.0.2.1"):
            pass
    assert not limits._waiting


def test_those_without_a_token_share_no_limit_of_one(clock: Clock) -> None:
    limits = Limits(GatewaySettings(waits_per_token=1, waits_per_address=2), NOWHERE, clock)
    with limits.waiting("", "192.0.2.1"), limits.waiting("", "192.0.2.1"), limits.waiting("", "192.0.2.2"):
        refused(limits.waiting("", "192.0.2.1").__enter__)
    assert not limits._waiting
