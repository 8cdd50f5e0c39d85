"""Revocation by the command line, at two gateways with their usual settings; and what an attacker at Redis can undo."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from redisq import Credentials, Status, embedded, tokens
from redisq.errors import RedisQError
from redisq.operations import applications
from redisq.store.keys import apps_key, queues_key
from redisq.tokens.applications import Application, MasterKey, MasterKeys
from redisq.tokens.scopes import Scopes
from tests.conftest import settings_for
from tests.gateway.conftest import MASTER, MakeGateway, Office
from tests.support.gateways.in_process import LiveGateway
from tests.support.gateways.processes import EVERYTHING, PATIENCE, Fleet, Gate
from tests.support.servers.proxy import until
from tests.support.shell import Shell

pytestmark = pytest.mark.system


@pytest.fixture
def fleet(real_server: embedded.EmbeddedServer, namespace: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(settings_for(real_server.url, namespace, master_key=MASTER.text()), tmp_path)
    yield fleet
    fleet.close()


@pytest.fixture
def office(fleet: Fleet, tmp_path: Path) -> Shell:
    """The command line of who has the master key."""
    shell = Shell(fleet.settings.url, fleet.settings.namespace, tmp_path)
    shell.environment["REDISQ_MASTER_KEY"] = MASTER.text()
    return shell


def token_for(gate: Gate, client: tuple[str, str]) -> httpx.Response:
    return httpx.post(f"{gate.url}/_token", auth=client, data={"grant_type": "client_credentials"}, timeout=PATIENCE)


def test_whatever_is_revoked_dies_at_every_gateway(fleet: Fleet, office: Shell, figure: Callable[[str], None]) -> None:
    gates = [fleet.add(), fleet.add()]
    names = ("disabled", "one", "all", "rotated")
    made = {name: office.json("app", "create", name, "--allow-all") for name in names}
    clients = {name: (one["app_id"], one["app_secret"]) for name, one in made.items()}
    found = {name: Credentials.parse(*client) for name, client in clients.items()}
    signed = {name: fleet.sign(one) for name, one in found.items()}
    signed["narrowed from one"] = tokens.narrow(signed["one"], queues=["orders"])
    spared = fleet.sign(found["one"])
    for gate in gates:
        for token in [*signed.values(), spared]:
            until(lambda gate=gate, token=token: gate.status("/orders", token) == 200, PATIENCE)
    began: dict[str, float] = {}
    for name, command in {
        "disabled": ("app", "disable", "disabled"),
        "one": ("app", "revoke", "one", "--token", signed["one"]),
        "all": ("app", "revoke", "all", "--all"),
        "rotated": ("app", "rotate", "rotated", "--overlap", "0"),
    }.items():
        office.text(*command)
        began[name] = time.monotonic()
    began["narrowed from one"] = began["one"]

    def refused_after(gate: Gate, name: str) -> float:
        until(lambda: gate.status("/orders", signed[name]) == 401, PATIENCE)
        return time.monotonic() - began[name]

    with ThreadPoolExecutor() as pool:
        waited = [pool.submit(refused_after, gate, name) for gate in gates for name in signed]
        longest = max(one.result() for one in waited)
    for gate in gates:
        assert gate.ask("GET", "/orders", signed["one"]).json()["error"]["code"] == "invalid_token"
        assert gate.status("/orders", spared) == 200
        for name in ("disabled", "rotated"):
            assert token_for(gate, clients[name]).status_code == 401
        assert token_for(gate, clients["all"]).status_code == 200, "its secret goes on"
    figure(f"revoked by `redisq app`, refused at two gateways: {longest:.1f} s at most (5 s allowed)")


@pytest.fixture
def gateway(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[LiveGateway]:
    """A gateway in this process."""
    gateway = LiveGateway(settings_for(real_server.url, namespace, master_key=MASTER.text()))
    yield gateway
    gateway.close()


REVOKED: dict[str, Callable[[LiveGateway, str], Any]] = {
    "revoked": lambda gateway, token: applications.revoke(gateway.settings, "shop", token),
    "all revoked": lambda gateway, _: applications.revoke_all(gateway.settings, "shop"),
    "disabled": lambda gateway, _: applications.switch(gateway.settings, "shop", disabled=True),
    "rotated": lambda gateway, _: applications.rotate(gateway.settings, "shop", 0),
    "allowed less": lambda gateway, _: applications.allow(gateway.settings, "shop", Scopes.parse(["stats:*"])),
}


@pytest.mark.parametrize("how", REVOKED)
def test_a_revocation_reaches_who_waits(gateway: LiveGateway, how: str) -> None:
    """Neither the result that comes nor the message that comes is handed out; the message goes back, uncharged."""
    mq = gateway.office
    shop = gateway.enrol("shop", "kid-s", MASTER, EVERYTHING)
    other = gateway.enrol("other", "kid-o", MASTER, EVERYTHING)
    audience = gateway.settings.token_audience
    token, good = (
        tokens.sign(one, audience=audience, ops=["get", "work"], queues=["*"], now=time.time()) for one in (shop, other)
    )
    id = gateway.queue("orders", {"secret": 1})
    (held,) = gateway.post("/orders/_claim", good, {}).json()["deliveries"]
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(gateway.ask, "GET", f"/orders/{id}?wait=30", token)]
        waits += [pool.submit(gateway.ask, "POST", "/later/_claim", token, {"wait": 30})]
        until(lambda: len(gateway.context.waits._waiting) == 2)
        gateway.change(REVOKED[how](gateway, token))
        assert gateway.post(f"/orders/{id}/_complete", good, {"receipt": held["receipt"]}).status == 204
        later = gateway.queue("later", {"secret": 2})
        for wait in waits:
            answer = wait.result()
            assert (answer.status, answer.code) == (
                (403, "forbidden") if how == "allowed less" else (401, "invalid_token")
            )
            assert b"secret" not in answer.body
    until(lambda: mq.get_message("later", later).status == Status.PENDING)
    assert [step.event for step in mq.get_message("later", later).history] == ["released"]


def test_a_revocation_ends_a_stream(gateway: LiveGateway) -> None:
    shop = gateway.enrol("shop", "kid-s", MASTER, EVERYTHING)
    token = tokens.sign(
        shop, audience=gateway.settings.token_audience, ops=["queue"], queues=["*"], now=time.time(), ttl=600
    )

    def lines() -> Iterator[bytes]:
        yield b'{"n": 1}\n'
        until(lambda: gateway.office.stats("orders").queued == 1)
        gateway.change(applications.revoke(gateway.settings, "shop", token))
        yield b'{"n": 2}\n'

    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    answer = httpx.post(f"{gateway.url}/orders", content=lines(), headers=headers, timeout=PATIENCE)
    first, second = map(json.loads, answer.text.splitlines())
    assert first.keys() == {"id"}
    assert second["error"]["code"] == "invalid_token"
    assert gateway.office.stats("orders").queued == 1


def test_who_was_revoked_shuts_out_nobody_else(
    make_gateway: MakeGateway, real_server: embedded.EmbeddedServer, namespace: str
) -> None:
    """It goes on trying, maybe for long, from an address that others have, too."""
    office = Office(make_gateway, settings_for(real_server.url, namespace), failures=3)
    shop, other = office.create("shop", EVERYTHING), office.create("other", EVERYTHING)
    audience = office.gateway.context.settings.token_audience
    token, good = (
        tokens.sign(one, audience=audience, ops=["stats"], queues=["*"], now=time.time()) for one in (shop, other)
    )
    later = tokens.sign(shop, audience=audience, ops=["stats"], queues=["*"], now=time.time() + 3600)
    office.change(applications.revoke(office.gateway.context.settings, "shop", token))
    office.gateway.mq.define("orders", lease=30)
    for bad in [token, later] * 5:
        assert office.gateway.call("GET", "/orders", token=bad).status_code == 401
    assert office.gateway.call("GET", "/orders", token=good).status_code == 200
    for _ in range(3):
        assert office.gateway.call("GET", "/orders", token=good[:-2]).status_code == 401
    assert office.gateway.call("GET", "/orders", token=good[:-2]).status_code == 429
    assert office.gateway.call("GET", "/orders", token=good).status_code == 200


# --- Who can write to Redis, and has no master key ---


@pytest.fixture
def below(gateway: LiveGateway) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(gateway.settings.url, protocol=2) as client:
        yield client


def test_what_is_written_to_redis_by_others_lets_nobody_in(gateway: LiveGateway, below: redis.Redis) -> None:
    """Records of another master key, of another application, of another namespace, changed ones, old ones, none."""
    apps = apps_key(gateway.settings.namespace)
    shop, poor = gateway.enrol("shop", "kid-s", MASTER, EVERYTHING), gateway.enrol("poor", "kid-p", MASTER, "get:x")
    audience = gateway.settings.token_audience

    def sign(credentials: Credentials) -> str:
        return tokens.sign(credentials, audience=audience, ops=["stats"], queues=["*"], now=time.time())

    def status(token: str) -> int:
        below.hset(apps, "#", f"g{time.monotonic_ns()}")  # so that every gateway reads it
        gateway.change(applications.read(gateway.settings))
        return gateway.get("/orders", token).status

    token, other = sign(shop), sign(poor)
    genuine, small = below.hget(apps, "shop"), below.hget(apps, "poor")
    below.hset(queues_key(gateway.settings.namespace), "orders", 1)
    assert (status(token), status(other)) == (200, 403)
    thief = MasterKey.generate()
    mine = gateway.settings.model_copy(update={"namespace": "mine"})
    elsewhere = gateway.office._run(applications.create(mine, "poor", Scopes.parse([EVERYTHING]))).application
    parts = small.split(b".")
    stolen = thief.credentials("poor", "kid-p")
    wide = Application("poor", 2**40, 1, Scopes.parse([EVERYTHING]), elsewhere.keys)
    for record in (
        genuine,  # of another application, which may more
        wide.to_record(gateway.settings.namespace, MasterKeys((thief,))).encode(),
        wide.to_record(gateway.settings.namespace, MasterKeys((MasterKey(MASTER.kid, thief.key),))).encode(),
        wide.to_record("mine", MasterKeys((MASTER,))).encode(),
        b".".join([*parts[:2], genuine.split(b".")[2], parts[3]]),
        small[:-1] + (b"A" if small[-1:] != b"A" else b"Q"),
        b"",
        b"rqa1",
        b"\xff" * 300_000,
        b"rqa1." + b"a" * 300_000,
    ):
        below.hset(apps, "poor", record)
        assert (status(other), status(sign(stolen)), status(token)) == (401, 401, 200), record[:40]
    below.hdel(apps, "poor")
    assert status(other) == 401
    below.hset(apps, "poor", small)
    assert status(other) == 403, "what is put back as it was counts again"
    gateway.change(applications.switch(gateway.settings, "shop", disabled=True))
    assert status(token) == 401
    below.hset(apps, "shop", genuine)
    assert status(token) == 401, "an older record than was seen counts as none"
    below.delete(apps)
    assert status(token) == 401
    below.hset(apps, "shop", genuine)
    assert status(token) == 401
    below.delete(apps)
    poor = gateway.change(applications.create(gateway.settings, "poorer", Scopes.parse(["stats:*"]))).credentials
    assert status(sign(poor)) == 200
    below.delete(apps)
    below.set(apps, "no hash at all")
    with pytest.raises(RedisQError):
        gateway.change(applications.read(gateway.settings))
    clock = gateway.registry._clock
    gateway.registry._clock = lambda: clock() + 31
    answer = gateway.get("/orders", sign(poor))
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "unavailable", "1")
