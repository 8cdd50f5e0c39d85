"""A user who may not run one of a script's commands is refused, and nothing is half-written."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from importlib.resources import files

import pytest

from redisq import AsyncRedisQ, Delivery, Unavailable, Worker, guide, store
from redisq.link.aio import AsyncLink
from redisq.link.listener import Listener, Subscriber
from redisq.link.sync import Link
from redisq.store import scripts
from tests.conftest import Raw, settings_for
from tests.scripts.conftest import Orders
from tests.support.queues.calls import CASES, everything
from tests.support.servers.own_server import OwnServer

GUIDE = guide.read("production")
ALL = ("on", "nopass", "~*", "+@all")
#: what redisq sends itself, beside what its scripts run
SENT = {"eval", "evalsha", "blpop", "info", "client|setname", "select", "subscribe"}
#: what its scripts may do without
TRIED = {"publish"}


def shown_rules() -> list[str]:
    """The rules of the guide's ACL SETUSER, after the user's name."""
    (shown,) = re.findall(r"`ACL SETUSER shop ([^`]+)`", GUIDE)
    return shown.split()


def as_user(server: OwnServer, name: str) -> str:
    return server.url.replace("unix://", f"unix://{name}:any@")


@pytest.mark.full(keep=8)
@pytest.mark.parametrize("script", CASES)
def test_a_forbidden_command_leaves_nothing_half_written(
    own_server: Callable[..., OwnServer], below: Callable[..., Raw], script: str
) -> None:
    """Each command of the script is forbidden in turn, and the call refused whether it would run that one or not."""
    server = own_server()
    raw = below(server)
    if not raw.redis.eval("return redis.acl_check_cmd and 1 or 0", 0):
        pytest.skip("before Redis 7.0 scripts cannot ask what a user may do; the guide says so")
    orders, link = Orders(raw), Link(settings_for(as_user(server, "limited"), raw.settings.namespace))
    call = CASES[script](orders, everything(orders))
    try:
        for command in call.script.commands:
            server.admin.execute_command("ACL", "SETUSER", "limited", *ALL, f"-{command.lower()}")
            with (
                orders.unchanged(),
                pytest.raises(Unavailable, match=rf"this user may not run {command}\. Give it the commands"),
            ):
                link.call(call)
        server.admin.execute_command("ACL", "SETUSER", "limited", *ALL)
        link.call(call)  # that the ACL is mended is seen at once
    finally:
        link.close()


def test_the_rules_shown_are_what_redisq_sends_and_its_scripts_run() -> None:
    """When this fails, put the expected commands into the guide."""
    names = [path.name.removesuffix(".lua") for path in files(scripts).iterdir() if path.name.endswith(".lua")]
    run = {command.lower() for name in names for command in scripts.load(name).commands} | SENT | TRIED
    assert [rule for rule in shown_rules() if rule[0] == "+"] == [f"+{command}" for command in sorted(run)]


def test_a_user_of_the_rules_shown_can_do_everything(
    own_server: Callable[..., OwnServer], below: Callable[..., Raw]
) -> None:
    server = own_server()
    raw = below(server)
    orders, shop = Orders(raw), as_user(server, "shop")
    rules = [rule.replace("redisq:", f"{raw.settings.namespace}:").replace("PASSWORD", "any") for rule in shown_rules()]
    server.admin.execute_command("ACL", "SETUSER", "shop", *rules)
    link = Link(settings_for(shop, raw.settings.namespace))
    try:
        for case in CASES.values():
            raw.redis.flushall()
            link.call(case(orders, everything(orders)))
    finally:
        link.close()
    asyncio.run(hear(orders, f"{shop}?db=1"))


async def hear(orders: Orders, url: str) -> None:
    """Wait for a bell that does not ring, and for a hint, in a database that has to be selected."""
    link = AsyncLink(settings_for(url, orders.raw.settings.namespace))
    bell = Listener(link, orders.keys.bell)
    try:
        assert not await bell.wait(0.01)
    finally:
        await bell.close()
    orders.redis.flushall()
    (held,) = orders.deliver("held")
    heard = Subscriber(link, [orders.keys.hints]).heard()
    assert await anext(heard) == (orders.keys.hints, b"")
    hint = asyncio.ensure_future(anext(heard))
    other = AsyncLink(settings_for(url.removesuffix("?db=1"), orders.raw.settings.namespace))
    cancel = store.messages.cancel(orders.keys, orders.limits, "shop", [held.id])
    while not hint.done():
        assert await other.call(cancel) == [None]
        await asyncio.wait([hint], timeout=0.01)
    assert await hint == (orders.keys.hints, held.id)
    await heard.aclose()
    await other.close()


#: users that may do all but what hints take
UNHINTED = {
    "no-publish": [*ALL, "allchannels", "-publish", "-subscribe"],
    "no-channel": [*ALL, "resetchannels"],
    "other-channel": [*ALL, "resetchannels", "&other:*"],
}


@pytest.mark.parametrize("user", UNHINTED)
def test_without_the_right_to_hint_all_else_goes_on(
    own_server: Callable[..., OwnServer], below: Callable[..., Raw], user: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The heartbeat tells, and nobody is troubled with a line in the log."""
    server = own_server()
    raw = below(server, lease=0.6)
    server.admin.execute_command("ACL", "SETUSER", user, *UNHINTED[user])
    settings = raw.settings.model_copy(update={"url": as_user(server, user)})
    worker = Worker(settings=settings)

    @worker.handler("orders")
    async def hang(delivery: Delivery) -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        running = asyncio.create_task(worker.run_async())
        async with AsyncRedisQ(settings=settings) as mq:
            await mq.queue_message("orders", 0)
            ids = [await mq.queue_message("orders", n) for n in range(2)]
            while (await mq.stats("orders")).in_progress < 3:
                await asyncio.sleep(0.005)
            assert await mq.cancel_message("orders", ids[0]) is None
            assert (await mq.get_message("orders", ids[0], wait=30)).error["reason"] == "cancelled"
            await mq.delete_message("orders", ids[1])
            waiting = await mq.queue_message("orders", "later", delay=60)
            assert await mq.cancel_message("orders", waiting) is True
        worker.stop()
        worker.stop()
        assert await running == 0

    asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert not [text for text in said if "hint" in text or "subscri" in text or "publish" in text]
