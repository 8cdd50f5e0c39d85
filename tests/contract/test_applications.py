"""The registry of applications: both clients, each server; and what a full or a meddled one does to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from redisq import tokens
from redisq.errors import (
    ApplicationConflict,
    ApplicationNotFound,
    InvalidApplication,
    InvalidSettings,
    InvalidToken,
    TokenExpired,
    Unavailable,
)
from redisq.operations import applications
from redisq.operations.applications import Issued
from redisq.settings import Settings
from redisq.store.keys import apps_key
from redisq.tokens.applications import MasterKey, Registry
from redisq.tokens.scopes import Scopes
from tests.conftest import Raw, settings_for

MASTER, NEXT = MasterKey.generate().text(), MasterKey.generate().text()
ALLOWANCE = Scopes.parse(["queue,get:orders"])


@pytest.fixture
def settings(raw: Raw) -> Settings:
    return settings_for(raw.settings.url, raw.settings.namespace, master_key=MASTER)


@pytest.fixture
def mq(make_client: Any, settings: Settings) -> Any:
    return make_client(settings)


@pytest.fixture
def shop(mq: Any, settings: Settings) -> Issued:
    return mq._run(applications.create(settings, "shop", ALLOWANCE))


def read(mq: Any, settings: Settings) -> Registry:
    return mq._run(applications.read(settings))


def token_of(issued: Issued, settings: Settings, **how: Any) -> str:
    how = {"ops": tokens.OPS, "queues": ["*"], "now": time.time(), **how}
    return tokens.sign(issued.credentials, audience=settings.token_audience, **how)


def refusal(registry: Registry, settings: Settings, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        registry.verify(token, time.time(), settings.token_audience)
    return caught.value.reason


def test_a_new_application_is_known(mq: Any, settings: Settings, shop: Issued) -> None:
    registry = read(mq, settings)
    assert registry.applications == {"shop": shop.application}
    grant = registry.verify(token_of(shop, settings), time.time(), settings.token_audience)
    assert (grant.app, grant.effective()) == ("shop", ALLOWANCE)
    assert registry.authenticate("shop", shop.credentials.secret(), time.time()) == shop.application
    assert shop.credentials.secret() not in repr(shop)


def test_redis_holds_no_secret(mq: Any, settings: Settings, shop: Issued, raw: Raw) -> None:
    stored = repr(raw.digest())
    for text in (shop.credentials.secret(), MASTER):
        assert text.split(".")[2] not in stored
    assert repr(shop.credentials.key) not in stored


def test_a_name_is_taken_once(mq: Any, settings: Settings, shop: Issued, raw: Raw) -> None:
    before = raw.digest()
    with pytest.raises(InvalidApplication, match="redisq app rotate shop"):
        mq._run(applications.create(settings, "shop", ALLOWANCE))
    with pytest.raises(InvalidApplication, match="name"):
        mq._run(applications.create(settings, "#", ALLOWANCE))
    assert raw.digest() == before


def test_an_unknown_one(mq: Any, settings: Settings, raw: Raw) -> None:
    before = raw.digest()
    for flow in (
        applications.show(settings, "shop"),
        applications.rotate(settings, "shop", 60),
        applications.switch(settings, "shop", disabled=True),
        applications.revoke(settings, "shop", "jti"),
        applications.revoke_all(settings, "shop"),
        applications.allow(settings, "shop", ALLOWANCE),
    ):
        with pytest.raises(ApplicationNotFound, match="no application 'shop'"):
            mq._run(flow)
    assert raw.digest() == before


def test_rotating(mq: Any, settings: Settings, shop: Issued) -> None:
    old = token_of(shop, settings)
    new = mq._run(applications.rotate(settings, "shop", 3600))
    registry = read(mq, settings)
    for token in (old, token_of(new, settings)):
        assert registry.verify(token, time.time(), settings.token_audience).app == "shop"
    with pytest.raises(InvalidApplication, match="--overlap 0"):
        mq._run(applications.rotate(settings, "shop", 3600))
    only = mq._run(applications.rotate(settings, "shop", 0))
    registry = read(mq, settings)
    assert refusal(registry, settings, old) == "unknown_key"
    assert registry.verify(token_of(only, settings), time.time(), settings.token_audience).app == "shop"
    for overlap in (-1, float("nan"), 366 * 86_400):
        with pytest.raises(InvalidApplication, match="overlap"):
            mq._run(applications.rotate(settings, "shop", overlap))


def test_disabling_and_enabling(mq: Any, settings: Settings, shop: Issued) -> None:
    token = token_of(shop, settings)
    assert mq._run(applications.switch(settings, "shop", disabled=True)).disabled
    assert refusal(read(mq, settings), settings, token) == "revoked"
    mq._run(applications.switch(settings, "shop", disabled=False))
    assert read(mq, settings).verify(token, time.time(), settings.token_audience).app == "shop"


def test_revoking_one_token(mq: Any, settings: Settings, shop: Issued) -> None:
    one, by_id, other = (token_of(shop, settings, jti=name) for name in ("one", "by-id", "other"))
    narrowed = tokens.narrow(one, ops=["get"], expires_at=time.time() + 5)
    changed = mq._run(applications.revoke(settings, "shop", narrowed))
    assert changed.denied["one"] == tokens.inspect(one)["payload"]["exp"], "until its parent has expired"
    mq._run(applications.revoke(settings, "shop", "by-id"))
    registry = read(mq, settings)
    assert [refusal(registry, settings, token) for token in (one, narrowed, by_id)] == ["revoked"] * 3
    assert registry.verify(other, time.time(), settings.token_audience).jti == "other"
    mq._run(applications.revoke(settings, "shop", one))  # again


def test_what_cannot_be_revoked(mq: Any, settings: Settings, shop: Issued, raw: Raw) -> None:
    billing = mq._run(applications.create(settings, "billing", ALLOWANCE))
    token = token_of(shop, settings)
    before = raw.digest()
    for given, error in (
        (token[:-1], InvalidToken),
        (token_of(billing, settings), InvalidApplication),
        (token_of(shop, settings, now=time.time() - 3600), TokenExpired),
        ("no id", InvalidApplication),
        ("rq1..", InvalidToken),
    ):
        with pytest.raises(error) as caught:
            mq._run(applications.revoke(settings, "shop", given))
        assert given.split(".")[-1][:20] not in str(caught.value) or len(given) < 20
    assert raw.digest() == before


def test_revoking_all_and_another_allowance(mq: Any, settings: Settings, shop: Issued) -> None:
    token = token_of(shop, settings)
    mq._run(applications.revoke_all(settings, "shop"))
    assert refusal(read(mq, settings), settings, token) == "revoked"
    mq._run(applications.allow(settings, "shop", Scopes.parse(["stats:*"])))
    assert read(mq, settings).applications["shop"].allowance.texts() == ["stats:*"]


def test_a_rotation_of_the_master_key(mq: Any, settings: Settings, shop: Issued) -> None:
    token = token_of(shop, settings)
    both = settings.model_copy(update={"master_key": type(settings.master_key)(f"{NEXT},{MASTER}")})
    alone = settings.model_copy(update={"master_key": type(settings.master_key)(NEXT)})
    assert read(mq, both).verify(token, time.time(), both.token_audience).app == "shop"
    assert read(mq, alone).unverified == ["shop"]
    with pytest.raises(ApplicationNotFound, match="does not verify"):
        mq._run(applications.switch(alone, "shop", disabled=True))
    new = mq._run(applications.rotate(both, "shop", 3600))
    registry = read(mq, alone)
    assert registry.verify(token_of(new, both), time.time(), both.token_audience).app == "shop"
    assert refusal(registry, both, token) == "unknown_key", "the old master key made its key"


def test_a_record_that_does_not_verify_is_written_over_only_on_purpose(
    mq: Any, settings: Settings, shop: Issued, raw: Raw
) -> None:
    apps = apps_key(settings.namespace)
    raw.redis.hset(apps, "shop", "rqa1.forged")
    with pytest.raises(ApplicationNotFound, match="does not verify"):
        mq._run(applications.create(settings, "shop", ALLOWANCE))
    assert raw.redis.hget(apps, "shop") == b"rqa1.forged"
    again = mq._run(applications.create(settings, "shop", ALLOWANCE, replace=True))
    assert read(mq, settings).applications == {"shop": again.application}


def test_somebody_else_writes_in_between(mq: Any, settings: Settings, shop: Issued, raw: Raw) -> None:
    """The change is made anew from what is there then; nothing of the other one's is lost."""
    other = iter([applications.revoke(settings, "shop", "theirs")])

    def meddling(flow: Any) -> Iterator[Any]:
        value = None
        while True:
            try:
                step = flow.send(value)
            except StopIteration as done:
                return done.value
            if step.script.name == "application":
                for theirs in other:
                    yield from theirs
            value = yield step

    mq._run(meddling(applications.revoke(settings, "shop", "ours")))
    assert set(read(mq, settings).applications["shop"].denied) == {"ours", "theirs"}


def test_somebody_always_writes_in_between(mq: Any, settings: Settings, shop: Issued) -> None:
    def meddling(flow: Any) -> Iterator[Any]:
        value = None
        while True:
            step = flow.send(value)
            if step.script.name == "application":
                yield from applications.revoke_all(settings, "shop")
                yield from applications.switch(settings, "shop", disabled=True)
            value = yield step

    with pytest.raises(ApplicationConflict):
        mq._run(meddling(applications.rotate(settings, "shop", 60)))
    assert len(read(mq, settings).applications["shop"].keys) == 1


@pytest.mark.parametrize("flow", ["create", "rotate"])
def test_a_lost_answer_makes_no_second_key(mq: Any, settings: Settings, shop: Issued, flow: str) -> None:
    """The record was written, the answer got lost, and somebody changed it before the repeat arrived."""

    def repeated(flow: Any) -> Iterator[Any]:
        value, lost = None, False
        while True:
            try:
                step = flow.send(value)
            except StopIteration as done:
                return done.value
            if step.script.name == "application" and not lost:
                lost = True
                yield step
                yield from applications.revoke(settings, step.args[0], "jti")
            value = yield step

    made = {
        "create": lambda: applications.create(settings, "billing", ALLOWANCE),
        "rotate": lambda: applications.rotate(settings, "shop", 60),
    }[flow]()
    issued = mq._run(repeated(made))
    registry = read(mq, settings)
    assert registry.verify(token_of(issued, settings), time.time(), settings.token_audience)
    assert len(registry.applications[issued.application.name].keys) == (1 if flow == "create" else 2)


def test_without_a_master_key_nothing_is_asked(make_client: Any, raw: Raw) -> None:
    mq = make_client(raw.settings)
    before = raw.digest()
    for flow in (applications.read(raw.settings), applications.create(raw.settings, "shop", ALLOWANCE)):
        with pytest.raises(InvalidSettings, match="REDISQ_MASTER_KEY is not set"):
            mq._run(flow)
    assert raw.digest() == before


def test_a_full_server_refuses_a_new_one_and_lets_revoke(make_client: Any, start_another: Any, namespace: str) -> None:
    server = start_another()
    settings = settings_for(server.url, namespace, master_key=MASTER)
    mq = make_client(settings)
    shop = mq._run(applications.create(settings, "shop", ALLOWANCE))
    import redis

    with redis.Redis.from_url(server.url) as below:
        below.config_set("maxmemory", 1)
        with pytest.raises(Unavailable, match="out of memory"):
            mq._run(applications.create(settings, "billing", ALLOWANCE))
        mq._run(applications.revoke_all(settings, "shop"))
        mq._run(applications.switch(settings, "shop", disabled=True))
    found = read(mq, settings)
    assert list(found.applications) == ["shop"]
    assert refusal(found, settings, token_of(shop, settings)) == "revoked"
