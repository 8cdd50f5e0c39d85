"""Whatever is wrong gets a typed error and changes nothing; what the client can tell by itself never leaves it."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest

from redisq import (
    BatchError,
    Credentials,
    Forbidden,
    InvalidArgument,
    InvalidDefinition,
    InvalidMessage,
    InvalidQueueName,
    InvalidToken,
    MessageNotFound,
    MessageTooLarge,
    MissingCredentials,
    RedisQError,
    Settings,
    TokenExpired,
    Unavailable,
    tokens,
)
from redisq.operations import caller
from redisq.store import keys, scripts
from tests.support.servers.proxy import Proxy, Trap, script

QUEUE = "orders"
ID = "05749898-74a0-47e1-b10d-5acf29d040c4"
APP = Credentials.generate("shop")

#: operation -> how to call it with a queue and a token, and the op that the token needs
OPERATIONS: dict[str, tuple[Callable[[Any, Any, Any], Any], str]] = {
    "queue_message": (lambda mq, queue, token: mq.queue_message(queue, 1, token), "queue"),
    "queue_messages": (lambda mq, queue, token: mq.queue_messages(queue, [1, 2], token), "queue"),
    "get_message": (lambda mq, queue, token: mq.get_message(queue, ID, token), "get"),
    "delete_message": (lambda mq, queue, token: mq.delete_message(queue, ID, token), "delete"),
    "stats": (lambda mq, queue, token: mq.stats(queue, token), "stats"),
    "define": (lambda mq, queue, token: mq.define(queue, token, max_length=1), "admin"),
    "sweep": (lambda mq, queue, token: mq.sweep(queue, token), "admin"),
    "dead_letters": (lambda mq, queue, token: mq.dead_letters(queue, token), "admin"),
    "redrive": (lambda mq, queue, token: mq.redrive(queue, None, token), "admin"),
    "purge_dead": (lambda mq, queue, token: mq.purge_dead(queue, None, token), "admin"),
}
operation = pytest.mark.parametrize("operation", OPERATIONS)


@pytest.fixture(autouse=True)
def _no_credentials_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDISQ_APP_ID", "REDISQ_APP_SECRET", "REDISQ_AUTH", "REDISQ_AUDIENCE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def caught(make_client: Any, trap: Trap) -> Any:
    """A client of an application whose server is a trap: whatever it sends fails the test."""
    return make_client(Settings(url=trap.url, retry_deadline=0, app_id=APP.app, app_secret=APP.secret()))


def token_for(ops: Any = tokens.OPS, queues: Any = ("*",), **changes: Any) -> str:
    """Sign a token of the application APP; `changes` go to `sign`."""
    values = {"credentials": APP, "audience": "redisq:redisq", "now": time.time(), **changes}
    return tokens.sign(values.pop("credentials"), ops=ops, queues=queues, **values)


# --- Names, ids, bodies, delays ---------------------------------------------------------------------------------------

NOT_NAMES = [
    "",
    "x" * 129,
    "a b",
    "{x}",
    "../x",
    "_x",
    ".x",
    "-x",
    "a\n",
    "a\0",
    "a:b",
    "a*",
    "ü",
    "x\u0661",
    None,
    5,
    b"orders",
    ["orders"],
]


@operation
@pytest.mark.parametrize("auth", ["token", "none"])
def test_what_is_no_queue_name_is_refused(make_client: Any, trap: Trap, auth: str, operation: str) -> None:
    mq = make_client(Settings(url=trap.url, auth=auth, app_id=APP.app, app_secret=APP.secret()))
    for name in NOT_NAMES:
        with pytest.raises(InvalidQueueName, match="is no queue name"):
            OPERATIONS[operation][0](mq, name, None)


def test_the_longest_and_the_oddest_names_work(mq: Any) -> None:
    names = ["x" * 128, "0", "A.b_c-9", "queues"]
    for name in names:
        id = mq.queue_message(name, name)
        assert mq.get_message(name, id).request == name
        mq.delete_message(name, id)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def cycle() -> Any:
    value: list[Any] = []
    value.append({"self": value})
    return value


class Text(str):
    pass


class Unwritable(pydantic.BaseModel):
    value: int = 1

    @pydantic.field_serializer("value")
    def no(self, value: int) -> int:
        raise RuntimeError("Jane Roe")


@dataclass
class Holder:
    value: Any

    @classmethod
    def of_itself(cls) -> Holder:
        holder = cls(None)
        holder.value = [holder]
        return holder


BODIES: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (lambda: {"a": float("nan")}, "$.a"),
    "Infinity": (lambda: [float("inf")], "$[0]"),
    "-Infinity": (lambda: [1, [float("-inf")]], "$[1][0]"),
    "2**63": (lambda: {"a": 2**63}, "$.a"),
    "2**64": (lambda: {"a": 2**64}, "$.a"),
    "-2**63-1": (lambda: [-(2**63) - 1], "$[0]"),
    "set": (lambda: {"items": {1, 2}}, "$.items"),
    "object": (lambda: [object()], "$[0]"),
    "complex": (lambda: [1j], "$[0]"),
    "Decimal that is NaN": (lambda: {"price": Decimal("NaN")}, "$.price"),
    "model that makes no JSON": (lambda: {"items": [1, Unwritable()]}, "$.items[1]"),
    "dataclass of an object": (lambda: [Holder(object())], "$[0]"),
    "dataclass of NaN": (lambda: [Holder(math.nan)], "$[0].value"),
    "dataclass that holds itself": (lambda: [Holder.of_itself()], "$[0]"),
    "class of a model": (lambda: [Unwritable], "$[0]"),
    "UUID key": (lambda: {"map": {uuid.UUID(ID): 2}}, "$.map"),
    "subclass": (lambda: [Text("x")], "$[0]"),
    "naive datetime": (lambda: {"at": datetime(2024, 1, 1)}, "$.at"),
    "lone surrogate": (lambda: {"text": "a\ud800"}, "$.text"),
    "lone surrogate in a key": (lambda: {"\udfff": 1}, '$["\\udfff"]'),
    "int key": (lambda: {"map": {1: 2}}, "$.map"),
    "None key": (lambda: {None: 2}, "$"),
    "depth 33": (lambda: deep(33), "$" + "[0]" * 32),
}


@pytest.mark.parametrize("body", BODIES)
def test_what_cannot_be_sent_is_refused_and_its_place_named(caught: Any, body: str) -> None:
    make, path = BODIES[body]
    with pytest.raises(InvalidMessage) as refused:
        caught.queue_message(QUEUE, make())
    assert refused.value.path == path
    assert path in str(refused.value)
    assert "Jane Roe" not in str(refused.value)


def test_a_cycle_and_too_many_items_are_refused(caught: Any) -> None:
    with pytest.raises(InvalidMessage, match="cycle"):
        caught.queue_message(QUEUE, cycle())
    with pytest.raises(InvalidMessage, match="split it"):
        caught.queue_message(QUEUE, [None] * 100_001)


def test_more_than_any_queue_takes_is_not_even_sent(caught: Any) -> None:
    with pytest.raises(MessageTooLarge):
        caught.queue_message(QUEUE, bytes(64 * 1024 * 1024 + 1))


def test_a_queue_is_not_created_by_a_message_beyond_its_limit(mq: Any, raw: Any) -> None:
    with pytest.raises(MessageTooLarge, match="1,048,576"):
        mq.queue_message(QUEUE, b"\0" * (1024 * 1024 + 1))
    with pytest.raises(BatchError):
        mq.queue_messages(QUEUE, [b"\0" * (1024 * 1024 + 1)])
    assert raw.digest() == {}


def test_a_message_beyond_the_queues_limit_changes_nothing(mq: Any, raw: Any) -> None:
    mq.queue_message(QUEUE, b"\0" * (1024 * 1024 - 100))
    before = raw.digest()
    with pytest.raises(MessageTooLarge, match="1,048,576"):
        mq.queue_message(QUEUE, b"\0" * (1024 * 1024 + 1))
    assert raw.digest() == before


@pytest.mark.parametrize(
    "id", ["", "nonsense", ID.upper(), f"{{{ID}}}", ID.replace("-", ""), ID + "\n", 5, b"x" * 16, True], ids=repr
)
def test_what_is_no_id_is_refused_for_a_new_message(caught: Any, id: Any) -> None:
    with pytest.raises(InvalidMessage, match="id="):
        caught.queue_message(QUEUE, 1, id=id)
    with pytest.raises(InvalidMessage, match="id="):
        caught.queue_messages(QUEUE, [1], ids=[id])


@pytest.mark.parametrize(
    "id", ["", "nonsense", ID.upper(), f"{{{ID}}}", ID.replace("-", ""), ID + "\n", None, 5, b"x" * 16, "*"], ids=repr
)
def test_what_is_no_id_is_not_even_looked_for(caught: Any, id: Any) -> None:
    for operate in (caught.get_message, caught.delete_message):
        with pytest.raises(MessageNotFound):
            operate(QUEUE, id)


@pytest.mark.parametrize(
    "delay", [-1, -0.001, float("nan"), float("inf"), True, "5", None, 31_536_001, Decimal(5)], ids=repr
)
def test_what_is_no_delay_is_refused(caught: Any, delay: Any) -> None:
    with pytest.raises(InvalidMessage, match="delay="):
        caught.queue_message(QUEUE, 1, delay=delay)


def test_an_error_never_shows_the_message(caught: Any) -> None:
    with pytest.raises(InvalidMessage) as refused:
        caught.queue_message(QUEUE, {"card": {"4111-1111-1111-1111"}, "name": "Jane Roe"})
    assert "4111" not in repr(refused.value)
    assert "Jane" not in repr(refused.value)


# --- Lists, times, counts ---------------------------------------------------------------------------------------------


async def not_awaited() -> Any:
    yield 1


#: what is no list of ids or messages, though some of it can be iterated over
NO_LISTS = [ID, ID.encode(), bytearray(b"x"), {"id": ID}, {}, uuid.UUID(ID), None, 5, not_awaited(), Settings()]
#: what is no number of seconds from 0 to a year, nor a whole number
NO_NUMBERS = ["5", True, timedelta(seconds=5), Decimal(5), 10**400, -1, -math.inf, math.nan, math.inf, [5], b"5"]


@pytest.mark.parametrize("name", ["get_messages", "delete_messages", "redrive", "purge_dead"])
def test_one_id_by_itself_is_no_list(caught: Any, name: str) -> None:
    for ids in NO_LISTS:
        if ids is not None or name in ("get_messages", "delete_messages"):
            with pytest.raises(InvalidArgument, match="ids= takes a list of ids"):
                getattr(caught, name)(QUEUE, ids)


class Odd:
    def __str__(self) -> str:
        raise ZeroDivisionError


class OddText(str):
    __slots__ = ()
    __str__ = Odd.__str__


class OddId(uuid.UUID):
    __str__ = Odd.__str__


@pytest.mark.parametrize("name", ["get_messages", "delete_messages", "redrive", "purge_dead"])
@pytest.mark.parametrize("bad", [Odd(), 1, None, [ID], ID.encode()], ids=lambda bad: type(bad).__name__)
def test_what_is_no_id_is_refused_before_anything_is_sent(caught: Any, name: str, bad: object) -> None:
    for ids in ([bad], [*[ID] * 2_000, bad], iter([bad])):
        with pytest.raises(InvalidArgument, match=f"ids= takes ids.* of type {type(bad).__name__}"):
            getattr(caught, name)(QUEUE, ids)


@pytest.mark.parametrize("name", ["redrive", "purge_dead"])
def test_nothing_of_the_callers_runs_when_a_batch_has_been_sent(mq: Any, name: str) -> None:
    """An error that it raised would hide what was changed, and what was not."""
    other = str(uuid.uuid4())
    with pytest.raises(BatchError) as caught:
        getattr(mq, name)(QUEUE, [OddText(ID), OddId(other)])
    assert (caught.value.ids, list(caught.value.errors)) == ([ID, other], [0, 1])
    assert mq.get_messages(QUEUE, [OddText(ID), OddId(other)]) == [None, None]
    assert mq.delete_messages(QUEUE, [OddText(ID), OddId(other)]) == [False, False]


def test_one_message_or_id_by_itself_is_no_list(caught: Any) -> None:
    for value in NO_LISTS:
        with pytest.raises(InvalidMessage, match="messages= takes a list of messages"):
            caught.queue_messages(QUEUE, value)
        if value is not None:
            with pytest.raises(InvalidMessage, match="ids= takes a list of ids"):
                caught.queue_messages(QUEUE, [1], ids=value)
    with pytest.raises(InvalidMessage, match="a set has none"):
        caught.queue_messages(QUEUE, [1], ids={ID})


def test_any_iterable_is_a_list(mq: Any) -> None:
    ids = mq.queue_messages(QUEUE, (n for n in range(3)), ids=(str(uuid.uuid4()) for _ in range(3)))
    again = dict.fromkeys(ids)
    for some in (ids, tuple(ids), iter(ids), again, set(ids)):
        some = some.keys() if isinstance(some, dict) else some
        assert {message.id for message in mq.get_messages(QUEUE, some)} == set(ids)
    assert mq.delete_messages(QUEUE, set(ids)) == [True] * 3
    assert mq.redrive(QUEUE, []) == mq.purge_dead(QUEUE, ()) == 0


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_time_or_count_is_refused(caught: Any, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"wait= takes seconds, from 0 to a year"):
        caught.get_message(QUEUE, ID, wait=value)
    for name in ("min_age", "max_age"):
        for operate in (caught.dead_letters, caught.redrive, caught.purge_dead):
            with pytest.raises(InvalidArgument, match=f"{name}= takes seconds"):
                operate(QUEUE, **{name: value})
    with pytest.raises(InvalidArgument, match="limit= takes 1 to 10,000"):
        caught.dead_letters(QUEUE, limit=value)
    with pytest.raises(InvalidArgument, match="limit= takes 1 to 500"):
        caught.list_messages(QUEUE, "ready", limit=value)
    for name in ("delay", "expires_in", "priority", "at"):
        with pytest.raises(InvalidMessage, match=f"{name}= takes"):
            caught.queue_message(QUEUE, 1, **{name: value})


def test_other_arguments_of_a_wrong_type_are_refused(caught: Any) -> None:
    for value in (5, [], {}, b"failed", "nope"):
        with pytest.raises(InvalidArgument, match="reason= takes one of"):
            caught.dead_letters(QUEUE, reason=value)
        with pytest.raises(InvalidArgument, match="which= takes one of"):
            caught.list_messages(QUEUE, value)
        for operate in (lambda fix: caught.doctor(QUEUE, fix=fix), lambda fix: caught.doctor_server(fix=fix)):
            with pytest.raises(InvalidArgument, match="fix= takes True or False"):
                operate(value)
        with pytest.raises(InvalidDefinition):
            caught.define(QUEUE, lease=[value])


# --- Tokens -----------------------------------------------------------------------------------------------------------

STRANGER = Credentials.generate("shop")
GARBAGE = [
    "",
    "x",
    "rq1",
    "rq1...",
    "rq2.a.b.c",
    "rq1.a.b.c",
    "Bearer x",
    "ü",
    "rq1." + "A" * 3000,
    " " * 10,
    b"x",
    5,
    {},
]


def changed(token: str) -> str:
    """Give the token with another letter in the middle of its payload."""
    version, kid, payload, tag = token.split(".")
    middle = len(payload) // 2
    letter = "A" if payload[middle] != "A" else "B"
    return ".".join([version, kid, payload[:middle] + letter + payload[middle + 1 :], tag])


@operation
def test_garbage_instead_of_a_token_is_refused(caught: Any, operation: str) -> None:
    for token in GARBAGE:
        with pytest.raises(InvalidToken) as refused:
            OPERATIONS[operation][0](caught, QUEUE, token)
        assert not isinstance(token, str) or len(token) < 5 or token not in str(refused.value)


@operation
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: token_for(credentials=STRANGER), "unknown_key"),
        (lambda: token_for(credentials=Credentials("shop", APP.kid, STRANGER.key)), "bad_mac"),
        (lambda: token_for(audience="redisq:elsewhere"), "audience"),
        (lambda: token_for(now=time.time() + 3600), "not_yet"),
        (lambda: changed(token_for()), "bad_mac"),
        (lambda: token_for() + "A", "bad_mac"),
        (lambda: token_for() + "=", "malformed"),
    ],
    ids=["foreign key", "forged key", "audience", "not yet", "changed", "longer", "padded"],
)
def test_a_token_that_is_not_ours_is_refused(caught: Any, operation: str, make: Callable[[], str], reason: str) -> None:
    token = make()
    with pytest.raises(InvalidToken) as refused:
        OPERATIONS[operation][0](caught, QUEUE, token)
    assert refused.value.reason == reason
    assert token not in str(refused.value)


@operation
def test_an_expired_token_is_refused(caught: Any, operation: str) -> None:
    with pytest.raises(TokenExpired):
        OPERATIONS[operation][0](caught, QUEUE, token_for(now=time.time() - 3600))
    with pytest.raises(TokenExpired):
        OPERATIONS[operation][0](caught, QUEUE, tokens.narrow(token_for(), expires_at=time.time() - 3600))


@operation
def test_a_token_for_something_else_is_forbidden(caught: Any, operation: str) -> None:
    operate, op = OPERATIONS[operation]
    others = tokens.OPS - {op}
    forbidden = [
        token_for(ops=others),
        token_for(queues=["invoices"]),
        token_for(queues=["order"]),
        token_for(queues=["orders-*"]),
        tokens.narrow(token_for(), ops=others),
        tokens.narrow(token_for(), queues=["invoices"]),
        tokens.narrow(tokens.narrow(token_for(), queues=["invoices"]), queues=["*"], ops=tokens.OPS),
    ]
    for token in forbidden:
        with pytest.raises(Forbidden, match="does not allow") as refused:
            operate(caught, QUEUE, token)
        assert token not in str(refused.value)


@operation
def test_a_token_for_just_this_is_enough(mq: Any, operation: str) -> None:
    operate, op = OPERATIONS[operation]
    own = mq.settings.credentials()
    mq.queue_message(QUEUE, 1, id=ID)
    wide = {"credentials": own, "audience": mq.settings.token_audience}
    for token in (
        token_for(ops=[op], queues=[QUEUE], **wide),
        tokens.narrow(token_for(**wide), ops=[op], queues=["ord*"], expires_at=time.time() + 60),
    ):
        operate(mq, QUEUE, token)
        mq.define(QUEUE, max_length=None)
        mq.queue_message(QUEUE, 1, id=ID)
        if operation == "delete_message":
            mq.define(QUEUE, dedup_window=0)
            mq.queue_message(QUEUE, 1, id=ID)


def test_all_queues_are_listed_only_for_who_may_see_all(mq: Any, make_client: Any, trap: Trap) -> None:
    own = {"credentials": mq.settings.credentials(), "audience": mq.settings.token_audience}
    mq.queue_message(QUEUE, 1)
    assert mq.queues(token_for(ops=["stats"], **own)) == [QUEUE]
    caught = make_client(mq.settings.model_copy(update={"url": trap.url}))
    for token in (
        token_for(ops=tokens.OPS - {"stats"}, **own),
        token_for(queues=[QUEUE], **own),
        token_for(queues=["o*"], **own),
        tokens.narrow(token_for(**own), queues=[QUEUE]),
    ):
        with pytest.raises(Forbidden):
            caught.queues(token)
    with pytest.raises(InvalidToken):
        caught.queues("nonsense")


def test_a_token_that_expires_during_a_wait_ends_it(
    make_client: Any, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(raw.server.url) as proxy:
        mq = make_client(raw.settings.model_copy(update={"url": proxy.url}))
        id = mq.queue_message(QUEUE, 1)
        own = {"credentials": raw.settings.credentials(), "audience": raw.settings.token_audience}
        token = token_for(ops=["get"], **own)
        late = SimpleNamespace(
            monotonic=time.monotonic,
            time=lambda: time.time() + (86_400 if proxy.count(script("get")) >= 2 else 0),
        )
        monkeypatch.setattr(caller, "time", late)
        with pytest.raises(TokenExpired):
            mq.get_message(QUEUE, id, token, wait=60)


# --- Credentials ------------------------------------------------------------------------------------------------------


@operation
def test_without_token_and_credentials_the_error_says_what_to_do(make_client: Any, trap: Trap, operation: str) -> None:
    mq = make_client(Settings(url=trap.url))
    with pytest.raises(MissingCredentials) as refused:
        OPERATIONS[operation][0](mq, QUEUE, None)
    for name in ("REDISQ_APP_ID", "REDISQ_APP_SECRET", 'auth="none"'):
        assert name in str(refused.value)
    with pytest.raises(MissingCredentials):
        mq.queues()


@operation
def test_without_credentials_a_token_cannot_be_verified(make_client: Any, trap: Trap, operation: str) -> None:
    mq = make_client(Settings(url=trap.url))
    with pytest.raises(InvalidToken, match="REDISQ_APP_SECRET") as refused:
        OPERATIONS[operation][0](mq, QUEUE, token_for())
    assert refused.value.reason == "unknown_key"


def test_with_auth_none_everything_works_without_credentials(make_client: Any, raw: Any) -> None:
    mq = make_client(Settings(url=raw.server.url, namespace=raw.settings.namespace, auth="none"))
    assert mq.queue_message(QUEUE, 1, id=ID) == ID
    for name, (operate, _) in OPERATIONS.items():
        if name != "define":
            operate(mq, QUEUE, None)
            mq.define(QUEUE, dedup_window=0)
            mq.queue_message(QUEUE, 1, id=ID)
    assert mq.queues() == [QUEUE]


def test_credentials_can_be_passed_by_hand(make_client: Any, raw: Any, trap: Trap) -> None:
    settings = Settings(url=raw.server.url, namespace=raw.settings.namespace)
    mq = make_client(settings, credentials=APP)
    mq.queue_message(QUEUE, 1)
    mq.stats(QUEUE, token_for(audience=settings.token_audience))


class Clock:
    """A clock for `operations` that a test sets; waits still take their real time."""

    def __init__(self) -> None:
        self.now = time.time()
        self.monotonic = time.monotonic

    def time(self) -> float:
        return self.now


def test_the_own_token_is_made_once_and_again_before_it_expires(mq: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, expiries, sign = Clock(), [], tokens.sign
    monkeypatch.setattr(caller, "time", clock)

    def counting(*args: Any, **kwargs: Any) -> str:
        expiries.append(kwargs["now"] + kwargs["ttl"])
        return sign(*args, **kwargs)

    monkeypatch.setattr(tokens, "sign", counting)
    id = mq.queue_message(QUEUE, 1)
    for _ in range(10):
        mq.get_message(QUEUE, id)
        mq.stats(QUEUE)
    assert len(expiries) == 1
    clock.now = expiries[0] - 30  # still valid, but not for long
    mq.stats(QUEUE)
    mq.stats(QUEUE)
    assert len(expiries) == 2
    clock.now = expiries[1] + 86_400  # the process slept
    mq.stats(QUEUE)
    assert len(expiries) == 3


# --- Keys that are not redisq's ---------------------------------------------------------------------------------------

#: operation -> the keys it reads whatever the queue holds; it may leave out what a message that is not there would
#: need, or one that is delayed or has a priority
TOUCHES = {
    "queue_message": ("messages", "states", "stream", "counters", "config"),
    "queue_messages": tuple(key for key in scripts.load("queue").keys if key not in ("scheduled", "urgent")),
    "get_message": ("messages", "states"),
    "delete_message": tuple(key for key in scripts.load("delete").keys if key != "urgent"),
    "stats": scripts.load("stats").keys,
    "define": tuple(key for key in scripts.load("define").keys if key not in ("messages", "states")),
    "sweep": tuple(key for key in scripts.load("sweep").keys if key not in ("messages", "states")),
    "dead_letters": ("dead",),
    "redrive": ("dead",),
    "purge_dead": ("dead",),
}


@pytest.mark.full(keep=12)
@operation
def test_a_key_of_another_type_is_left_alone(mq: Any, raw: Any, operation: str) -> None:
    for name in TOUCHES[operation]:
        queue = f"orders-{name}"
        mq.queue_messages(queue, [1, 2], ids=[ID, str(uuid.uuid4())])
        raw.redis.set(getattr(keys.partition_keys(raw.settings.namespace, queue), name), "mine")
        before = raw.digest()
        with pytest.raises(RedisQError) as refused:
            OPERATIONS[operation][0](mq, queue, None)
        error = refused.value.errors[0] if isinstance(refused.value, BatchError) else refused.value
        assert type(error) is Unavailable, name
        assert "nothing was changed" in str(error)
        assert raw.digest() == before, name


def test_a_registry_of_another_type_is_left_alone(mq: Any, raw: Any) -> None:
    raw.redis.set(keys.queues_key(raw.settings.namespace), "mine")
    before = raw.digest()
    for operate in (lambda: mq.queue_message(QUEUE, 1), lambda: mq.queue_messages(QUEUE, [1]), mq.queues):
        with pytest.raises(Unavailable, match="nothing was changed"):
            operate()
    assert raw.digest() == before
