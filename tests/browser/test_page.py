"""The page in a browser: what a person does with it, what he sees, and what messages cannot do there."""

from __future__ import annotations

import re
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from redisq import Status, embedded, store
from redisq.body import codec
from redisq.gateway.page.session import COOKIE
from redisq.model.delivery import Failure
from redisq.store.keys import partition_keys
from tests.browser.conftest import DESKTOP, PHONE, MakeVisit, Visit, serving
from tests.conftest import settings_for
from tests.gateway.conftest import QUEUE, Gateway
from tests.scripts.conftest import Orders
from tests.support.servers.proxy import Proxy

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

NASTY = [
    "<script>window.pwned = 1; alert(1)</script>",
    "<img src=x onerror='window.pwned = 1; alert(2)'>",
    '"><svg onload=alert(3)>',
    "'-alert(4)-'",
    "</code></pre><iframe src=javascript:alert(5)></iframe>",
    "{{ 7 * 7 }}<b id=injected>bold</b>",
    "javascript:alert(6)",
]


def fail(orders: Orders, message: str = "no stock", kind: str = "ValueError") -> None:
    """Let the message at the head of the queue die."""
    (delivery,) = orders.claim(1).deliveries
    error = codec.encode({"type": kind, "message": message})
    failure = Failure(delivery.receipt, error, final=True)
    (failed,) = orders.run(store.deliveries.fail(orders.keys, orders.limits, [failure]))
    assert failed.delay is None


def filled(gateway: Gateway, orders: Orders) -> dict[str, str]:
    """Put messages of each status into the queue, and give their ids."""
    ids = {"dead": gateway.mq.queue_message(QUEUE, {"sku": "A-1"})}
    fail(orders)
    ids["done"] = gateway.mq.queue_message(QUEUE, {"sku": "A-2", "lines": [{"qty": 1, "price": 9.5}] * 3})
    orders.complete(orders.claim(1).deliveries[0].receipt, result={"total": 28.5})
    ids["held"] = gateway.mq.queue_message(QUEUE, {"sku": "A-3"})
    orders.claim(1)
    ids["ready"] = gateway.mq.queue_message(QUEUE, {"sku": "A-4"})
    ids["later"] = gateway.mq.queue_message(QUEUE, {"sku": "A-5"}, delay=3600)
    return ids


# --- What a person does ---


def test_sign_in_look_a_message_up_and_redrive_it(visit: MakeVisit, gateway: Gateway, orders: Orders) -> None:
    id = gateway.mq.queue_message(QUEUE, {"sku": "A-1"})
    fail(orders)
    one = visit()
    page = one.sign_in()
    page.get_by_label("Queue", exact=True).fill(QUEUE)
    page.get_by_label("Message id").fill(id)
    page.get_by_role("button", name="Look up").click()
    page.get_by_role("heading", name=id).wait_for()
    assert "no stock" in page.inner_text("main")
    page.get_by_role("link", name="Redrive").click()
    dialog = page.get_by_role("dialog", name="Redrive this message?")
    dialog.get_by_role("link", name="Cancel").click()
    assert gateway.mq.get_message(QUEUE, id).status is Status.ERROR
    page.get_by_role("link", name="Redrive").click()
    dialog.get_by_role("button", name="Redrive").click()
    page.get_by_text("Redriven: 1.").wait_for()
    assert gateway.mq.get_message(QUEUE, id).status is Status.PENDING
    page.get_by_role("button", name="Sign out").click()
    page.get_by_text("You have signed out.").wait_for()
    assert [cookie["name"] for cookie in one.context.cookies()] == []


def test_pause_and_resume(visit: MakeVisit, gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    page = visit().sign_in()
    page.get_by_role("link", name=QUEUE).click()
    page.get_by_role("link", name="Pause").click()
    dialog = page.get_by_role("dialog", name="Pause this queue?")
    dialog.wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert page.evaluate("document.activeElement.textContent") == "Pause"
    assert not gateway.mq.stats(QUEUE).paused
    page.get_by_role("link", name="Pause").click()
    dialog.get_by_role("button", name="Pause").click()
    page.get_by_role("link", name="Resume").click()
    assert gateway.mq.stats(QUEUE).paused
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("link", name="Pause").wait_for()
    assert not gateway.mq.stats(QUEUE).paused


def test_figures_move_and_focus_stays(visit: MakeVisit, gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    page = visit().sign_in()
    page.evaluate("window.same = true")
    page.get_by_role("link", name=QUEUE).focus()
    gateway.mq.queue_messages(QUEUE, range(41))
    page.locator("#queues td[data-label=Ready]", has_text="42").wait_for()
    page.locator("#queues svg.spark").wait_for()
    assert page.evaluate("window.same")
    assert page.evaluate("document.activeElement.textContent") == QUEUE


def test_who_listens_is_told_of_dead_letters_and_of_nothing_else(
    visit: MakeVisit, gateway: Gateway, orders: Orders
) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    page = visit().sign_in()
    gateway.mq.queue_message(QUEUE, 2)
    page.locator("#queues td[data-label=Ready]", has_text="2").wait_for()
    assert page.locator("#said").inner_text() == ""
    fail(orders)
    page.locator("#said", has_text=f"Dead letters in {QUEUE}: 1").wait_for(state="attached")


def test_live_figures_can_be_switched_off(visit: MakeVisit, gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    page = visit().sign_in()
    button = page.get_by_role("button", name="Live")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    gateway.mq.queue_message(QUEUE, 2)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3000)  # in which it would have asked
    assert asked == []
    button.click()
    page.locator("#queues td[data-label=Ready]", has_text="2").wait_for()


def test_a_token_that_expires_ends_the_session_and_says_so(visit: MakeVisit, gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    one = visit()
    page = one.sign_in()
    gateway.verifier.known.clear()
    page.get_by_text("Your session has ended.").wait_for()
    one.wrong.clear()  # the browser logs the 401
    page.reload()
    page.get_by_role("heading", name="Sign in").wait_for()
    one.wrong.clear()


# --- Without scripts ---


def test_without_scripts_all_can_be_read_and_done(visit: MakeVisit, gateway: Gateway, orders: Orders) -> None:
    ids = filled(gateway, orders)
    page = visit(java_script_enabled=False).sign_in()
    assert page.get_by_role("button", name="Live").count() == 0
    page.get_by_role("link", name=QUEUE).click()
    page.get_by_role("link", name=re.compile("^Dead")).click()
    page.get_by_role("link", name=ids["dead"]).click()
    assert "A-1" in page.inner_text("main")
    page.get_by_role("link", name="Redrive").click()
    page.get_by_role("heading", name="Redrive this message?").wait_for()
    page.get_by_role("button", name="Redrive").click()
    page.get_by_text("Redriven: 1.").wait_for()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("Deleted.").wait_for()


# --- What messages cannot do ---


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_content_stays_text(visit: MakeVisit, gateway: Gateway, orders: Orders, scripts: bool) -> None:
    for nasty in NASTY:
        gateway.mq.queue_message(QUEUE, nasty)
        fail(orders, message=nasty, kind=nasty)
    dead = gateway.mq.queue_message(QUEUE, {nasty: nasty for nasty in NASTY})
    fail(orders, message="\n".join(NASTY), kind=NASTY[0])
    done = gateway.mq.queue_message(QUEUE, NASTY)
    orders.complete(orders.claim(1).deliveries[0].receipt, result=NASTY)
    gateway.mq.queue_messages(QUEUE, NASTY)
    held = gateway.mq.queue_message(QUEUE, NASTY[0])
    one = visit(java_script_enabled=scripts)
    one.sign_in()
    lists = [f"/_ui/queues/{QUEUE}?list={word}" for word in ("ready", "in_progress", "dead", "finished")]
    for path in ("/_ui", *lists, *(f"/_ui/queues/{QUEUE}/messages/{id}" for id in (dead, done, held))):
        page = one.open(path)
        text = page.inner_text("body")
        if "messages/" in path:
            assert "<script>window.pwned" in text
        found = {
            tag: page.locator(tag).count() for tag in ("img", "iframe", "#injected", "main script", "main svg[onload]")
        }
        assert set(found.values()) == {0}, (path, found)
        if scripts:
            assert page.evaluate("window.pwned") is None


def test_an_inline_script_would_not_run_even_if_it_got_in(visit: MakeVisit) -> None:
    one = visit()
    page = one.sign_in()
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.pwned = 1\">')")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.pwned = 1'}))")
    page.wait_for_function("performance.getEntriesByType('resource').some((entry) => entry.name.endsWith('/x'))")
    assert page.evaluate("window.pwned") is None
    assert any("Content Security Policy" in text for text in one.wrong)
    one.wrong.clear()


def test_no_script_can_read_the_token(visit: MakeVisit) -> None:
    one = visit()
    page = one.sign_in()
    assert page.evaluate("document.cookie") == ""
    (cookie,) = one.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (COOKIE, True, "Strict", "/_ui")


# --- Without Redis ---


def test_an_outage_is_told_and_passes_by_itself(chrome: Browser, namespace: str, tmp_path: Path) -> None:
    server = embedded.start(tmp_path)
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(server.url))
        served = stack.enter_context(serving(settings_for(proxy.url, namespace, retry_deadline=0.1, connect_timeout=1)))
        context = stack.enter_context(closing(chrome.new_context()))
        served.gateway.mq.queue_message(QUEUE, 1)
        page = Visit(context, served.url, served.gateway).sign_in()
        server.close()
        page.get_by_text("is away").wait_for()
        other = context.new_page()
        other.goto(f"{served.url}/_ui")
        other.get_by_role("heading", name="Redis is away").wait_for()
        with embedded.start(tmp_path) as again:
            proxy.target = again.url
            other.get_by_role("heading", name="Queues").wait_for()
            page.get_by_text("is away").wait_for(state="hidden")
            assert page.locator("#said").inner_text() == "Redis is back."


# --- For everybody: keyboard, screen readers, small screens, light and dark ---


def test_the_keyboard_skips_to_the_content(visit: MakeVisit) -> None:
    page = visit().sign_in()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def places(ids: dict[str, str]) -> dict[str, str]:
    """Each page by a name for its picture."""
    queue = f"/_ui/queues/{QUEUE}"
    lists = {word: f"{queue}?list={word}" for word in ("ready", "scheduled", "in_progress", "dead", "finished")}
    messages = {f"message-{word}": f"{queue}/messages/{ids[word]}" for word in ("dead", "done")}
    rest = {"empty-queue": "/_ui/queues/nothing-here", "confirm": f"{queue}/redrive", "range": f"{queue}?range=60"}
    wrong = {"not-found": f"{queue}/messages/none", "sign-in": "/_ui/sign-in"}
    return {"queues": "/_ui", **lists, **messages, **rest, **wrong}


def assert_accessible(page: Page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical", "moderate")]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in grave] == [], page.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_each_page_is_accessible_and_fits(
    visit: MakeVisit, gateway: Gateway, orders: Orders, shots: Path, scheme: str, size: dict[str, int]
) -> None:
    ids = filled(gateway, orders)
    one = visit(color_scheme=scheme, viewport=size, reduced_motion="reduce")
    one.sign_in()
    for name, path in places(ids).items():
        page = one.open(path)
        page.screenshot(path=shots / f"{name}-{scheme}-{size['width']}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert_accessible(page)
    page = one.open(f"/_ui/queues/{QUEUE}")
    page.get_by_role("link", name="Pause").click()
    page.get_by_role("dialog").wait_for()
    assert_accessible(page)
    one.wrong[:] = [text for text in one.wrong if "404" not in text]  # which the browser logs


#: What of a page ends right of the window: nothing may, but what is cut with an ellipsis or can be scrolled to.
OUTSIDE = """
[...document.querySelectorAll("body *")].filter((one) => {
  const box = one.getBoundingClientRect();
  if (box.right <= innerWidth + 1 || !box.width || one.closest(".hidden, .skip")) return false;
  for (let up = one.parentElement; up; up = up.parentElement) {
    const style = getComputedStyle(up);
    if (style.textOverflow === "ellipsis" || ["auto", "scroll"].includes(style.overflowX)) return false;
  }
  return true;
}).map((one) => one.outerHTML.slice(0, 200))
"""
LONG = "Unexpected" * 12


@pytest.mark.parametrize("width", [1280, 1100, 700, 360])
def test_long_names_and_errors_do_not_widen_a_page(
    visit: MakeVisit, gateway: Gateway, orders: Orders, shots: Path, width: int
) -> None:
    name = LONG + "queue128"
    orders.keys = partition_keys(gateway.context.settings.namespace, name)
    dead = gateway.mq.queue_message(name, {LONG * 3: LONG * 9})
    fail(orders, message=LONG * 20, kind=f"{LONG}.{LONG}.{LONG}")
    gateway.mq.queue_message(name, "1" * 60)
    held = gateway.mq.queue_message(name, LONG * 9)
    orders.claim(1, worker=LONG[:64])
    gateway.mq.define(name, paused=True, max_length=10**12)
    one = visit(viewport={"width": width, "height": 800})
    one.sign_in()
    queue = f"/_ui/queues/{name}"
    lists = [f"{queue}?list={word}" for word in ("ready", "in_progress", "dead")]
    messages = [f"{queue}/messages/{id}" for id in (dead, held, "0" * 200)]
    confirm = [f"{queue}/resume", f"{queue}/messages/{dead}/delete"]
    for number, path in enumerate(["/_ui", f"/_ui?q={LONG}x", queue, *lists, *messages, *confirm, "/_docs"]):
        page = one.open(path)
        page.evaluate("long => document.querySelectorAll('.app, .namespace').forEach(e => e.textContent = long)", LONG)
        page.screenshot(path=shots / f"long-{number}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate(OUTSIDE) == [], path
    one.wrong[:] = [text for text in one.wrong if "404" not in text]


def test_an_empty_namespace_says_what_to_do(visit: MakeVisit) -> None:
    page = visit().sign_in()
    page.get_by_role("heading", name="No queue to see yet").wait_for()
    assert_accessible(page)
