"""What pages of other sites can do through the browser of somebody who reaches the gateway: nothing."""

from __future__ import annotations

import pytest

from redisq import embedded
from redisq.gateway.access.sites import is_at, why_foreign
from tests.conftest import settings_for
from tests.gateway.conftest import OPENED, MakeGateway
from tests.gateway.test_guard import shape

AFAR = [
    {"Origin": "http://other.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://gateway"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "same-origin, cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://gateway"},
    {"Origin": "http://gateway:8080"},
    {"Origin": "https://gateway:80"},
    {"Origin": "gateway"},
]
#: What the gateway's own pages send; of those of the second half a proxy has changed Host.
OWN = [
    {},
    {"Origin": "http://gateway"},
    {"Origin": "http://gateway:80"},
    {"Origin": "http://Gateway"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://queue.example.com:8443"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
    {"Origin": "https://gateway:8443", "Host": "gateway:8443"},
    {"Origin": "https://gateway", "Host": "gateway:443"},
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


@pytest.mark.parametrize("headers", OWN)
def test_a_page_of_the_gateway_itself_may_use_open_queues(make_gateway: MakeGateway, headers: dict[str, str]) -> None:
    gateway = make_gateway(**OPENED)
    gateway.mq.define("open", security="none")
    assert gateway.call("POST", "/open/_claim", token=None, headers=headers).status_code == 200


def test_a_refusal_says_what_is_wrong() -> None:
    told = why_foreign({"origin": "https://queue.example.com:8443", "host": "queue.example.com"})
    assert told is not None
    for part in ("https://queue.example.com:8443", "as queue.example.com (Host)", "proxy_set_header Host $http_host"):
        assert part in told
    assert "cross-site" in (why_foreign({"sec-fetch-site": "cross-site", "host": "a"}) or "")
    assert len(why_foreign({"origin": "x" * 9000, "host": "y" * 9000}) or "") < 600


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://[::1]", "[::1]:80", True),
        ("http://a:443", "a", False),
        ("ftp://a", "a:80", False),
        ("http://", "", False),
        ("", "", False),
        ("null", "null", False),
    ],
)
def test_an_origin_is_at_a_host(origin: str, host: str, same: bool) -> None:
    assert is_at(origin, host) == same


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:9000"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:9000"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example:9000"}, 403),  # its name leads here
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:9000"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:9000"}, 403),
        ({"Origin": "http://localhost:9000"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8080"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://127.0.0.1:8080"}, 200),
    ],
)
def test_without_tokens_a_proxy_of_this_machine_may_change_the_host(
    make_gateway: MakeGateway,
    real_server: embedded.EmbeddedServer,
    namespace: str,
    headers: dict[str, str],
    status: int,
) -> None:
    gateway = make_gateway(settings_for(real_server.url, namespace, auth="none"))
    answer = gateway.call("POST", "/orders/_claim", token=None, headers={"Host": "127.0.0.1:8080", **headers})
    assert answer.status_code == status
