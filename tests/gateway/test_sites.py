"""What pages of other sites can do through the browser of somebody who reaches the gateway: nothing."""

from __future__ import annotations

import pytest

from tests.gateway.conftest import OPENED, MakeGateway
from tests.gateway.test_door import shape

AFAR = [
    {"Origin": "http://other.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://gateway"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("headers", AFAR)
def test_an_open_queue_is_not_open_to_pages_of_other_sites(make_gateway: MakeGateway, headers: dict[str, str]) -> None:
    gateway = make_gateway(**OPENED)
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
    gateway = make_gateway(cors_origins=origins, **OPENED)
    gateway.mq.define("open", security="none")
    headers = {"Origin": "http://other.example", "Sec-Fetch-Site": "cross-site"}
    assert gateway.call("POST", "/open/_claim", token=None, headers=headers).status_code == status
