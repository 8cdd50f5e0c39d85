"""The page: who gets in and how, what each page shows in each state, what can be done, and by whom."""

from __future__ import annotations

import html
import re
import uuid
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
import redis

from redisq import Credentials, Status, embedded, store
from redisq.gateway.page.session import COOKIE
from redisq.store.keys import id_text, partition_keys
from tests.conftest import settings_for
from tests.gateway.conftest import QUEUE, Gateway, MakeGateway
from tests.scripts.conftest import Orders

ID = str(uuid.uuid4())
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\u202e"


class Browser:
    """What a browser without scripts does: keep cookies, and say where a form comes from."""

    def __init__(self, gateway: Gateway, base: str = "http://gateway") -> None:
        self.gateway = gateway
        self.base = base
        self.cookies: dict[str, str] = {}

    def get(self, path: str) -> httpx.Response:
        return self._send("GET", path)

    def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        content_type = {"Content-Type": "application/x-www-form-urlencoded"}
        given = {
            "Origin": self.base,
            **content_type,
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        body = str(httpx.QueryParams(form or {}))
        return self._send("POST", path, headers={name: text for name, text in given.items() if text}, content=body)

    def sign_in(self, token: str, **form: str) -> httpx.Response:
        return self.post("/_ui/sign-in", {"token": token, **form})

    def tag(self, path: str = "/_ui") -> str:
        """The tag that forms hold."""
        found = re.search(r'name="tag" value="(\w+)"', self.get(path).text)
        assert found
        return found[1]

    def do(self, path: str) -> httpx.Response:
        """Open what asks, and confirm it."""
        return self.post(path, {"tag": self.tag(path)})

    def _send(self, method: str, path: str, headers: dict[str, str] | None = None, **how: Any) -> httpx.Response:
        headers = dict(headers or {})
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.gateway.call(method, self.base + path, token=None, headers=headers, **how)
        for cookie in answer.headers.get_list("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            if "Max-Age=0" in cookie:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer


@pytest.fixture
def browser(gateway: Gateway) -> Browser:
    """A browser that has signed in with a token for everything."""
    browser = Browser(gateway)
    assert browser.sign_in(gateway.token()).status_code == 303
    return browser


@pytest.fixture
def visit(gateway: Gateway) -> Callable[..., Browser]:
    """Sign in with a token that allows only this."""

    def sign_in(*ops: str, queues: Any = ("*",)) -> Browser:
        browser = Browser(gateway)
        assert browser.sign_in(gateway.token(ops=ops, queues=queues)).status_code == 303
        return browser

    return sign_in


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(answer: httpx.Response) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Elements()
    parser.feed(answer.text)
    return parser.found


def links(answer: httpx.Response) -> set[str]:
    return {str(given["href"]) for tag, given in elements(answer) if tag == "a"}


def dead_letter(gateway: Gateway, orders: Orders, body: object = "a") -> str:
    id = gateway.mq.queue_message(QUEUE, body)
    (delivery,) = orders.claim(1).deliveries
    assert orders.fail(delivery.receipt, final=True) == [None]
    return id


@pytest.fixture
def orders(raw_real: Any) -> Orders:
    """The queue from below."""
    return Orders(raw_real)


# --- Signing in and out ---


def test_the_cookie_is_out_of_reach_for_scripts_other_sites_and_other_paths(gateway: Gateway) -> None:
    token = gateway.token(ttl=600)
    (cookie,) = Browser(gateway).sign_in(token).headers.get_list("set-cookie")
    name, *flags = cookie.split("; ")
    assert name == f"{COOKIE}={token}"
    assert {"HttpOnly", "Path=/_ui", "SameSite=strict"} <= set(flags)
    assert "Secure" not in flags
    (age,) = [int(flag.partition("=")[2]) for flag in flags if flag.startswith("Max-Age=")]
    assert 590 <= age <= 600


def test_over_https_the_cookie_is_secure(gateway: Gateway) -> None:
    answer = Browser(gateway, "https://gateway").sign_in(gateway.token())
    assert "; Secure" in answer.headers["set-cookie"]


def test_without_signing_in_each_page_asks_for_it(gateway: Gateway) -> None:
    for path in ("/_ui", f"/_ui/queues/{QUEUE}", f"/_ui/queues/{QUEUE}/messages/{ID}", f"/_ui/queues/{QUEUE}/pause"):
        answer = Browser(gateway).get(path)
        assert answer.status_code == 401
        assert 'name="token"' in answer.text
        assert f'name="next" value="{path}"' in answer.text
    assert gateway.mq.queues() == []


@pytest.mark.parametrize(
    ("next", "to"),
    [
        (f"/_ui/queues/{QUEUE}", f"/_ui/queues/{QUEUE}"),
        ("https://elsewhere.example/", "/_ui"),
        ("//elsewhere.example", "/_ui"),
        ("/_ui/../orders", "/_ui"),
        ("/_ui//elsewhere.example", "/_ui"),
        ("/_ui/queues/orders\r\nX-Evil: 1", "/_ui"),
        ("/_ui/sign-out", "/_ui"),
    ],
)
def test_signing_in_leads_to_pages_of_this_site_alone(gateway: Gateway, next: str, to: str) -> None:
    answer = Browser(gateway).sign_in(gateway.token(), next=next)
    assert (answer.status_code, answer.headers["location"]) == (303, to)


@pytest.mark.parametrize("token", ["", "rq1.x", "x" * 5000, "réseau", NASTY])
def test_a_token_that_is_none_signs_nobody_in(gateway: Gateway, token: str) -> None:
    answer = Browser(gateway).sign_in(token)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "not valid" in answer.text
    assert "x" * 100 not in answer.text


def test_tokens_of_strangers_and_old_ones_sign_nobody_in(gateway: Gateway) -> None:
    stranger = gateway.token(credentials=Credentials.generate("stranger"))
    assert Browser(gateway).sign_in(stranger).status_code == 401
    answer = Browser(gateway).sign_in(gateway.token(ttl=1, now=1_700_000_000))
    assert answer.status_code == 401
    assert "has expired" in answer.text


def test_a_token_that_was_revoked_meanwhile_shows_nothing_any_more(gateway: Gateway, browser: Browser) -> None:
    assert browser.get("/_ui").status_code == 200
    gateway.verifier.known.clear()
    assert browser.get("/_ui").status_code == 401


def test_signing_out_forgets_the_token(browser: Browser) -> None:
    answer = browser.post("/_ui/sign-out", {"tag": browser.tag()})
    assert answer.status_code == 303
    assert COOKIE not in browser.cookies
    assert "You have signed out." in browser.get(answer.headers["location"]).text
    assert browser.get("/_ui").status_code == 401


def test_where_no_tokens_are_asked_for_nobody_signs_in(
    make_gateway: MakeGateway, real_server: Any, namespace: str
) -> None:
    browser = Browser(make_gateway(settings_for(real_server.url, namespace, auth="none")), "http://localhost")
    browser.gateway.mq.queue_message(QUEUE, 1)
    assert QUEUE in browser.get("/_ui").text
    assert browser.get("/_ui/sign-in").headers["location"] == "/_ui"
    assert browser.post(f"/_ui/queues/{QUEUE}/pause", {"tag": "0" * 64}).status_code == 403
    assert browser.do(f"/_ui/queues/{QUEUE}/pause").status_code == 303
    assert browser.gateway.mq.stats(QUEUE).paused


def test_an_address_that_shows_many_bad_tokens_has_to_wait(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(failures=3)
    for _ in range(20):
        answer = Browser(gateway).sign_in("rq1.x")
        if answer.status_code == 429:
            break
        assert answer.status_code == 401
    assert answer.status_code == 429
    assert "Too many requests" in answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert Browser(gateway).sign_in(gateway.token()).status_code == 303  # a good one counts, whoever was there before


def test_pages_count_like_other_requests_of_an_application(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(rate=1, burst=4)
    browser = Browser(gateway)
    found = [browser.sign_in(gateway.token()).status_code, *(browser.get("/_ui").status_code for _ in range(30))]
    assert found[:2] == [303, 200]
    assert 429 in found


# --- Forms of other sites ---


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Content_Type": "text/plain"},
        {"Sec_Fetch_Site": "cross-site", "Host": "evil.example", "Origin": "http://evil.example"},
        {"Content_Type": "multipart/form-data; boundary=x"},
    ],
)
def test_a_form_of_another_site_is_refused(browser: Browser, headers: dict[str, str]) -> None:
    path = f"/_ui/queues/{QUEUE}/pause"
    form = {"tag": browser.tag(path)}
    assert browser.post(path, form, **headers).status_code == 403
    assert browser.post("/_ui/sign-in", {"token": browser.gateway.token()}, **headers).status_code == 403
    assert browser.post("/_ui/sign-out", form, **headers).status_code == 403
    assert not browser.gateway.mq.stats(QUEUE).paused
    assert browser.get("/_ui").status_code == 200


@pytest.mark.parametrize("origin", ["https://queue.example.com:8443", "http://127.0.0.1:9000", "null"])
def test_behind_a_proxy_that_changes_the_host_the_browser_is_believed(browser: Browser, origin: str) -> None:
    headers = {"Origin": origin, "Sec_Fetch_Site": "same-origin"}
    browser.gateway.mq.define(QUEUE, lease=30)
    path = f"/_ui/queues/{QUEUE}/pause"
    assert browser.post("/_ui/sign-in", {"token": browser.gateway.token()}, **headers).status_code == 303
    assert browser.post(path, {"tag": browser.tag(path)}, **headers).status_code == 303
    assert browser.gateway.mq.stats(QUEUE).paused
    assert browser.post("/_ui/sign-out", {"tag": browser.tag()}, **headers).status_code == 303


def test_a_form_that_is_refused_says_what_is_wrong(gateway: Gateway, browser: Browser) -> None:
    def told(form: dict[str, str] | None = None, **headers: str) -> str:
        return html.unescape(browser.post("/_ui/sign-in", form, **headers).text)

    changed = told(Origin="https://queue.example.com:8443")
    assert "from https://queue.example.com:8443 (Origin), and the gateway was asked as gateway (Host)" in changed
    assert "proxy_set_header Host $http_host" in changed
    assert "Sec-Fetch-Site: cross-site" in told(Sec_Fetch_Site="cross-site")
    assert "Nothing says which page" in told(Origin="")
    assert "no form of this page" in told(Content_Type="text/plain")
    assert "an old one" in html.unescape(browser.post(f"/_ui/queues/{QUEUE}/pause", {"tag": "x"}).text)
    assert "<script>alert" not in browser.post("/_ui/sign-in", {}, Origin="http://<script>alert(1)</script>").text


def test_a_form_without_the_tag_of_this_token_is_refused(gateway: Gateway, browser: Browser) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    other = Browser(gateway)
    other.sign_in(gateway.token())
    path = f"/_ui/queues/{QUEUE}/pause"
    for form in ({}, {"tag": ""}, {"tag": other.tag(path)}, {"tag": "é"}):
        assert browser.post(path, form).status_code == 403
    assert browser.post(path, {"tag": "x" * 10_000}).status_code == 403
    assert browser.post(path, {str(number): "" for number in range(50)}).status_code == 403
    assert not gateway.mq.stats(QUEUE).paused
    assert browser.post(path, {"tag": browser.tag(path)}, Sec_Fetch_Site="same-origin").status_code == 303


def test_opening_an_address_does_nothing(gateway: Gateway, browser: Browser, orders: Orders) -> None:
    id = dead_letter(gateway, orders)
    with orders.unchanged():
        for action in ("pause", "resume", "redrive", f"messages/{id}/redrive", f"messages/{id}/delete"):
            assert browser.get(f"/_ui/queues/{QUEUE}/{action}").status_code == 200


def test_what_does_not_exist_is_not_asked_about(gateway: Gateway, browser: Browser, orders: Orders) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    for action in ("pause", "resume", "redrive"):
        answer = browser.get(f"/_ui/queues/ordrs/{action}")
        assert answer.status_code == 404
        assert "There is no queue ordrs. Did you mean orders?" in answer.text
    for action in ("redrive", "delete"):
        assert browser.get(f"/_ui/queues/{QUEUE}/messages/{ID}/{action}").status_code == 404
        assert browser.get(f"/_ui/queues/{QUEUE}/messages/{id}/{action}").status_code == 200
    orders.redis.hset(orders.keys.states, uuid.UUID(id).bytes, "damaged")
    assert browser.get(f"/_ui/queues/{QUEUE}/messages/{id}/delete").status_code == 200


# --- What there is to see ---


def everywhere(gateway: Gateway, orders: Orders) -> list[str]:
    """Put messages of each status into the queue, and give the address of each page."""
    ids = [dead_letter(gateway, orders, {"nasty": NASTY, "bytes": b"\0\1"}), *gateway.mq.queue_messages(QUEUE, [1, 2])]
    done, _ = (delivery.receipt for delivery in orders.claim(2).deliveries)
    orders.complete(done, result={"nasty": NASTY})
    ids += [gateway.mq.queue_message(QUEUE, NASTY), gateway.mq.queue_message(QUEUE, "later", delay=60)]
    ids.append(gateway.mq.queue_message(QUEUE, {"large": "x" * 300_000}, expires_in=3000))
    lists = [f"?list={word}" for word in ("ready", "scheduled", "in_progress", "dead", "finished", NASTY)]
    pages = [f"/_ui/queues/{QUEUE}{rest}" for rest in ("", *lists, "?range=15", "?range=60", f"?after={NASTY}")]
    pages += [f"/_ui/queues/{QUEUE}/messages/{id}" for id in ids]
    return ["/_ui", "/_ui?q=ord", f"/_ui?q={NASTY}", "/_ui?page=7", "/_ui/sign-in", *pages]


def test_each_page_in_each_state(gateway: Gateway, browser: Browser, orders: Orders) -> None:
    for path in everywhere(gateway, orders):
        answer = browser.get(path.replace("&", "%26").replace("#", "%23"))
        assert answer.status_code == 200, path
        assert answer.headers["cache-control"] == "no-store"


def test_what_messages_hold_is_text_whatever_it_says(gateway: Gateway, browser: Browser, orders: Orders) -> None:
    own = {"script": {"src", "defer"}, "link": {"rel", "href"}}
    for path in everywhere(gateway, orders):
        answer = browser.get(path.replace("&", "%26").replace("#", "%23"))
        assert "\u202e" not in answer.text or "?q=" in path, path
        for tag, given in elements(answer):
            assert tag != "img", path
            assert not [name for name in given if name.startswith("on") or name == "style"], (path, tag)
            if tag in own:
                assert set(given) - {"type"} == own[tag]


def test_nothing_may_run_but_the_pages_own_script(gateway: Gateway, browser: Browser, orders: Orders) -> None:
    pages = [
        *everywhere(gateway, orders),
        "/_ui/nowhere",
        f"/_ui/queues/{QUEUE}/pause",
        f"/_ui/queues/{QUEUE}/messages/x",
    ]
    for path in pages:
        answer = browser.get(path.replace("&", "%26").replace("#", "%23"))
        policy = answer.headers["content-security-policy"]
        assert answer.headers.get_list("content-security-policy") == [policy]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'; base-uri 'none'" in policy
        assert answer.headers["referrer-policy"] == "same-origin"
        assert [given for tag, given in elements(answer) if tag == "script" and "src" not in given] == []


def test_a_message_with_all_that_is_known(gateway: Gateway, browser: Browser, orders: Orders) -> None:
    id = dead_letter(gateway, orders, {"sku": "A-1", "blob": b"\0\1\2"})
    text = browser.get(f"/_ui/queues/{QUEUE}/messages/{id}").text
    for part in (id, "ERROR", "&#34;sku&#34;: &#34;A-1&#34;", "AAEC", "ValueError", "no stock", "attempt 1", "w-1"):
        assert part in text


def test_where_an_error_came_from_is_folded_and_for_whom_works_or_administers(
    gateway: Gateway, visit: Callable[..., Browser], orders: Orders
) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    error = {"type": "ValueError", "message": "no <b>stock", "traceback": 'File "<shop>.py", line 3, in charge'}
    for _ in range(2):
        (delivery,) = orders.claim(1).deliveries
        failure = store.deliveries.failure(delivery.receipt, error, delay=0.0)
        orders.run(store.deliveries.fail(orders.keys, orders.limits, [failure]))
    place = f"/_ui/queues/{QUEUE}/messages/{id}"
    for op in ("work", "admin"):
        page = visit("get", "stats", op).get(place)
        assert "File &#34;&lt;shop&gt;.py&#34;, line 3, in charge" in page.text
        assert [given for tag, given in elements(page) if tag == "details"] == [{}]
    without = visit("get", "stats", "queue", "delete").get(place).text
    assert "in charge" not in without
    assert without.count("ValueError: no &lt;b&gt;stock") == 2  # in the history


def test_a_long_body_is_cut_and_said_so(gateway: Gateway, browser: Browser) -> None:
    id = gateway.mq.queue_message(QUEUE, "x" * 150_000)
    text = browser.get(f"/_ui/queues/{QUEUE}/messages/{id}").text
    assert "50,002 more characters are not shown" in text
    assert len(text) < 110_000


def test_lists_go_on_page_by_page(gateway: Gateway, browser: Browser) -> None:
    ids = gateway.mq.queue_messages(QUEUE, range(60))
    found: list[str] = []
    path = f"/_ui/queues/{QUEUE}?list=ready"
    while path:
        answer = browser.get(path)
        found += re.findall(r'class="id" href="/_ui/queues/orders/messages/([0-9a-f-]{36})"', answer.text)
        further = [str(given["href"]) for tag, given in elements(answer) if given.get("rel") == "next"]
        path = further[0].partition("#")[0] if further else ""
    assert found == ids


def test_priorities_are_shown_and_urgent_messages_listed_first_page_by_page(gateway: Gateway, browser: Browser) -> None:
    plain = gateway.mq.queue_messages(QUEUE, range(30))
    urgent = [gateway.mq.queue_message(QUEUE, number, priority=7) for number in range(60)]
    assert "Priority 7" in browser.get(f"/_ui/queues/{QUEUE}/messages/{urgent[0]}").text
    assert "Priority" not in browser.get(f"/_ui/queues/{QUEUE}/messages/{plain[0]}").text
    listed: list[str] = []
    path: str | None = f"/_ui/queues/{QUEUE}?list=ready"
    while path is not None:
        page = browser.get(path).text
        shown = re.findall(rf"/_ui/queues/{QUEUE}/messages/([0-9a-f-]{{36}})", page)
        listed += dict.fromkeys(shown)
        following = re.search(r'href="([^"]*[?&;]after=[^"]*)"', page)
        path = html.unescape(following[1]) if following else None
    assert listed == [*urgent, *plain]


def test_a_message_is_found_by_its_id(gateway: Gateway, browser: Browser) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    answer = browser.get(f"/_ui/find?queue={QUEUE}&id=+{id.upper()}+")
    assert answer.headers["location"] == f"/_ui/queues/{QUEUE}/messages/{id}"
    assert browser.get(f"/_ui/find?queue={QUEUE}&id=7").status_code == 404
    assert browser.get("/_ui/find?queue=_ui&id=7").status_code == 404


def test_what_is_not_there(browser: Browser) -> None:
    for path in ("/_ui/nowhere", "/_ui/queues", f"/_ui/queues/{QUEUE}/messages/{ID}", f"/_ui/queues/{QUEUE}/purge"):
        answer = browser.get(path)
        assert answer.status_code == 404
        assert "There is no such" in answer.text
    assert browser.get("/_ui/").headers["location"] == "/_ui"


def test_looking_creates_no_queue(gateway: Gateway, browser: Browser) -> None:
    assert browser.get(f"/_ui/queues/{QUEUE}").status_code == 404
    assert browser.do(f"/_ui/queues/{QUEUE}/pause").status_code == 404
    text = browser.get("/_ui").text
    assert gateway.mq.queues() == []
    assert "No queue to see yet" in text


def test_a_queue_that_does_not_exist_is_said_not_to(gateway: Gateway, visit: Callable[..., Browser]) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    gateway.mq.queue_message("order-secrets", 1)
    answer = visit("stats", queues=["order", QUEUE]).get("/_ui/queues/order")
    assert answer.status_code == 404
    assert "There is no queue order. Did you mean orders?" in answer.text
    assert "secrets" not in answer.text


def test_many_queues_are_shown_page_by_page_and_can_be_sought(gateway: Gateway, browser: Browser) -> None:
    for number in range(55):
        gateway.mq.queue_message(f"q-{number:02}", 1)
    first, second = browser.get("/_ui"), browser.get("/_ui?page=2")
    assert {"/_ui/queues/q-00", "/_ui/queues/q-49"} <= links(first)
    assert "/_ui/queues/q-50" not in links(first)
    assert "/_ui/queues/q-54" in links(second)
    assert {link for link in links(browser.get("/_ui?q=-07")) if "queues/" in link} == {"/_ui/queues/q-07"}


# --- What a token allows ---


def test_only_queues_that_the_token_may_count_are_shown(gateway: Gateway, visit: Callable[..., Browser]) -> None:
    for name in ("orders", "orders.eu", "secret"):
        gateway.mq.queue_message(name, 1)
    text = visit("stats", queues=["orders*"]).get("/_ui").text
    assert "orders.eu" in text
    assert "secret" not in text
    assert "orders" not in visit("get").get("/_ui").text


def test_a_queue_that_is_not_there_and_one_that_is_not_allowed_look_alike(
    gateway: Gateway, visit: Callable[..., Browser]
) -> None:
    gateway.mq.queue_message("secret", 1)
    browser = visit("stats", "get", queues=["orders"])
    there, not_there = browser.get("/_ui/queues/secret"), browser.get("/_ui/queues/nowhere")
    assert there.status_code == not_there.status_code == 403
    without_id = [re.sub(r"<code>\w+</code>", "", answer.text) for answer in (there, not_there)]
    assert without_id[0] == without_id[1]


def test_messages_take_get(gateway: Gateway, visit: Callable[..., Browser]) -> None:
    id = gateway.mq.queue_message(QUEUE, "the body")
    browser = visit("stats")
    text = browser.get(f"/_ui/queues/{QUEUE}?list=ready").text
    assert "the body" not in text
    assert id not in text
    assert browser.get(f"/_ui/queues/{QUEUE}/messages/{id}").status_code == 403
    assert browser.get(f"/_ui/find?queue={QUEUE}&id={id}").status_code == 403


ACTIONS = ["pause", "resume", "redrive", "messages/{id}/redrive", "messages/{id}/cancel", "messages/{id}/delete"]


@pytest.mark.parametrize("action", ACTIONS)
def test_who_may_only_look_sees_no_action_and_is_refused(
    gateway: Gateway, visit: Callable[..., Browser], orders: Orders, action: str
) -> None:
    id = dead_letter(gateway, orders)
    browser = visit("stats", "get", "queue", "work")
    path = f"/_ui/queues/{QUEUE}/" + action.format(id=id)
    shown = links(browser.get(f"/_ui/queues/{QUEUE}")) | links(browser.get(f"/_ui/queues/{QUEUE}/messages/{id}"))
    assert not shown & {f"/_ui/queues/{QUEUE}/" + one.format(id=id) for one in ACTIONS}
    with orders.unchanged():
        assert browser.get(path).status_code == 403
        assert browser.post(path, {"tag": browser.tag()}).status_code == 403


def test_who_may_delete_may_delete_and_no_more(gateway: Gateway, visit: Callable[..., Browser], orders: Orders) -> None:
    id = dead_letter(gateway, orders)
    browser = visit("stats", "get", "delete")
    message = f"/_ui/queues/{QUEUE}/messages/{id}"
    shown = links(browser.get(message))
    assert f"{message}/delete" in shown
    assert f"{message}/redrive" not in shown
    assert browser.do(f"{message}/delete").status_code == 303
    assert browser.get(message).status_code == 404


# --- What can be done ---


def test_pausing_and_resuming(gateway: Gateway, browser: Browser) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    queue = f"/_ui/queues/{QUEUE}"
    assert f"{queue}/pause" in links(browser.get(queue))
    answer = browser.do(f"{queue}/pause")
    assert (answer.status_code, answer.headers["location"]) == (303, queue)
    assert gateway.mq.stats(QUEUE).paused
    told = browser.get(queue)
    assert "Paused. Workers get nothing more" in told.text
    assert f"{queue}/resume" in links(told)
    assert "Paused. Workers get nothing more" not in browser.get(queue).text
    assert browser.do(f"{queue}/resume").status_code == 303
    assert not gateway.mq.stats(QUEUE).paused


def test_redriving_one_and_all(gateway: Gateway, browser: Browser, orders: Orders) -> None:
    first, *_ = [dead_letter(gateway, orders, number) for number in range(4)]
    message = f"/_ui/queues/{QUEUE}/messages/{first}"
    assert browser.do(f"{message}/redrive").headers["location"] == message
    assert "Redriven: 1." in browser.get(message).text
    assert gateway.mq.get_message(QUEUE, first).status is Status.PENDING
    (step,) = [step for step in gateway.mq.get_message(QUEUE, first).history if step.event == "redriven"]
    assert step.by == "tests"
    assert browser.do(f"/_ui/queues/{QUEUE}/redrive").status_code == 303
    assert "Redriven: 3." in browser.get(f"/_ui/queues/{QUEUE}").text
    assert gateway.mq.stats(QUEUE).dead == 0
    waiting = f"/_ui/queues/{QUEUE}/messages/{gateway.mq.queue_message(QUEUE, 1)}"
    assert browser.do(f"{waiting}/redrive").status_code == 404


def test_deleting(gateway: Gateway, browser: Browser) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    message = f"/_ui/queues/{QUEUE}/messages/{id}"
    assert browser.do(f"{message}/delete").headers["location"] == f"/_ui/queues/{QUEUE}"
    assert browser.get(message).status_code == 404


def test_cancelling(gateway: Gateway, browser: Browser, orders: Orders) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    message = f"/_ui/queues/{QUEUE}/messages/{id}"
    assert f"{message}/cancel" in links(browser.get(message))
    assert "Cancel this message?" in browser.get(f"{message}/cancel").text
    assert browser.do(f"{message}/cancel").headers["location"] == message
    told = browser.get(message)
    assert "Cancelled." in told.text
    assert not {f"{message}/cancel", f"{message}/redrive"} & links(told)
    assert id in browser.get(f"/_ui/queues/{QUEUE}?list=finished").text
    assert gateway.mq.get_message(QUEUE, id).error["reason"] == "cancelled"
    (held,) = orders.deliver("held")
    place = f"/_ui/queues/{QUEUE}/messages/{id_text(held.id)}"
    browser.do(f"{place}/cancel")
    assert "Its worker is told." in browser.get(place).text
    assert orders.complete(held) == [None]
    browser.do(f"{place}/cancel")
    assert "It had finished before." in browser.get(place).text


def test_a_notice_says_only_what_this_page_says(browser: Browser) -> None:
    for value in ("pwned.1", f"redriven.{'9' * 50}", "redriven.<b>", "redriven", "."):
        browser.cookies["redisq_notice"] = value
        assert 'class="notice"' not in browser.get("/_ui").text


# --- When Redis is away ---


def test_without_redis_the_page_says_so_and_comes_back(
    make_gateway: MakeGateway, start_server: Callable[[], embedded.EmbeddedServer], namespace: str
) -> None:
    server = start_server()
    gateway = make_gateway(settings_for(server.url, namespace, retry_deadline=0.1, connect_timeout=1))
    browser = Browser(gateway)
    browser.sign_in(gateway.token())
    assert browser.get("/_ui").status_code == 200
    server.close()
    for path in ("/_ui", f"/_ui/queues/{QUEUE}", f"/_ui/queues/{QUEUE}/messages/{ID}"):
        answer = browser.get(path)
        assert answer.status_code == 503
        assert "Redis is away" in answer.text
        assert answer.headers["retry-after"] == "2"
        assert server.url.rpartition(":")[2] not in answer.text


# --- Files ---


def test_what_the_pages_name_is_there(browser: Browser) -> None:
    page = browser.get("/_ui")
    named = [str(given.get("src") or given["href"]) for tag, given in elements(page) if tag in ("script", "link")]
    assert len(named) == 3
    for address in named:
        answer = browser.get(address)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "immutable" in answer.headers["cache-control"]
    assert {browser.get(address).headers["content-type"].partition(";")[0] for address in named} == {
        *("text/css", "text/javascript", "image/svg+xml")
    }
    assert browser.get("/_ui/static/page.py").status_code == 404


def test_a_file_is_kept_for_good_only_under_its_own_version(browser: Browser) -> None:
    page = browser.get("/_ui")
    named = [str(given.get("src") or given["href"]) for tag, given in elements(page) if tag in ("script", "link")]
    for address in named:
        path, _, version = address.partition("?")
        whole = browser.get(address).content
        for query in ("", "?", "?v=", "?v=000000000000", f"?{version}0", f"?{version[:-1]}", f"?{version}&x=1", "?x=1"):
            answer = browser.get(path + query)  # as a page of a gateway of another version asks
            assert (answer.status_code, answer.content) == (200, whole)
            assert answer.headers["cache-control"] == "no-store", query


def test_nothing_comes_from_elsewhere(browser: Browser) -> None:
    for path in ("/_ui", "/_ui/sign-in"):
        addresses = [
            str(text)
            for _, given in elements(browser.get(path))
            for name, text in given.items()
            if name in ("src", "href", "action")
        ]
        assert all(address.startswith(("/_ui", "#")) for address in addresses)
    style = browser.get("/_ui/static/page.css").text
    assert "url(" not in style
    assert "@import" not in style


def test_a_queue_that_needs_a_newer_gateway_is_left_out_and_says_why(
    make_gateway: MakeGateway, real_server: Any, namespace: str
) -> None:
    gateway = make_gateway(settings_for(real_server.url, namespace))
    browser = Browser(gateway)
    browser.sign_in(gateway.token())
    for queue in ("mails", "orders"):
        gateway.mq.queue_message(queue, "hello")
    with redis.Redis.from_url(real_server.url, protocol=2) as raw:
        raw.hset(partition_keys(namespace, "orders").config, "needs", "groups@9.1.0")
    listed = browser.get("/_ui")
    assert listed.status_code == 200
    assert "mails" in listed.text
    assert "orders" not in listed.text
    refused = browser.get("/_ui/queues/orders")
    assert refused.status_code == 503
    assert "needs a newer gateway" in refused.text
