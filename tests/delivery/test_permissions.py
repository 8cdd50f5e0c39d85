"""A user who may not run one of a script's commands is refused, and nothing is half-written."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from redisq import RedisQError, scripts
from redisq.connection import Link
from tests.conftest import Raw, settings_for
from tests.delivery.servers import OwnServer
from tests.scripts.cases import CASES, everything
from tests.scripts.conftest import Orders

_COMMAND = re.compile(rb"redis\.call\('(\w+)'")


@pytest.mark.parametrize("script", CASES)
def test_a_forbidden_command_leaves_nothing_half_written(
    own_server: Callable[..., OwnServer], below: Callable[..., Raw], script: str
) -> None:
    """Each command of the script is forbidden in turn. Not every one is run by this call; one that is, is refused."""
    server = own_server()
    raw = below(server)
    orders, refused, changed = Orders(raw), set[str](), set[str]()
    url = server.url.replace("unix://", "unix://limited:any@")
    for command in sorted({word.decode() for word in _COMMAND.findall(scripts.load(script).text)}):
        raw.redis.flushall()
        call = CASES[script](orders, everything(orders))
        commands = ["+@all", f"-{command.lower()}"]
        server.admin.acl_setuser("limited", enabled=True, nopass=True, keys=["*"], commands=commands)
        before, link = raw.digest(), Link(settings_for(url, raw.settings.namespace))
        try:
            link.call(call)
        except RedisQError:
            refused.add(command)
            if raw.digest() != before:
                changed.add(command)
        finally:
            link.close()
    assert refused
    assert not changed
