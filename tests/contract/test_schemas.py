"""A queue's schema: kept with its definition, and no message is queued that does not fit it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from redisq import (
    BatchError,
    Definition,
    InvalidDefinition,
    InvalidMessage,
    InvalidSettings,
    MessageTooLarge,
    QueueFull,
    SchemaViolation,
)
from redisq.body import schemas
from redisq.operations.caller import Caller
from tests.conftest import Async, Raw, Sync, settings_for

QUEUE = "orders"
ORDER = {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]}


def operations_of(client: Any) -> Caller:
    operations: Caller = client.client._caller
    return operations


def age(client: Any, seconds: float = 5) -> None:
    """Let what a client knows of schemas grow that old."""
    known = operations_of(client)._known
    for queue, one in known.items():
        known[queue] = dataclasses.replace(one, until=one.until - seconds)


def test_a_schema_is_part_of_the_definition(mq: Any) -> None:
    assert mq.define(QUEUE).schema is None
    assert mq.define(QUEUE, schema=ORDER, lease=60) == Definition(schema=ORDER, lease=60)
    assert mq.define(QUEUE, lease=None) == Definition(schema=ORDER)
    assert mq.define(QUEUE, schema={}) == Definition(schema={})
    assert mq.define(QUEUE, schema=None) == Definition()


@pytest.mark.parametrize(
    "schema", [True, "{}", [], {"type": "objekt"}, {"$ref": "http://localhost/x"}, {"$ref": "#"}, {"pattern": r"(a)\1"}]
)
def test_a_bad_schema_changes_nothing(mq: Any, raw: Raw, schema: Any) -> None:
    mq.define(QUEUE, schema=ORDER)
    before = raw.digest()
    with pytest.raises(InvalidDefinition, match="schema"):
        mq.define(QUEUE, max_length=3, schema=schema)
    assert raw.digest() == before


MAIL = {"type": "string", "format": "email"}


def refuses(client: Any, message: Any) -> bool:
    try:
        client.queue_message(QUEUE, message)
    except SchemaViolation:
        return True
    return False


def test_formats_are_checked_unless_the_queue_says_no(mq: Any, make_client: Any) -> None:
    assert mq.define(QUEUE, schema=MAIL) == Definition(schema=MAIL)
    assert refuses(mq, "no address")
    assert not refuses(mq, "a@example.com")
    mq.define(QUEUE, check_formats=False)
    assert not refuses(mq, "no address")
    other = make_client(mq.settings)
    assert not refuses(other, "no address")
    assert other.define(QUEUE, check_formats=True).check_formats is True
    age(mq)
    assert refuses(mq, "no address")
    assert mq.define(QUEUE, check_formats=False, schema=MAIL).check_formats is False
    assert mq.define(QUEUE, schema={**MAIL, "title": "another"}).check_formats is False  # it is the queue's own


@pytest.mark.parametrize("own", [None, True, False])
def test_formats_of_a_schema_that_an_older_redisq_stored_are_not_checked(mq: Any, raw: Raw, own: bool | None) -> None:
    """It writes the text alone, also over one of a newer redisq."""
    mq.define(QUEUE, schema=MAIL, check_formats=own)
    raw.redis.hset(raw.keys.config, "schema", json.dumps(MAIL, separators=(",", ":"), sort_keys=True))
    assert mq.define(QUEUE).check_formats is bool(own)
    age(mq)
    assert refuses(mq, "no address") is bool(own)
    assert mq.define(QUEUE, schema=MAIL).check_formats is own
    assert refuses(mq, "no address") is (own is not False)


def test_an_older_redisq_reads_what_a_newer_one_stores(mq: Any, raw: Raw) -> None:
    """It takes whatever is a JSON object, up to 64 KiB, and leaves alone what settings it does not know."""
    for schema in (MAIL, {}):
        mq.define(QUEUE, schema=schema, check_formats=True)
        text = raw.redis.hget(raw.keys.config, "schema").decode()
        assert json.loads(text) == schema
        assert text[0] + text[-1] == "{}"


def test_a_bad_schema_does_not_even_make_the_queue(mq: Any, raw: Raw) -> None:
    with pytest.raises(InvalidDefinition):
        mq.define(QUEUE, schema={"type": "objekt"})
    assert raw.digest() == {}


def test_what_fits_is_queued_and_what_does_not_is_refused(mq: Any) -> None:
    mq.define(QUEUE, schema=ORDER)
    id = mq.queue_message(QUEUE, {"sku": "A-1"})
    assert mq.get_message(QUEUE, id).request == {"sku": "A-1"}
    with pytest.raises(SchemaViolation) as refused:
        mq.queue_message(QUEUE, {"sku": 17})
    assert refused.value.errors == [{"path": "$.sku", "message": "must be string"}]
    assert (refused.value.path, refused.value.code) == ("$.sku", "schema_violation")
    assert "17" not in str(refused.value)
    assert mq.stats(QUEUE).queued == 1


def test_of_a_batch_what_does_not_fit_is_refused(mq: Any) -> None:
    mq.define(QUEUE, schema=ORDER)
    with pytest.raises(BatchError) as refused:
        mq.queue_messages(QUEUE, [{"sku": "A-1"}, {"sku": 1}, {"sku": {1}}, {"sku": "A-2"}, {}])
    assert {index: type(error) for index, error in refused.value.errors.items()} == {
        1: SchemaViolation,
        2: InvalidMessage,
        4: SchemaViolation,
    }
    found = mq.get_messages(QUEUE, refused.value.ids)
    assert [message and message.request for message in found] == [{"sku": "A-1"}, None, None, {"sku": "A-2"}, None]


def test_a_batch_of_which_nothing_fits_sends_no_message(mq: Any) -> None:
    mq.define(QUEUE, schema={"type": "null"})
    with pytest.raises(BatchError) as refused:
        mq.queue_messages(QUEUE, range(600))
    assert set(map(type, refused.value.errors.values())) == {SchemaViolation}
    assert len(refused.value.errors) == 600
    assert mq.stats(QUEUE).queued == 0


def test_a_changed_schema_is_in_force_everywhere_after_five_seconds(mq: Any, make_client: Any) -> None:
    other = make_client(mq.settings)
    other.queue_message(QUEUE, "anything")
    mq.define(QUEUE, schema=ORDER)
    with pytest.raises(SchemaViolation):
        mq.queue_message(QUEUE, "anything")  # who defined it knows it
    other.queue_message(QUEUE, "anything")  # what was known a moment ago
    age(other)
    for queue in (other.queue_message, lambda queue, message: other.queue_messages(queue, [message])):
        with pytest.raises((SchemaViolation, BatchError)):
            queue(QUEUE, "anything")
    mq.define(QUEUE, schema=None)
    age(other)
    other.queue_message(QUEUE, "anything")


def test_a_long_batch_sees_a_schema_that_changes_meanwhile(mq: Any, make_client: Any) -> None:
    other = make_client(mq.settings)

    def messages() -> Any:
        for number in range(600):
            if number == 300:  # one call is sent by now
                other_runs(lambda: other.define(QUEUE, schema={"type": "null"}))
                age(mq)
            yield number

    def other_runs(what: Any) -> None:
        if isinstance(other, Async):  # a loop runs in this thread already
            import threading

            thread = threading.Thread(target=what)
            thread.start()
            thread.join()
        else:
            what()

    with pytest.raises(BatchError) as refused:
        mq.queue_messages(QUEUE, messages())
    assert set(map(type, refused.value.errors.values())) == {SchemaViolation}
    assert set(range(500, 600)) <= refused.value.errors.keys()
    assert mq.stats(QUEUE).queued == 600 - len(refused.value.errors)


def test_it_is_read_once_in_five_seconds(mq: Any, raw: Raw) -> None:
    mq.define(QUEUE, schema=ORDER)
    mq.queue_message(QUEUE, {"sku": "A-1"})
    raw.redis.hset(raw.keys.config, "schema", '{"type":"null"}')
    for _ in range(3):
        mq.queue_message(QUEUE, {"sku": "A-1"})
        mq.queue_messages(QUEUE, [{"sku": "A-1"}])
    age(mq, 4)
    mq.queue_message(QUEUE, {"sku": "A-1"})
    age(mq, 1)
    with pytest.raises(SchemaViolation):
        mq.queue_message(QUEUE, {"sku": "A-1"})


def test_a_dropped_queue_has_no_schema(mq: Any) -> None:
    mq.define(QUEUE, schema=ORDER)
    with pytest.raises(SchemaViolation):
        mq.queue_message(QUEUE, 5)
    mq.drop(QUEUE)
    mq.queue_message(QUEUE, 5)


def test_a_refused_message_does_not_hide_the_queue(mq: Any) -> None:
    """A new queue is entered by the first message that is not too large, however soon it comes after one that is."""
    with pytest.raises(MessageTooLarge):
        mq.queue_message(QUEUE, b"x" * (mq.settings.max_bytes + 1))
    mq.queue_message(QUEUE, 5)
    assert mq.queues() == [QUEUE]


@pytest.mark.parametrize("text", ["{", "5", "[]", "", '{"type":"objekt"}', '{"$ref":"file:///etc/passwd"}', b"\xff"])
def test_a_damaged_schema_lets_nothing_in_and_can_be_mended(mq: Any, raw: Raw, text: Any) -> None:
    mq.queue_message(QUEUE, 1)
    age(mq)
    raw.redis.hset(raw.keys.config, "schema", text)
    for queue in (mq.queue_message, mq.queue_messages):
        with pytest.raises(InvalidDefinition, match="definition of orders is damaged"):
            queue(QUEUE, [{"sku": "A-1"}])
    assert mq.stats(QUEUE).queued == 1
    (finding,) = [finding for finding in mq.doctor(QUEUE) if finding.code == "schema-invalid"]
    assert (finding.severity, finding.examples) == ("error", ("schema",))
    mq.define(QUEUE, schema=None)
    mq.queue_message(QUEUE, 2)
    assert not any(finding.code == "schema-invalid" for finding in mq.doctor(QUEUE))


def test_a_sound_schema_is_nothing_to_the_doctor(mq: Any) -> None:
    mq.define(QUEUE, schema=ORDER)
    assert not any("definition" in finding.code or "schema" in finding.code for finding in mq.doctor(QUEUE))


def test_without_the_library_nothing_is_queued(mq: Any, make_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mq.define(QUEUE, schema={"type": "object", "title": "nobody else has compiled this"})
    schemas.load.cache_clear()
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with pytest.raises(InvalidSettings, match="jsonschema-rs"):
        make_client(mq.settings).queue_message(QUEUE, {})
    assert mq.stats(QUEUE).queued == 0
    mq.queue_message("others", {})  # without a schema it is not missed
    mq.doctor(QUEUE)


def test_a_large_schema_fits_the_store(mq: Any) -> None:
    schema = {"properties": {f"key-{i}": {"type": "string", "title": "x" * 100} for i in range(400)}}
    assert mq.define(QUEUE, schema=schema).schema == schema
    with pytest.raises(SchemaViolation):
        mq.queue_message(QUEUE, {"key-399": 1})


def test_a_message_that_changes_while_a_batch_is_read_is_checked_as_it_is_queued(mq: Any) -> None:
    mq.define(QUEUE, schema={"properties": {"count": {"maximum": 2}}})
    order = {"count": 0}

    def orders() -> Iterator[dict[str, int]]:
        for order["count"] in (1, 5, 2):
            yield order

    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, orders())
    assert list(caught.value.errors) == [1]
    assert mq.stats(QUEUE).ready == 2


@pytest.mark.parametrize("kind", [Sync, Async])
def test_a_full_server_refuses_a_schema_clean(raw_real: Raw, kind: Any) -> None:
    client = kind(settings_for(raw_real.server.url, raw_real.settings.namespace))
    try:
        client.queue_message(QUEUE, 1)
        before = raw_real.digest()
        raw_real.redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(QueueFull):
                client.define(QUEUE, schema=ORDER, lease=60)
        finally:
            raw_real.redis.config_set("maxmemory", 0)
        assert raw_real.digest() == before
    finally:
        client.close()
