"""The page in a browser behind nginx: as shipped, on another port than 443; and as people write it in one line."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
import trustme

from redisq import embedded
from tests.browser.conftest import Visit, serving
from tests.conftest import settings_for
from tests.gateway.conftest import QUEUE, Served
from tests.support.servers import nginx

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(nginx.program() is None, reason="nginx is not installed"),
]

SHIPPED = (Path(__file__).parents[2] / "deploy" / "nginx.conf").read_text("utf-8")
PLAIN = "server {{ listen 127.0.0.1:{port}; location {place} {{ proxy_pass http://127.0.0.1:{gateway}{path}; }} }}"
UNDER = "/mq"


@dataclass(frozen=True)
class Front:
    """A gateway behind nginx, and its address there."""

    served: Served
    base: str
    root: str

    def post(self, path: str, headers: dict[str, str], **form: str) -> int:
        """Send a form as an older browser does, and give the answer's status."""
        trusting = ssl._create_unverified_context()
        place = self.base.partition("://")[2].partition("/")[0]
        secure = self.base.startswith("https")
        kind = http.client.HTTPSConnection(place, context=trusting) if secure else http.client.HTTPConnection(place)
        with closing(kind) as connection:
            form_type = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", path, urlencode(form), {**form_type, **headers})
            return connection.getresponse().status


@pytest.fixture(params=["shipped", "plain", "path taken away", "path passed on"])
def front(
    request: pytest.FixtureRequest, real_server: embedded.EmbeddedServer, namespace: str, tmp_path: Path
) -> Iterator[Front]:
    """A gateway behind nginx."""
    root = UNDER if request.param.startswith("path") else ""
    with serving(settings_for(real_server.url, namespace), root_path=root) as served:
        port = nginx.free_port()
        if request.param == "shipped":
            text = shipped(tmp_path, port, served.port)
        else:
            takes_away = request.param == "path taken away"
            place, path = f"{root}/", "/" if takes_away else ""
            text = PLAIN.format(port=port, place=place, gateway=served.port, path=path)
        scheme = "https" if request.param == "shipped" else "http"
        with nginx.running(tmp_path, text, port):
            yield Front(served, f"{scheme}://127.0.0.1:{port}{root}", root)


def shipped(folder: Path, port: int, gateway: int) -> str:
    """The block that comes with redisq, but on another port, with another certificate."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(folder / "queue.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "queue.key"))
    text = SHIPPED
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl", str(folder)),
        ("127.0.0.1:8080", f"127.0.0.1:{gateway}"),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


def test_all_forms_are_taken_and_all_links_lead_on(chrome: Browser, front: Front) -> None:
    id = front.served.gateway.mq.queue_message(QUEUE, {"sku": "A-1"})
    with closing(chrome.new_context(ignore_https_errors=True)) as context:
        one = Visit(context, front.base, front.served.gateway)
        page = one.sign_in()
        page.get_by_role("link", name=QUEUE).click()
        page.get_by_role("link", name="Pause").click()
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        page.get_by_role("link", name="Resume").click()
        assert front.served.gateway.mq.stats(QUEUE).paused
        page.get_by_role("dialog").get_by_role("button", name="Resume").click()
        page.get_by_text("Resumed.").wait_for()
        page.get_by_role("link", name=id).click()
        page.get_by_role("link", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        page.get_by_text("Deleted.").wait_for()
        assert page.url.partition("?")[0] == f"{front.base}/_ui/queues/{QUEUE}"
        (cookie,) = [cookie for cookie in context.cookies() if cookie["name"] == "redisq_token"]
        assert cookie["path"] == f"{front.root}/_ui"
        page.get_by_role("button", name="Sign out").click()
        page.get_by_text("You have signed out.").wait_for()
        page.goto(f"{front.base}/_docs")
        page.get_by_role("link", name="the same for programs").click()
        assert f'"servers":[{{"url":"{front.root or "/"}"}}]' in page.inner_text("body")
        assert one.wrong == []


def test_forms_of_other_sites_are_refused(front: Front) -> None:
    path = f"{front.root}/_ui/sign-in"
    token = front.served.gateway.token()
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": front.base, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-site"},
    ):
        assert front.post(path, headers, token=token) == 403, headers


@pytest.mark.parametrize("front", ["shipped"], indirect=True)
def test_the_host_passes_with_its_port_for_browsers_that_say_no_more(front: Front) -> None:
    token = front.served.gateway.token()
    assert front.post("/_ui/sign-in", {"Origin": front.base}, token=token) == 303
    assert front.post("/_ui/sign-in", {"Origin": "https://127.0.0.1"}, token=token) == 403
