"""The options of queueing: what is refused, and what becomes of the rest. No server."""

from __future__ import annotations

import asyncio
import math
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from redisq import AsyncRedisQ, Credentials, InvalidMessage, MessageConflict, RedisQ, Settings, store
from redisq.operations import queueing
from redisq.operations.caller import Caller
from redisq.operations.options import LONGEST, Options, delay_of, headers_of, id_of, life_of, priority_of
from redisq.store.call import Call, milliseconds
from redisq.store.keys import derived_id, given_id
from redisq.store.messages import NewMessage

NOW = datetime(2026, 12, 24, 17, 0, 0, 250_000, tzinfo=UTC)
BERLIN = timezone(timedelta(hours=1))
ID = "05749898-74a0-47e1-b10d-5acf29d040c4"
NO_SECONDS = [-1, -0.001, float("nan"), float("inf"), True, "5", Decimal(5), LONGEST + 1]


@pytest.mark.parametrize(
    ("at", "delay"),
    [
        (datetime(2026, 12, 24, 18, 0, 1, 250_000, tzinfo=BERLIN), 1.0),
        (NOW, 0.0),
        (NOW - timedelta(days=4000), 0.0),
        (NOW + timedelta(seconds=LONGEST), float(LONGEST)),
    ],
)
def test_a_time_becomes_a_delay_and_a_past_one_is_due_now(at: datetime, delay: float) -> None:
    assert delay_of(0.0, at, NOW.timestamp()) == delay


@pytest.mark.parametrize(
    "at",
    [
        NOW.replace(tzinfo=None),
        NOW.date(),
        "2026-12-24T18:00+01:00",
        NOW.timestamp(),
        0,
        NOW + timedelta(seconds=LONGEST + 0.01),
        datetime.max.replace(tzinfo=UTC),
    ],
    ids=repr,
)
def test_what_is_no_time_is_refused(at: Any) -> None:
    with pytest.raises(InvalidMessage, match="at="):
        delay_of(0.0, at, NOW.timestamp())


class Nowhere(datetime):
    """A kind of time that says it is at none, as pandas' NaT does."""

    def timestamp(self) -> float:
        return math.nan


def test_a_time_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="at="):
        delay_of(0.0, Nowhere(2026, 12, 24, tzinfo=UTC), NOW.timestamp())


@pytest.mark.parametrize("delay", [*NO_SECONDS, None], ids=repr)
def test_what_is_no_delay_is_refused(delay: Any) -> None:
    for at in (None, NOW):
        with pytest.raises(InvalidMessage, match="delay="):
            delay_of(delay, at, 0.0)


def test_a_delay_and_a_time_together_are_refused() -> None:
    with pytest.raises(InvalidMessage, match=r"at= cannot go with delay="):
        delay_of(1, NOW, NOW.timestamp())


@pytest.mark.parametrize("priority", [-1, 10, 1.5, 5.0, "5", b"5", True, None, [5], 2**100], ids=repr)
def test_what_is_no_priority_is_refused(priority: Any) -> None:
    with pytest.raises(InvalidMessage, match="priority= takes a whole number from 0, as is usual, to 9"):
        priority_of(priority)


def test_a_priority() -> None:
    assert [priority_of(priority) for priority in (0, 5, 9)] == [0, 5, 9]


BAD_HEADERS: list[Any] = [
    *(["tenant"], [("tenant", "a")], "tenant=a", 5, {"tenant"}),
    *({name: "a"} for name in ("", "a b", "a_b", "a.b", "tenant\n", "é", "\u212a", b"tenant", 5, None)),
    *({"a": text} for text in (None, 5, b"a", "a\n", "\x00", "\x7f", "\u2028", "\u202e", "\ud800", ["a"])),
    {"Tenant": "a", "tenant": "b"},
    {f"h{number}": "" for number in range(65)},
    {"a": "x" * 8192},
    {"a": "é" * 4096},
]


@pytest.mark.parametrize("headers", BAD_HEADERS, ids=lambda headers: ascii(headers)[:40])
def test_what_are_no_headers_is_refused_and_no_text_is_shown(headers: Any) -> None:
    with pytest.raises(InvalidMessage, match=r"headers= (takes|has)") as caught:
        headers_of(headers)
    assert len(str(caught.value)) < 200


def test_headers_have_lower_names() -> None:
    assert headers_of({"Tenant": "a=b; é", "x-1": ""}) == {"tenant": "a=b; é", "x-1": ""}
    assert [headers_of(none) for none in (None, {})] == [None, {}]
    most = {f"h{number:03}": "x" * 124 for number in range(64)}
    assert headers_of(most) == most


@pytest.mark.parametrize("expires_in", [*NO_SECONDS, 0, 0.0, [5]], ids=repr)
def test_what_is_no_life_is_refused(expires_in: Any) -> None:
    with pytest.raises(InvalidMessage, match="expires_in="):
        life_of(expires_in)


def test_a_life_is_never_so_short_that_it_is_for_ever() -> None:
    assert [life_of(value) for value in (None, 60, 0.5, LONGEST)] == [None, 60, 0.5, LONGEST]
    shortest = life_of(1e-12)
    assert shortest is not None
    assert milliseconds(shortest) == 1


@pytest.mark.parametrize("key", ["", "x" * 513, b"key", 5, ["key"], "\ud800", True], ids=ascii)
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(InvalidMessage, match="idempotency_key="):
        id_of(None, key, "shop", "orders")


def test_a_key_makes_the_id() -> None:
    for key in ("k", "x" * 512, "a\nb", "Zoë"):
        assert id_of(None, key, "shop", "orders") == derived_id("shop", "orders", key)
    assert id_of(ID, None, "shop", "orders") == given_id(ID)
    assert uuid.UUID(bytes=id_of(None, None, "shop", "orders")).version == 4


def test_a_key_and_an_id_together_are_refused() -> None:
    with pytest.raises(InvalidMessage, match="idempotency_key= cannot go with id="):
        id_of(ID, "key", "shop", "orders")


# --- What is sent ---


def sent(monkeypatch: pytest.MonkeyPatch, caller: Caller, **options: Any) -> NewMessage:
    """Give the message that a flow wants to send."""
    made: list[NewMessage] = []
    build = store.messages.put

    def put(where: Any, limits: Any, new: NewMessage, **how: bool) -> Any:
        made.append(new)
        return build(where, limits, new, **how)

    monkeypatch.setattr(store.messages, "put", put)
    flow = queueing.queue_message(caller, "orders", {"sku": "A-1"}, None, options)
    assert isinstance(next(flow), Call)  # the registry
    assert isinstance(flow.send(1), Call)  # the schema
    assert isinstance(flow.send(None), Call)
    with pytest.raises(StopIteration):
        flow.send([True])
    return made[0]


def settings(auth: str) -> Settings:
    """Settings without credentials, whatever the environment holds."""
    return Settings(auth=auth, app_id=None, app_secret=None)


def nobody() -> Caller:
    return Caller(settings("none"))


def test_a_message_carries_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    new = sent(monkeypatch, nobody(), at=soon, expires_in=90, idempotency_key="k")
    assert 0 < new.delay <= 3600
    assert (new.expires_in, new.id) == (90, derived_id("", "orders", "k"))
    plain = sent(monkeypatch, nobody())
    assert (plain.delay, plain.expires_in, plain.id[6] >> 4) == (0.0, None, 4)


def test_each_application_has_its_own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [
        sent(monkeypatch, Caller(settings(auth), Credentials.generate(app)), idempotency_key="k").id
        for app, auth in (("shop", "token"), ("shop", "none"), ("bank", "token"))
    ]
    assert ids == [derived_id(app, "orders", "k") for app in ("shop", "shop", "bank")]


def test_a_conflict_tells_of_the_key() -> None:
    for options, text in (({"idempotency_key": "k"}, "This idempotency_key"), ({"id": ID}, "This id ")):
        flow = queueing.queue_message(nobody(), "orders", 1, None, options)
        next(flow)
        flow.send(1)
        flow.send(None)
        with pytest.raises(MessageConflict, match=text):
            flow.send([MessageConflict()])


@pytest.mark.parametrize("kind", [RedisQ, AsyncRedisQ])
def test_an_option_that_there_is_not_is_named(kind: type) -> None:
    queue = kind(settings=settings("none")).queue_message
    with pytest.raises(TypeError, match="unexpected keyword argument 'prio'"):
        asyncio.run(queue("orders", 1, prio=3)) if kind is AsyncRedisQ else queue("orders", 1, prio=3)


@pytest.mark.parametrize("kind", [RedisQ, AsyncRedisQ])
def test_both_clients_pass_every_option_on(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def queue_message(caller: Caller, queue: str, message: Any, token: str | None, options: Any) -> Any:
        seen.append(options)
        raise InvalidMessage("seen")
        yield

    monkeypatch.setattr(queueing, "queue_message", queue_message)
    options = {"id": ID, "delay": 1.0, "at": NOW, "expires_in": 2.0, "idempotency_key": "k", "priority": 3}
    options["headers"] = {"tenant": "a"}
    assert options.keys() == Options.__annotations__.keys()
    queue = kind(settings=settings("none")).queue_message
    with pytest.raises(InvalidMessage, match="seen"):
        asyncio.run(queue("orders", 1, **options)) if kind is AsyncRedisQ else queue("orders", 1, **options)
    assert seen == [options]
