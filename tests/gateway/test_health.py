"""`/_health`, `/_ready`, `/_metrics`, with Redis and without."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from redisq import tokens
from redisq.gateway.access import closed
from redisq.gateway.metrics import Meters
from redisq.operations import applications
from redisq.store.keys import apps_key, partition_keys, queues_key
from redisq.tokens.scopes import Scopes
from tests.conftest import settings_for
from tests.gateway.conftest import QUEUE, Gateway, MakeGateway, Office


@pytest.fixture
def raw_redis(real_server: Any) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(real_server.url, protocol=2) as client:
        yield client


def samples(response: Any) -> dict[tuple[str, ...], float]:
    """The samples of a scrape: by name and labels."""
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_a_gateway_with_redis_is_alive_and_ready(gateway: Gateway) -> None:
    assert gateway.call("GET", "/_health", token=None).json() == {"status": "ok"}
    assert gateway.call("GET", "/_ready", token=None).json() == {"status": "ready"}
    assert gateway.mq.queues() == []


def test_without_redis_it_is_alive_and_not_ready(make_gateway: MakeGateway, start_server: Any, namespace: str) -> None:
    server = start_server()
    gateway = make_gateway(settings_for(server.url, namespace, retry_deadline=0), metrics_allow="127.0.0.1")
    assert gateway.call("GET", "/_ready", token=None).status_code == 200
    server.close()
    refused = gateway.call("GET", "/_ready", token=None)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert gateway.call("GET", "/_health", token=None).status_code == 200
    found = samples(gateway.call("GET", "/_metrics", token=None))
    assert found[("redisq_up",)] == 0
    assert found[("redisq_http_requests_total", "/_ready", "503", "GET")] == 1


def test_it_is_not_ready_when_it_cannot_tell_who_is_who(office: Office) -> None:
    assert office.gateway.call("GET", "/_ready", token=None).status_code == 503  # the registry was never seen
    office.create("billing", "get:*")
    assert office.gateway.call("GET", "/_ready", token=None).status_code == 200


def test_it_is_not_ready_while_it_stops(gateway: Gateway) -> None:
    gateway.context.stopping.set()
    assert gateway.call("GET", "/_ready", token=None).status_code == 503
    assert gateway.call("GET", "/_health", token=None).status_code == 200


def test_what_queues_hold_is_counted(gateway: Gateway) -> None:
    gateway.mq.queue_messages(QUEUE, [1, 2])
    gateway.mq.queue_message("other", 1, delay=60)
    gateway.call("GET", "/orders")
    gateway.call("GET", "/orders/_none")
    gateway.call("BREW", "/orders")
    found = samples(gateway.call("GET", "/_metrics"))
    assert found[("redisq_up",)] == 1
    assert found[("redisq_queue_ready", "orders")] == 2
    assert found[("redisq_queue_scheduled", "other")] == 1
    assert found[("redisq_queue_queued_total", "orders")] == 2
    assert found[("redisq_queue_oldest_age_seconds", "orders")] >= 0
    assert found[("redisq_http_requests_total", "/{queue:queue}", "200", "GET")] == 1
    assert found[("redisq_http_requests_total", "404", "GET", "none")] == 1
    assert found[("redisq_http_request_seconds_count", "/{queue:queue}", "GET")] == 1
    assert found[("redisq_http_in_flight",)] == 1  # the scrape itself
    assert not any("BREW" in name for name in found)


def test_who_may_scrape(make_gateway: MakeGateway, gateway: Gateway) -> None:
    assert gateway.call("GET", "/_metrics", token=None).status_code == 401
    assert gateway.call("GET", "/_metrics", token=gateway.token(queues=["orders"])).status_code == 403
    assert gateway.call("GET", "/_metrics", token=gateway.token(ops=["stats"])).status_code == 200
    open = make_gateway(metrics_allow="10.0.0.0/8, 2001:db8::/32")
    for client, status in (("10.1.2.3", 200), ("2001:db8::1", 200), ("::ffff:10.0.0.1", 200), ("11.0.0.1", 401)):
        assert open.call("GET", "/_metrics", token=None, client=client).status_code == status


@pytest.mark.parametrize("entry", [b"no name", b"\xff", b"", b"a/b", b"x" * 129])
def test_what_is_no_queue_in_the_registry_is_passed_over(gateway: Gateway, raw_redis: Any, entry: bytes) -> None:
    """Whoever may use one queue in direct mode may write there; nobody else's figures shall be gone for it."""
    gateway.mq.queue_message(QUEUE, 1)
    raw_redis.hset(queues_key(gateway.context.settings.namespace), entry, "1")
    found = samples(gateway.call("GET", "/_metrics"))
    assert (found[("redisq_up",)], found[("redisq_queue_ready", QUEUE)]) == (1, 1)
    assert gateway.call("GET", "/_queues").json() == {"queues": [QUEUE]}
    page = gateway.call("GET", "/_ui", token=None, headers={"Cookie": f"redisq_token={gateway.token()}"})
    assert page.status_code == 200
    assert f"/_ui/queues/{QUEUE}" in page.text
    gateway.runner.run(closed.tell(gateway.context))


def test_records_of_applications_are_counted(office: Office, raw_redis: Any) -> None:
    settings = office.gateway.context.settings
    shop = office.create("shop", "stats:*")
    office.create("other", "stats:*")
    apps = apps_key(settings.namespace)
    old = raw_redis.hget(apps, "shop")
    office.change(applications.switch(settings, "shop", disabled=True))
    raw_redis.hset(apps, "shop", old)
    office.change(applications.rotate(settings, "shop", 60))
    token = tokens.sign(shop, audience=settings.token_audience, ops=["stats"], queues=["*"], now=time.time())
    assert office.gateway.call("GET", "/_metrics", token=token).status_code == 401
    office.change(applications.create(settings, "third", Scopes.parse(["stats:*"])))
    third = office.gateway.context.verifier.snapshot()
    assert list(third.strayed) == ["shop"]
    meters = Meters().text(None, third).decode()
    assert 'redisq_applications{state="known"} 2.0' in meters
    assert 'redisq_applications{state="strayed"} 1.0' in meters
    assert 'redisq_applications{state="replayed"} 0.0' in meters
    assert 'redisq_applications{state="overtaken"} 0.0' in meters


def test_metrics_pass_over_a_queue_that_needs_a_newer_gateway(
    make_gateway: MakeGateway, real_server: Any, namespace: str
) -> None:
    gateway = make_gateway(settings_for(real_server.url, namespace), metrics_allow="127.0.0.1")
    for queue in ("mails", "orders"):
        gateway.mq.queue_message(queue, "hello")
    with redis.Redis.from_url(real_server.url, protocol=2) as raw:
        raw.hset(partition_keys(namespace, "orders").config, "needs", "groups@9.1.0")
    found = samples(gateway.call("GET", "/_metrics", token=None))
    assert found["redisq_up",] == 1
    assert found["redisq_queue_ready", "mails"] == 1
    assert ("redisq_queue_ready", "orders") not in found
    refused = gateway.call("POST", "/orders", json="hello")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upgrade_needed")
    assert refused.headers["Retry-After"]
    claim = gateway.call("POST", "/orders/_claim", headers={"Prefer": "wait=25"})
    assert (claim.status_code, claim.json()["error"]["code"]) == (503, "upgrade_needed")
    assert gateway.call("POST", "/mails", json="hello").status_code == 201
