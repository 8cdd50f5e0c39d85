"""A real browser: Chromium as the distribution packages it, driven by Playwright. It loads nothing but our gateway."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from redisq import AsyncRedisQ, RedisQ, Settings, embedded
from redisq.gateway.app import create_app
from redisq.gateway.context import Context
from redisq.gateway.settings import GatewaySettings
from tests.conftest import CREDENTIALS, Raw, settings_for
from tests.gateway.conftest import Gateway, KnownApplications, Served
from tests.scripts.conftest import Orders

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 780}


def chromium() -> str | None:
    """Where Chromium is, REDISQ_TEST_CHROMIUM before whatever is on PATH; None where it is not."""
    return os.environ.get("REDISQ_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def chrome() -> Iterator[Browser]:
    """The browser, which ends with the session."""
    driver = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[dev]' brings playwright")
    program = chromium()
    if program is None:
        pytest.fail("no Chromium here; on Debian and Ubuntu: apt install chromium")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A window of the browser at a served gateway, and all that went wrong in it."""

    def __init__(self, context: BrowserContext, base: str, gateway: Gateway) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.base = base
        self.gateway = gateway
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on(
            "console", lambda line: self.wrong.append(line.text) if line.type in ("error", "warning") else None
        )
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))
        self.page.on(
            "request", lambda request: None if request.url.startswith(base) else self.wrong.append(request.url)
        )

    def open(self, path: str) -> Page:
        self.page.goto(self.base + path)
        return self.page

    def sign_in(self, token: str | None = None) -> Page:
        page = self.open("/_ui/sign-in")
        page.get_by_label("Token").fill(token or self.gateway.token())
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Queues", exact=True).wait_for()
        return page


MakeVisit = Callable[..., Visit]


@contextmanager
def serving(settings: Settings, **options: Any) -> Iterator[Served]:
    """Serve a gateway. It has no loop of its own beside the server's: Playwright's runs in this thread."""
    verifier = KnownApplications(settings.token_audience, CREDENTIALS)
    context = Context(AsyncRedisQ(settings=settings), verifier, settings, GatewaySettings(**options))
    with RedisQ(settings=settings) as mq:
        served = Served(Gateway(create_app(context), context, asyncio.Runner(), mq, verifier))
        try:
            yield served
        finally:
            context.stopping.set()
            served.close()


@pytest.fixture
def served(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[Served]:
    """A gateway on a port."""
    with serving(settings_for(real_server.url, namespace)) as served:
        yield served


@pytest.fixture
def gateway(served: Served) -> Gateway:
    """The gateway that is served, and a client beside it."""
    return served.gateway


@pytest.fixture
def visit(chrome: Browser, served: Served, gateway: Gateway) -> Iterator[MakeVisit]:
    """Open windows, each with cookies of its own. Nothing may have gone wrong in them in the end."""
    made: list[Visit] = []

    def begin(**how: Any) -> Visit:
        made.append(Visit(chrome.new_context(**{"viewport": DESKTOP, **how}), served.url, gateway))
        return made[-1]

    yield begin
    for one in made:
        one.context.close()
    assert [text for one in made for text in one.wrong] == []


@pytest.fixture
def orders(raw_real: Raw) -> Orders:
    """The queue `orders` from below."""
    return Orders(raw_real)


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages go."""
    return tmp_path_factory.mktemp("screenshots")
