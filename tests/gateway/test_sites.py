"""What pages of other sites can do through the browser of somebody who reaches the gateway: nothing."""

from __future__ import annotations

from typing import Any

import pytest

from redisq.gateway.sites import is_of_this_machine
from tests.conftest import settings_for
from tests.gateway.conftest import Gateway, MakeGateway
from tests.gateway.test_door import shape

AFAR = [
    {"Origin": "http://other.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://gateway"},
    {"Sec-Fetch-Site": "none"},
]
LOCAL = "http://localhost:8080"


@pytest.fixture
def open_gateway(make_gateway: MakeGateway, real_server: Any, namespace: str) -> Gateway:
    """A gateway that asks nobody for a token."""
    return make_gateway(settings_for(real_server.url, namespace, auth="none"))


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("127.0.0.1:1", True),
        ("127.8.9.10", True),
        ("[::1]:8080", True),
        ("", False),
        ("localhost.other.example", False),
        ("127.0.0.1.other.example:8080", False),
        ("other.example", False),
        ("192.168.1.2:8080", False),
        ("[::2]", False),
        ("[", False),
        ("0.0.0.0", False),
    ],
)
def test_which_names_are_this_machine_s(host: str, is_ours: bool) -> None:
    assert is_of_this_machine(host) is is_ours


@pytest.mark.parametrize("path", ["/orders", "/_queues", "/_ui", "/_metrics", "/_health", "/_docs", "/_nowhere"])
def test_a_name_that_another_site_gave_out_leads_nowhere_without_tokens(open_gateway: Gateway, path: str) -> None:
    refused = open_gateway.call("GET", f"http://other.example{path}", token=None)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")
    assert open_gateway.call("GET", LOCAL + path, token=None).status_code == (404 if path == "/_nowhere" else 200)


@pytest.mark.parametrize("headers", AFAR)
def test_without_tokens_a_page_of_another_site_changes_nothing(open_gateway: Gateway, headers: dict[str, str]) -> None:
    id = open_gateway.mq.queue_message("orders", 1)
    for path in ("purge", "claim", "pause", "redrive", "resume"):
        refused = open_gateway.call("POST", f"{LOCAL}/orders/_{path}", token=None, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden"), path
    assert open_gateway.call("DELETE", f"{LOCAL}/orders/{id}", token=None, headers=headers).status_code == 403
    assert open_gateway.call("POST", f"{LOCAL}/orders", token=None, message=1, headers=headers).status_code == 403
    stats = open_gateway.mq.stats("orders")
    assert (stats.ready, stats.paused) == (1, False)
    assert open_gateway.call("GET", f"{LOCAL}/orders", token=None, headers=headers).status_code == 200  # it cannot read


def test_a_page_of_its_own_and_what_is_no_browser_are_served(open_gateway: Gateway) -> None:
    for headers in ({}, {"Origin": LOCAL, "Sec-Fetch-Site": "same-origin"}):
        assert open_gateway.call("POST", f"{LOCAL}/orders/_pause", token=None, headers=headers).status_code == 200


@pytest.mark.parametrize("headers", AFAR)
def test_an_open_queue_is_not_open_to_pages_of_other_sites(gateway: Gateway, headers: dict[str, str]) -> None:
    gateway.mq.define("open", security="none")
    gateway.mq.queue_message("open", 1)
    assert gateway.call("POST", "/open/_claim", token=None, headers=headers).status_code == 403
    assert gateway.mq.stats("open").ready == 1
    unknown, closed = (gateway.call("POST", f"/{name}/_claim", token=None, headers=headers) for name in ("x", "orders"))
    assert shape(unknown) == shape(closed)
    assert closed.status_code == 401
    assert gateway.call("POST", "/open/_claim", headers=headers).status_code == 200  # it shows a token


@pytest.mark.parametrize(("origins", "status"), [("*", 200), ("http://other.example", 200), ("http://a.example", 403)])
def test_a_site_that_may_call_the_gateway_may_use_open_queues(
    make_gateway: MakeGateway, origins: str, status: int
) -> None:
    gateway = make_gateway(cors_origins=origins)
    gateway.mq.define("open", security="none")
    headers = {"Origin": "http://other.example", "Sec-Fetch-Site": "cross-site"}
    assert gateway.call("POST", "/open/_claim", token=None, headers=headers).status_code == status
