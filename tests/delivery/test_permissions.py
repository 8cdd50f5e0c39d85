"""A user who may not run one of a script's commands is refused, and nothing is half-written."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from importlib.resources import files

import pytest

from redisq import Unavailable, guide
from redisq.link.aio import AsyncLink
from redisq.link.listener import Listener
from redisq.link.sync import Link
from redisq.store import scripts
from tests.conftest import Raw, settings_for
from tests.scripts.conftest import Orders
from tests.support.queues.calls import CASES, everything
from tests.support.servers.own_server import OwnServer

GUIDE = guide.read("production")
ALL = ("on", "nopass", "~*", "+@all")
#: what redisq sends itself, beside what its scripts run
SENT = {"eval", "evalsha", "blpop", "info", "client|setname", "select"}


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
    run = {command.lower() for name in names for command in scripts.load(name).commands}
    assert [rule for rule in shown_rules() if rule[0] == "+"] == [f"+{command}" for command in sorted(run | SENT)]


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
    """Wait for a bell that does not ring, in a database that has to be selected."""
    bell = Listener(AsyncLink(settings_for(url, orders.raw.settings.namespace)), orders.keys.bell)
    try:
        assert not await bell.wait(0.01)
    finally:
        await bell.close()
