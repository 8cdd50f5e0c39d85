"""A gateway under a path of a proxy: what it writes leads back through the proxy, whichever way it passes the path."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from redisq.errors import InvalidSettings
from redisq.gateway.settings import GatewaySettings
from tests.gateway.conftest import QUEUE, Gateway, MakeGateway
from tests.gateway.test_document import Page
from tests.gateway.test_page import Browser, elements

ROOT = "/tools/mq"


@pytest.fixture
def under(make_gateway: MakeGateway) -> Gateway:
    """A gateway that stands under a path."""
    return make_gateway(root_path=ROOT)


def strip(path: str) -> str:
    """What a proxy sends on that takes the path away."""
    return path.removeprefix(ROOT) or "/"


def keep(path: str) -> str:
    """What one sends on that passes it on."""
    return path


ways = pytest.mark.parametrize("way", [strip, keep])


class Behind(Browser):
    """A browser in front of such a proxy."""

    def __init__(self, gateway: Gateway, way: Callable[[str], str]) -> None:
        super().__init__(gateway)
        self.way = way

    def _send(self, method: str, path: str, headers: dict[str, str] | None = None, **how: Any) -> httpx.Response:
        assert path.startswith(f"{ROOT}/_ui"), path
        path, mark, query = path.partition("?")
        return super()._send(method, self.way(path) + mark + query, headers, **how)

    def tag(self, path: str = f"{ROOT}/_ui") -> str:
        return super().tag(path)


@ways
def test_a_message_is_found_at_its_location(under: Gateway, way: Callable[[str], str]) -> None:
    made = under.call("POST", way(f"{ROOT}/{QUEUE}"), message=1)
    location = made.headers["Location"]
    assert location == f"{ROOT}/{QUEUE}/{made.json()['id']}"
    assert under.call("GET", way(location)).json()["request"] == 1
    assert under.call("PUT", way(location), message=1).headers["Location"] == location
    assert under.call("DELETE", way(location)).status_code == 204


@ways
def test_the_page_leads_to_itself(under: Gateway, way: Callable[[str], str]) -> None:
    id, browser = under.mq.queue_message(QUEUE, 1), Behind(under, way)
    assert f'action="{ROOT}/_ui/sign-in"' in browser.get(f"{ROOT}/_ui/queues/{QUEUE}").text
    asked = browser.get(f"{ROOT}/_ui/queues/{QUEUE}")
    (next,) = re.findall(r'name="next" value="([^"]+)"', asked.text)
    signed_in = browser.post(f"{ROOT}/_ui/sign-in", {"token": under.token(), "next": next})
    assert signed_in.headers["location"] == f"{ROOT}/_ui/queues/{QUEUE}"
    assert f"Path={ROOT}/_ui;" in signed_in.headers["set-cookie"] + ";"
    seen, coming = set[str](), [f"{ROOT}/_ui"]
    while coming:
        path = coming.pop()
        seen.add(path)
        shown = browser.get(path)
        assert shown.status_code in (200, 303), path
        for _, given in elements(shown):
            for name in ("href", "src", "action"):
                link = (given.get(name) or "#").partition("#")[0]
                assert not link or link.startswith(f"{ROOT}/_ui"), (path, link)
                if link and link not in seen and "/sign-" not in link and "/find" not in link:
                    coming.append(link)
    assert {f"{ROOT}/_ui/queues/{QUEUE}/pause", f"{ROOT}/_ui/queues/{QUEUE}/messages/{id}"} <= seen
    assert len([path for path in seen if "/static/" in path]) == 3


@ways
def test_forms_lead_on_below_the_path(under: Gateway, way: Callable[[str], str]) -> None:
    id, browser = under.mq.queue_message(QUEUE, 1), Behind(under, way)
    browser.post(f"{ROOT}/_ui/sign-in", {"token": under.token()})
    queue = f"{ROOT}/_ui/queues/{QUEUE}"
    assert browser.do(f"{queue}/pause").headers["location"] == queue
    assert "Paused." in browser.get(queue).text
    assert browser.do(f"{queue}/messages/{id}/delete").headers["location"] == queue
    assert browser.get(f"{ROOT}/_ui/").headers["location"] == f"{ROOT}/_ui"
    found = browser.get(f"{ROOT}/_ui/find?queue={QUEUE}&id={id}").headers["location"]
    assert found == f"{queue}/messages/{id}"
    assert f'href="{queue}/../' not in browser.get(f"{ROOT}/_ui/nowhere").text
    left = browser.post(f"{ROOT}/_ui/sign-out", {"tag": browser.tag()})
    assert left.headers["location"] == f"{ROOT}/_ui/sign-in"
    assert browser.cookies.keys() <= {"redisq_notice"}


@ways
def test_the_document_tells_where_the_server_is(under: Gateway, way: Callable[[str], str]) -> None:
    told = under.call("GET", way(f"{ROOT}/_openapi.json"), token=None).json()
    assert told["servers"] == [{"url": ROOT}]
    assert told["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]["tokenUrl"] == f"{ROOT}/_token"
    links = Page(under.call("GET", way(f"{ROOT}/_docs"), token=None).text).links
    assert [link for link in links if not link.startswith("#")] == [f"{ROOT}/_openapi.json"]
    missing = under.call("GET", way(f"{ROOT}/_nothing"), token=None)
    assert (missing.status_code, f"{ROOT}/_docs" in missing.json()["error"]["message"]) == (404, True)
    for path in ("/_health", "/_ready"):
        assert under.call("GET", way(ROOT + path), token=None).status_code == 200


@pytest.mark.parametrize("path", [ROOT, f"{ROOT}/", f"{ROOT}x/orders", "/tools/orders/_stats", f"{ROOT}//orders"])
def test_what_is_beside_the_path_is_nothing(under: Gateway, path: str) -> None:
    assert under.call("GET", path).status_code == 404


def test_a_queue_of_the_paths_name_is_told_apart_where_the_proxy_says_what_it_took(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(root_path="/mq")
    id = gateway.mq.queue_message("mq", 1)
    assert gateway.call("GET", f"/mq/mq/{id}").status_code == 200
    told = gateway.call("GET", f"/mq/{id}", headers={"X-Forwarded-Prefix": "/mq"})
    assert (told.status_code, told.json()["id"]) == (200, id)


@pytest.mark.parametrize("given", ["", "/"])
def test_the_whole_host_is_the_default(make_gateway: MakeGateway, given: str) -> None:
    gateway = make_gateway(root_path=given)
    assert gateway.call("POST", "/orders", message=1).headers["Location"].startswith("/orders/")
    assert gateway.call("GET", "/_openapi.json").json()["servers"] == [{"url": "/"}]


def test_a_slash_at_the_end_makes_no_difference() -> None:
    assert GatewaySettings(root_path="/mq/").root_path == "/mq"


@pytest.mark.parametrize(
    "path",
    [
        *("mq", "//", "/mq//x", "//evil.example", "/a/../b", "/..", "/./a", "/mq?x=1", "/mq#x", "/m q", "/m%71", "/mé"),
        *("https://queue.example.com/mq", "/_ui", "/_token/x", "/mq\n", "/mq;Secure", "/" + "x" * 300, "\\mq"),
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidSettings, match=r"^REDISQ_HTTP_ROOT_PATH: it takes a path like /mq"):
        GatewaySettings(root_path=path)
