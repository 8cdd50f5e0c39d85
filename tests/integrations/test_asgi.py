"""The gateway as a part of another application."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Mount

from redisq import InvalidSettings, RedisQ, Settings
from redisq.integrations.asgi import make_gateway, running
from redisq.operations import applications
from redisq.tokens.applications import MasterKey
from redisq.tokens.scopes import Scopes

MASTER = MasterKey.generate()


@pytest.fixture
def of_gateway(settings: Settings) -> Settings:
    """Settings with a master key."""
    return settings.model_copy(update={"master_key": SecretStr(MASTER.text())})


def test_it_is_mounted_under_a_path(of_gateway: Settings, client: RedisQ) -> None:
    client._run(applications.enrol(of_gateway, "web", "k1", Scopes.parse(["queue,get:orders"])))
    credentials = MASTER.credentials("web", "k1")
    gateway = make_gateway("/tools/mq", settings=of_gateway)

    async def visit() -> None:
        app = Starlette(routes=[Mount("/tools/mq", gateway)])
        transport = httpx.ASGITransport(app)
        async with running(gateway), httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
            assert (await http.get("/tools/mq/_ready")).status_code == 200
            page = await http.get("/tools/mq/_ui/sign-in")
            assert (page.status_code, '"/tools/mq/_ui/' in page.text) == (200, True)
            login = (credentials.app, credentials.secret())
            form = {"grant_type": "client_credentials"}
            token = (await http.post("/tools/mq/_token", data=form, auth=login)).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            made = await http.post("/tools/mq/orders", json={"price": 3}, headers=headers)
            assert made.status_code == 201
            place = made.headers["Location"]
            assert place.startswith("/tools/mq/orders/")
            assert (await http.get(place, headers=headers)).json()["request"] == {"price": 3}
            assert (await http.get(place)).status_code == 401
            assert (await http.get("/_ready")).status_code == 404

    asyncio.run(visit())


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("/mq", {"auth": "none"}, "REDISQ_AUTH=none"),
        ("/mq", {"master_key": None}, "REDISQ_MASTER_KEY"),
        ("", {}, "a path of its own"),
        ("mq", {}, "REDISQ_HTTP_ROOT_PATH"),
    ],
)
def test_what_it_cannot_do_it_says(path: str, change: dict[str, object], said: str, of_gateway: Settings) -> None:
    with pytest.raises(InvalidSettings, match=said):
        make_gateway(path, settings=of_gateway.model_copy(update=change))
