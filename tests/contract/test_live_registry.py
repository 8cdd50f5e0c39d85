"""The gateway's view of the registry: it follows every change, and lets nobody in when it is too old."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from redisq import AsyncRedisQ, RedisQ, embedded, tokens
from redisq.errors import InvalidCredentials, InvalidSettings, InvalidToken, Unavailable
from redisq.gateway.access.registry import LiveRegistry
from redisq.gateway.settings import GatewaySettings
from redisq.operations import applications
from redisq.operations.applications import Issued
from redisq.settings import Settings
from redisq.store.keys import apps_key
from redisq.tokens import lineage
from redisq.tokens.applications import MasterKey
from redisq.tokens.scopes import Scopes
from tests.conftest import Raw, settings_for
from tests.support.servers.proxy import Proxy, script

MASTER = MasterKey.generate().text()
OPTIONS = GatewaySettings(registry_poll=0.02)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gateway:
    """A live registry with all around it, of one test."""

    def __init__(self, settings: Settings, office: RedisQ) -> None:
        self.settings, self.office = settings, office
        self.clock = Clock()
        self.mq = AsyncRedisQ(settings=settings)
        self.live = LiveRegistry(self.mq, OPTIONS, clock=self.clock)

    def create(self, name: str = "shop") -> Issued:
        return self.office._run(applications.create(self.settings, name, Scopes.parse(["get:orders"])))

    def change(self, flow: Any) -> Any:
        return self.office._run(flow)

    def token(self, issued: Issued) -> str:
        audience = self.settings.token_audience
        return tokens.sign(issued.credentials, audience=audience, ops=["get"], queues=["*"], now=time.time())

    def state(self, token: str) -> str:
        """What verifying says."""
        try:
            return self.live.verify(token, time.time()).app
        except InvalidToken as error:
            return error.reason
        except Unavailable:
            return "unavailable"

    async def until(self, token: str, state: str) -> None:
        async with asyncio.timeout(30):
            while self.state(token) != state:
                await asyncio.sleep(0.005)

    def run(self, part: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            try:
                await part()
            finally:
                await self.live.stop()
                await self.mq.close()

        asyncio.run(whole())


@pytest.fixture
def gateway_on() -> Iterator[Callable[[str, str], Gateway]]:
    """Make gateways on a server, whose office reaches it another way."""
    offices: list[RedisQ] = []

    def make(url: str, namespace: str, office_url: str | None = None) -> Gateway:
        settings = settings_for(url, namespace, master_key=MASTER, retry_deadline=0)
        offices.append(RedisQ(settings=settings.model_copy(update={"url": office_url or url})))
        return Gateway(settings, offices[-1])

    yield make
    for office in offices:
        office.close()


@pytest.fixture
def gateway(gateway_on: Callable[..., Gateway], raw: Raw) -> Gateway:
    return gateway_on(raw.settings.url, raw.settings.namespace)


def test_it_follows_what_changes(gateway: Gateway) -> None:
    settings = gateway.settings

    async def part() -> None:
        await gateway.live.start()
        shop = gateway.create()
        token = gateway.token(shop)
        await gateway.until(token, "shop")
        assert gateway.live.authenticate("shop", shop.credentials.secret(), time.time()).name == "shop"
        gateway.change(applications.switch(settings, "shop", disabled=True))
        await gateway.until(token, "revoked")
        gateway.change(applications.switch(settings, "shop", disabled=False))
        await gateway.until(token, "shop")
        gateway.change(applications.revoke(settings, "shop", token))
        await gateway.until(token, "revoked")
        new = gateway.change(applications.rotate(settings, "shop", 0))
        await gateway.until(token, "unknown_key")
        assert gateway.state(gateway.token(new)) == "shop"
        with pytest.raises(InvalidCredentials):
            gateway.live.authenticate("shop", shop.credentials.secret(), time.time())

    gateway.run(part)


def test_what_is_there_at_the_start_counts_at_once(gateway: Gateway) -> None:
    token = gateway.token(gateway.create())

    async def part() -> None:
        assert gateway.state(token) == "unavailable"
        await gateway.live.refresh()
        assert gateway.state(token) == "shop"

    gateway.run(part)


def test_39_one_that_was_not_seen_for_too_long_lets_nobody_in(gateway: Gateway) -> None:
    shop = gateway.create()
    token = gateway.token(shop)

    async def part() -> None:
        await gateway.live.refresh()
        gateway.clock.now += OPTIONS.registry_stale_after
        assert gateway.state(token) == "shop"
        gateway.clock.now += 0.1
        assert gateway.state(token) == gateway.state("rq1.nonsense") == "unavailable"
        with pytest.raises(Unavailable, match="registry of applications cannot be read"):
            gateway.live.authenticate("shop", shop.credentials.secret(), time.time())
        await gateway.live.refresh()
        assert gateway.state(token) == "shop"

    gateway.run(part)


def test_a_redis_that_is_away_and_comes_back(
    gateway_on: Callable[..., Gateway], proxy: Proxy, real_server: embedded.EmbeddedServer, namespace: str
) -> None:
    gateway = gateway_on(proxy.url, namespace, real_server.url)
    token = gateway.token(gateway.create())

    async def part() -> None:
        proxy.reset(script("applications"), times=1_000_000)
        await gateway.live.start()
        assert gateway.state(token) == "unavailable"
        proxy.heal()
        await gateway.until(token, "shop")
        proxy.reset(script("applications"), times=1_000_000)
        with pytest.raises(Unavailable):
            await gateway.live.refresh()
        assert gateway.state(token) == "shop", "what was seen holds for a while"
        gateway.clock.now += OPTIONS.registry_stale_after + 1
        assert gateway.state(token) == "unavailable"
        proxy.heal()
        await gateway.until(token, "shop")

    gateway.run(part)


def test_records_that_do_not_count_are_told_of_once(
    gateway: Gateway, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    shop = gateway.create()
    token = gateway.token(shop)
    apps = apps_key(raw.settings.namespace)
    old = raw.redis.hget(apps, "shop")
    caplog.set_level(logging.WARNING, "redisq.gateway")

    async def part() -> None:
        await gateway.live.refresh()
        gateway.change(applications.revoke_all(gateway.settings, "shop"))
        await gateway.live.refresh()
        assert gateway.state(token) == "revoked"
        raw.redis.hset(apps, mapping={"shop": old, "odd": "rqa1.forged", "#": "another"})
        await gateway.live.refresh()
        await gateway.live.refresh()
        assert gateway.state(token) == "unknown_key"

    gateway.run(part)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "the record of application odd does not verify" in told[0]
    assert "the record of application shop is older than one seen before" in told[1]
    assert "rqa1" not in "".join(told)


CHANGES: dict[str, Callable[[Settings], Any]] = {
    "allow": lambda settings: applications.allow(settings, "shop", Scopes.parse(["get:*"])),
    "rotate": lambda settings: applications.rotate(settings, "shop", 3600),
    "disable": lambda settings: applications.switch(settings, "shop", disabled=True),
    "revoke": lambda settings: applications.revoke(settings, "shop", "another"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_old_record_that_somebody_put_back_is_not_signed_anew(
    gateway: Gateway, raw: Raw, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    """Whoever operates the applications changes what is there, and cannot know; gateways that saw the latest do."""
    shop, settings = gateway.create(), gateway.settings
    token, apps = gateway.token(shop), apps_key(raw.settings.namespace)
    old = raw.redis.hget(apps, "shop")
    told: list[Any] = []

    async def part() -> None:
        await gateway.live.refresh()
        gateway.change(applications.revoke(settings, "shop", token))
        await gateway.live.refresh()
        assert gateway.state(token) == "revoked"
        raw.redis.hset(apps, "shop", old)  # and the generation stays: the gateway does not even read it
        gateway.change(CHANGES[change](settings))
        caplog.set_level(logging.WARNING, "redisq.gateway")
        await gateway.live.refresh()
        assert gateway.state(token) == "unknown_key"
        assert gateway.live.snapshot().strayed == ["shop"]
        new = gateway.change(
            applications.create(settings, "shop", Scopes.parse(["get:*"]), replace=True, tell=told.append)
        )
        await gateway.live.refresh()
        assert (gateway.state(token), gateway.state(gateway.token(new))) == ("unknown_key", "shop")

    gateway.run(part)
    (line,) = (record.getMessage() for record in caplog.records)
    assert "the record of application shop was not made of the one seen before" in line
    assert "create --replace" in line
    assert [one.name for one in told] == ["shop"]


@pytest.mark.parametrize("most", [lineage.MOST, 64])
def test_many_changes_between_two_looks_are_followed_or_told_of_as_what_they_are(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A script revokes tokens one by one; 65 were once too many, and the log then told of an old record put back."""
    monkeypatch.setattr(lineage, "MOST", most)
    token = gateway.token(gateway.create())
    caplog.set_level(logging.WARNING, "redisq.gateway")

    async def part() -> None:
        await gateway.live.refresh()
        for number in range(65):
            gateway.change(applications.revoke(gateway.settings, "shop", f"jti-{number}"))
        await gateway.live.refresh()
        assert gateway.state(token) == ("shop" if most > 64 else "unknown_key")

    gateway.run(part)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (0 if most > 64 else 1)
    for line in told:
        assert "names no record as old as the one seen before" in line
        assert "put back" not in line


@pytest.mark.parametrize("word", ["as it was", "", "-"])
def test_a_revocation_that_somebody_says_is_none_is_seen_all_the_same(gateway: Gateway, raw: Raw, word: str) -> None:
    """Whoever can write to Redis can put back the word by which gateways know that something has changed."""
    token, apps = gateway.token(gateway.create()), apps_key(raw.settings.namespace)
    raw.redis.hset(apps, "#", word)

    async def part() -> None:
        await gateway.live.refresh()
        assert gateway.state(token) == "shop"
        gateway.change(applications.revoke(gateway.settings, "shop", token))
        raw.redis.hset(apps, "#", word)
        gateway.clock.now += OPTIONS.registry_stale_after - 1
        await gateway.live.refresh()
        assert gateway.state(token) == "shop", "it was held back"
        gateway.clock.now += 1
        await gateway.live.refresh()
        assert gateway.state(token) == "revoked"
        seen = gateway.live.snapshot()
        gateway.clock.now += OPTIONS.registry_stale_after
        await gateway.live.refresh()
        assert gateway.live.snapshot() is seen, "nothing has changed"

    gateway.run(part)


def test_who_changes_an_application_is_told_what_was_there(gateway: Gateway) -> None:
    gateway.create()
    told: list[Any] = []
    one = gateway.change(applications.switch(gateway.settings, "shop", disabled=True, tell=told.append))
    two = gateway.change(applications.revoke_all(gateway.settings, "shop", told.append))
    three = gateway.change(applications.rotate(gateway.settings, "shop", 0, told.append)).application
    gateway.change(applications.revoke(gateway.settings, "shop", "jti", told.append))
    gateway.change(applications.allow(gateway.settings, "shop", Scopes.parse(["get:*"]), told.append))
    assert told[1:4] == [one, two, three]
    assert [app.version for app in told] == sorted({app.version for app in told})


def test_it_needs_a_master_key(raw: Raw) -> None:
    with pytest.raises(InvalidSettings, match="REDISQ_MASTER_KEY"):
        LiveRegistry(AsyncRedisQ(settings=raw.settings), OPTIONS)


def test_its_settings_are_bounded() -> None:
    assert (GatewaySettings().registry_poll, GatewaySettings().registry_stale_after) == (2, 30)
    for values in ({"registry_poll": 5.1}, {"registry_poll": 0}, {"registry_stale_after": 1}):
        with pytest.raises(InvalidSettings, match="REDISQ_HTTP_REGISTRY"):
            GatewaySettings(**values)
