"""`/_health`, `/_ready`, `/_metrics`, with Redis and without."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import settings_for
from tests.gateway.conftest import QUEUE, Gateway, MakeGateway, Office


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
