"""`redisq app`: applications in the registry, with REDISQ_MASTER_KEY; their Redis users; and what is refused."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from redisq import RedisQ, Unavailable, embedded, store, tokens
from redisq.link.sync import Link
from redisq.operations.caller import limits_of
from redisq.settings import Settings
from redisq.store import acl, scripts
from redisq.store.call import new_nonce
from redisq.store.keys import partition_keys, queues_key
from redisq.tokens import Credentials
from redisq.tokens.applications import MasterKey
from redisq.tokens.scopes import EVERYTHING, OPS, Scopes
from tests.conftest import REAL_SERVERS, settings_for, start
from tests.scripts.conftest import new
from tests.support.shell import Shell

MASTER = MasterKey.generate().text()
NONE = [pytest.param("none", marks=pytest.mark.skip("no real Redis here"))]


@pytest.fixture(params=REAL_SERVERS or NONE, ids=lambda name: name.rpartition("/")[2])
def own(request: pytest.FixtureRequest) -> Iterator[embedded.EmbeddedServer]:
    """A server of a test's own: users belong to all of a server."""
    with start(request.param) as server:
        yield server


@pytest.fixture
def office(shell: Shell) -> Shell:
    """The shell of who has the master key."""
    shell.environment["REDISQ_MASTER_KEY"] = MASTER
    return shell


@pytest.fixture
def below(own: embedded.EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own.url, protocol=2) as client:
        yield client


def exported(text: str) -> dict[str, str]:
    return dict(line.removeprefix("export ").split("=", 1) for line in text.splitlines())


# --- The registry ---


def test_an_application_from_its_first_day_to_its_last(office: Shell) -> None:
    lines = office.text("app", "create", "shop", "--allow", "queue,get:orders", "--allow", "work:reports.*")
    made = exported(lines)
    assert Credentials.parse(made["REDISQ_APP_ID"], made["REDISQ_APP_SECRET"]).app == "shop"
    assert "shop" in office.text("app", "list")
    (listed,) = office.json("app", "list")["applications"]
    shown = office.json("app", "show", "shop")
    assert listed == shown
    assert shown["allowance"] == ["get:orders", "queue:orders", "work:reports.*"]
    assert [key["kid"] for key in shown["keys"]] == [made["REDISQ_APP_SECRET"].split(".")[1]]

    token = office.text("token", "create", **made)
    office.text("app", "revoke", "shop", "--token", token)
    office.text("app", "revoke", "shop", "--token", "-", input=token)
    id = tokens.inspect(token)["payload"]["jti"]
    assert "revoked the token (by its id), and" in office.text("app", "revoke", "shop", "--token", id)
    assert "revoked the token, and" in office.text("app", "revoke", "shop", "--token", token)
    assert list(office.json("app", "show", "shop")["revoked"]) == [tokens.inspect(token)["payload"]["jti"]]
    assert (
        office.json("app", "revoke", "shop", "--all")["not_before"] > office.json("app", "show", "shop")["created_at"]
    )

    new = office.json("app", "rotate", "shop", "--overlap", "1h")
    assert Credentials.parse("shop", new["app_secret"]).kid != made["REDISQ_APP_SECRET"].split(".")[1]
    assert new["old_until"].endswith("Z")
    assert "--overlap 0" in office.error("app", "rotate", "shop")
    assert len(office.json("app", "show", "shop")["keys"]) == 2
    assert exported(office.text("app", "rotate", "shop", "--overlap", "0"))["REDISQ_APP_ID"] == "shop"
    assert len(office.json("app", "show", "shop")["keys"]) == 1

    office.text("app", "allow", "shop", "--allow-all")
    assert office.json("app", "show", "shop")["allowance"] == EVERYTHING.texts()
    assert "shop is disabled. There is no Redis user shop." in office.text("app", "disable", "shop")
    assert "disabled" in office.text("app", "list")
    assert office.json("app", "enable", "shop") == {"name": "shop", "disabled": False, "redis_user": "none"}


def test_it_is_said_when_an_application_was_last_changed_before_it_is(office: Shell) -> None:
    """An old record that somebody put back shows by that."""
    office.text("app", "create", "shop", "--allow", "get:orders")
    token = ("--token", "some-id")
    for command in (["allow", "--allow", "get:*"], ["disable"], ["enable"], ["revoke", "--all"], ["revoke", *token]):
        shown = office.json("app", "show", "shop")
        first, *rest = office.text("app", command[0], "shop", *command[1:]).splitlines()
        assert first == f"shop was last changed {shown['changed_at']}, version={shown['version']}"
        assert rest
    for command in (["allow", "--allow", "get:*"], ["revoke", "--all"], ["revoke", *token], ["rotate"]):
        shown = office.json("app", "show", "shop")
        changed = office.json("app", command[0], "shop", *command[1:])
        assert changed["before"] == {"version": shown["version"], "changed_at": shown["changed_at"]}


@pytest.mark.parametrize("line", ["eval $(cat lines)", 'eval "$(cat lines)"'])
def test_a_shell_reads_the_credentials_beside_what_is_said(office: Shell, line: str) -> None:
    office.text("app", "create", "shop", "--allow", "get:orders")
    shown = office.json("app", "show", "shop")
    (office.folder / "lines").write_text(office.text("app", "rotate", "shop"))
    done = subprocess.run(["sh", "-c", f"{line}; env"], cwd=office.folder, capture_output=True, text=True, check=True)
    found = dict(one.split("=", 1) for one in done.stdout.splitlines() if one.startswith("REDISQ_APP_"))
    assert Credentials.parse(found["REDISQ_APP_ID"], found["REDISQ_APP_SECRET"]).app == "shop"
    said = (office.folder / "lines").read_text().splitlines()[-1]
    assert said == f"# shop was last changed {shown['changed_at']}, version={shown['version']}"


def test_no_command_but_the_two_shows_a_secret(office: Shell) -> None:
    made = exported(office.text("app", "create", "shop", "--allow-all"))
    key = made["REDISQ_APP_SECRET"].split(".")[2]
    for command in (["list"], ["show", "shop"], ["disable", "shop"], ["revoke", "shop", "--all"], ["acl", "shop"]):
        for done in (office.run("app", *command), office.run("app", *command, "--json")):
            assert done.returncode == 0, done.stderr
            assert key not in done.stdout + done.stderr
            assert MASTER.split(".")[2] not in done.stdout + done.stderr


def test_a_master_key_that_works(office: Shell) -> None:
    (line,) = office.text("app", "master-key").splitlines()
    assert re.fullmatch(r"export REDISQ_MASTER_KEY=rqm1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{43}", line)
    other = office.json("app", "master-key")["master_key"]
    office.text("app", "create", "shop", "--allow", "get:a", REDISQ_MASTER_KEY=other)
    told = office.run("app", "list")
    assert "the record of shop does not verify" in told.stderr
    assert office.json("app", "list") == {"applications": [], "unverified": ["shop"]}
    assert "does not verify" in office.error("app", "show", "shop")
    assert "--replace" in office.error("app", "create", "shop", "--allow", "get:b")
    assert office.json("app", "show", "shop", REDISQ_MASTER_KEY=f"{MASTER},{other}")["allowance"] == ["get:a"]
    office.text("app", "create", "shop", "--allow", "get:b", "--replace")
    assert office.json("app", "show", "shop")["allowance"] == ["get:b"]


def test_without_a_master_key_credentials_are_made_and_nothing_else(shell: Shell) -> None:
    nowhere = {"REDISQ_URL": "redis://127.0.0.1:1", "REDISQ_APP_SECRET": "guessed"}
    assert exported(shell.text("app", "create", "shop", **nowhere))["REDISQ_APP_ID"] == "shop"
    for arguments in (["--allow", "get:orders"], ["--allow-all"], ["--replace"], ["--url", "redis://127.0.0.1:1"]):
        assert "REDISQ_MASTER_KEY is not set" in shell.error("app", "create", "shop", *arguments, **nowhere)
    for command in (["list"], ["show", "a"], ["rotate", "a"], ["disable", "a"], ["revoke", "a", "--all"], ["acl", "a"]):
        assert "`redisq app master-key` prints a new one" in shell.error("app", *command, **nowhere)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["create", "shop"], "--allow-all"),
        (["create", "shop", "--allow", "get:a", "--allow-all"], "--allow-all"),
        (["allow", "shop"], "--allow-all"),
        (["revoke", "shop"], "--token"),
        (["revoke", "shop", "--all", "--token", "x"], "--token"),
        (["rotate", "shop", "--overlap", "soon"], "not a number"),
        (["rotate", "shop", "--overlap", "400d"], "year"),
    ],
)
def test_wrong_usage(office: Shell, arguments: list[str], told: str) -> None:
    done = office.run("app", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_what_is_refused(office: Shell) -> None:
    office.text("app", "create", "shop", "--allow", "get:orders")
    assert "already" in office.error("app", "create", "shop", "--allow", "get:orders")
    assert "is no scope" in office.error("app", "create", "mail", "--allow", "read:orders")
    assert "application's name" in office.error("app", "create", "a b", "--allow", "get:orders")
    assert "no application 'mail'" in office.error("app", "disable", "mail")
    assert "no whole token" in office.error("app", "revoke", "shop", "--token", "rq1.a.b")
    assert "no whole token" in office.error("app", "revoke", "shop", "--token", "rq1.")
    assert "no whole token" in office.error("app", "revoke", "shop", "--token", "rq1")
    assert office.json("app", "show", "shop")["revoked"] == {}
    assert "rqm1." in office.error("app", "list", REDISQ_MASTER_KEY="correct horse")
    assert "correct horse" not in office.error("app", "list", REDISQ_MASTER_KEY="correct horse")
    assert "cannot be reached" in office.error("app", "list", "--url", "redis://127.0.0.1:1")


def test_narrowing_to_pairs_and_addresses(shell: Shell) -> None:
    token = shell.text("token", "create")
    id = shell.text("queue", "orders", "1")
    pairs = shell.text("token", "narrow", token, "--scope", "queue,get:orders")
    assert shell.json("get", "orders", id, "--token", pairs)["id"] == id
    assert "does not allow" in shell.error("delete", "orders", id, "--token", pairs)
    bound = shell.text("token", "narrow", pairs, "--ip", "10.0.0.0/8", "--ip", "2001:db8::1")
    assert "bound to addresses" in shell.error("get", "orders", id, "--token", bound)
    allows = shell.json("token", "inspect", bound)["allows"]
    assert (allows["scope"], allows["ip"]) == (["get:orders", "queue:orders"], ["10.0.0.0/8", "2001:db8::1/128"])
    assert "is no scope" in shell.error("token", "narrow", token, "--scope", "read:a")
    assert "10.0.0.0/8" in shell.error("token", "narrow", token, "--ip", "localhost")


# --- Rules for Redis ---

ALLOWANCE = "queue,get,delete,stats,work,admin:orders"


def test_every_script_belongs_to_an_operation() -> None:
    """A new script goes to the operations that run it, or to those that no application runs in direct mode."""
    from importlib.resources import files

    names = {path.name.removesuffix(".lua") for path in files(scripts).iterdir() if path.name.endswith(".lua")}
    elsewhere = {"permitted", "applications", "application", "take"}  # asked beforehand; the gateway's and the office's
    assert {name for some in acl.SCRIPTS.values() for name in some} | {*acl.EVERYWHERE} == names - elsewhere
    assert set(acl.SCRIPTS) == OPS


def test_names_are_no_patterns() -> None:
    assert acl.key_patterns("re.dis-q", Scopes.parse(["get:a.b", "get:c-*"])) == [
        "re.dis-q:1:{a.b#*",
        "re.dis-q:1:{a.b}:*",
        "re.dis-q:1:{c-*",
        "re.dis-q:1:queues",
    ]
    assert acl._escaped("a*[b]?\\^") == "a\\*\\[b\\]\\?\\\\\\^"
    assert "~redisq:1:{*" in acl.rules("redisq", EVERYTHING, "pw")


def test_only_who_administrates_every_queue_may_look_at_all_keys() -> None:
    assert "scan" in acl.commands(EVERYTHING)
    assert "scan" not in acl.commands(Scopes.parse(["admin:a*", "get:*"]))
    assert "blpop" not in acl.commands(Scopes.parse(["queue,get,delete,stats,admin:*"]))


@pytest.fixture
def user(own: embedded.EmbeddedServer, office: Shell, below: redis.Redis) -> Callable[..., Settings]:
    """Register an application, make the Redis user that `redisq app acl` shows, and give its settings."""
    office.environment["REDISQ_URL"] = own.url

    def make(name: str, *allow: str) -> Settings:
        allowed = [part for text in allow for part in ("--allow", text)]
        made = exported(office.text("app", "create", name, *allowed))
        shown = office.run("app", "acl", name, "--json")
        assert shown.returncode == 0
        import json

        rules = json.loads(shown.stdout)
        assert below.execute_command(*rules["command"].split(" ")) == b"OK"
        url = own.url.replace("unix://", f"unix://{rules['user']}:{rules['password']}@")
        values = {"app_id": name, "app_secret": made["REDISQ_APP_SECRET"]}
        return settings_for(url, office.environment["REDISQ_NAMESPACE"], retry_deadline=0.2, **values)

    return make


def everything(below: redis.Redis, namespace: str) -> dict[bytes, Any]:
    return {key: below.dump(key) for key in below.scan_iter(f"{namespace}:*")}


REFUSED = "its ACL does not allow|may not run"


def test_such_a_user_can_work_on_its_queue_alone(
    user: Callable[..., Settings], below: redis.Redis, own: embedded.EmbeddedServer
) -> None:
    settings = user("shop", ALLOWANCE, "queue,get,work:reports.*")
    namespace = settings.namespace
    with RedisQ(settings=settings_for(own.url, namespace)) as others:
        ids = {name: others.queue_message(name, 1) for name in ("mail", "orders2", "order", "report", "reports")}
    before = everything(below, namespace)
    link, limits = Link(settings), limits_of(settings)

    def claim(name: str) -> Any:
        return link.call(
            store.deliveries.claim(partition_keys(namespace, name), limits, "w", new_nonce(), 9)
        ).deliveries

    with RedisQ(settings=settings) as mq:
        for name, id in ids.items():
            for attempt in (
                lambda name=name: mq.queue_message(name, 2),
                lambda name=name: mq.queue_messages(name, [1, 2]),
                lambda name=name, id=id: mq.get_message(name, id),
                lambda name=name, id=id: mq.delete_message(name, id),
                lambda name=name: mq.stats(name),
                lambda name=name: mq.define(name, paused=True),
                lambda name=name: mq.purge(name),
                lambda name=name: mq.drop(name),
                lambda name=name: claim(name),
            ):
                with pytest.raises(Unavailable, match=REFUSED):
                    attempt()
        with pytest.raises(Unavailable, match=REFUSED):
            mq.queue_message("invoices", 1)  # which nobody has used
        assert everything(below, namespace) == before

        for name in ("orders", "reports.1"):
            id, other = mq.queue_messages(name, [1, 2])
            keys = partition_keys(namespace, name)
            one, two = claim(name)
            assert link.call(store.deliveries.renew(keys, limits, [(one.receipt, b"")]))
            assert link.call(store.deliveries.complete(keys, limits, [(one.receipt, b"\x01")])) == [None]
            assert link.call(store.deliveries.release(keys, limits, [two.receipt])) == [None]
            (two,) = claim(name)
            link.call(store.deliveries.fail(keys, limits, [_final(two.receipt)]))
            assert mq.get_message(name, id).result == 1
            assert (mq.stats(name).dead, mq.redrive(name), mq.get_message(name, other).status) == (1, 1, "PENDING")
            mq.delete_message(name, other)
            mq.define(name, paused=True)
            mq.sweep(name)
            assert [finding for finding in mq.doctor(name) if finding.severity == "error"] == []
            link.call(store.deliveries.leave(keys, limits, "w"))
            mq.drop(name)
    link.close()
    assert everything(below, namespace) == before


def _final(receipt: Any) -> Any:
    from redisq.model.delivery import Failure
    from tests.scripts.conftest import ERROR

    return Failure(receipt, ERROR, final=True)


def test_a_user_of_few_operations(user: Callable[..., Settings], below: redis.Redis) -> None:
    settings = user("reader", "get:orders")
    namespace = settings.namespace
    with RedisQ(settings=settings) as mq:
        for attempt in (lambda: mq.queue_message("orders", 1), lambda: mq.stats("orders"), lambda: mq.drop("orders")):
            with pytest.raises(Unavailable, match=REFUSED):
                attempt()
        with pytest.raises(Exception, match="no message with this id"):
            mq.get_message("orders", "05749898-74a0-47e1-b10d-5acf29d040c4")
    assert not below.exists(queues_key(namespace), partition_keys(namespace, "orders").stream)


def test_partitions_are_within_the_rules(user: Callable[..., Settings], own: embedded.EmbeddedServer) -> None:
    settings = user("shop", "queue:orders")
    link, limits = Link(settings), limits_of(settings)
    where = partition_keys(settings.namespace, "orders", 3, 8)
    assert link.call(store.messages.queue(where, limits, [new()])) == [None]
    for name in ("orders2", "mail"):
        with pytest.raises(Unavailable, match=REFUSED):
            link.call(store.messages.queue(partition_keys(settings.namespace, name, 3, 8), limits, [new()]))
    link.close()


def test_disabling_cuts_off_who_is_connected(user: Callable[..., Settings], office: Shell, below: redis.Redis) -> None:
    settings = user("shop", "queue:orders")
    with RedisQ(settings=settings) as mq:
        mq.queue_message("orders", 1)
        connected = [entry["id"] for entry in below.client_list() if entry["user"] == "shop"]
        assert connected
        told = office.text("app", "disable", "shop")
        assert "Its Redis user is off, and its connections are closed; make it so in Redis' configuration" in told
        assert not [entry for entry in below.client_list() if entry["id"] in connected]
        with pytest.raises(Unavailable, match="user name or password"):
            mq.queue_message("orders", 1)
        assert office.json("app", "enable", "shop")["redis_user"] == "on"
        mq.queue_message("orders", 1)


@pytest.mark.parametrize("kind", REAL_SERVERS or NONE, ids=lambda name: name.rpartition("/")[2])
def test_with_an_acl_file_it_lasts(office: Shell, kind: str) -> None:
    users = office.folder / "users.acl"
    users.write_text("user default on nopass ~* &* +@all\n")
    with start(kind, options={"aclfile": str(users)}) as server, redis.Redis.from_url(server.url) as below:
        office.environment["REDISQ_URL"] = server.url
        office.text("app", "create", "shop", "--allow", "get:orders")
        below.execute_command(*office.text("app", "acl", "shop").split(" "))
        assert office.text("app", "disable", "shop").endswith("closed, and the ACL file is written.")
    assert "user shop off" in users.read_text()


def test_users_that_are_no_applications_are_left_alone(
    own: embedded.EmbeddedServer, office: Shell, below: redis.Redis
) -> None:
    office.environment["REDISQ_URL"] = own.url
    namespace = office.environment["REDISQ_NAMESPACE"]
    below.execute_command("ACL", "SETUSER", "ops", "on", ">pw", "~*", "+@all")
    below.execute_command("ACL", "SETUSER", "both", "on", ">pw", f"~{namespace}:1:{{a}}:*", "~cache:*", "+get")
    below.execute_command("ACL", "SETUSER", "mine", "on", "nopass", f"~{namespace}:1:*", "+@all")
    for name, state in (("ops", "foreign"), ("both", "foreign"), ("default", "none"), ("mine", "off")):
        office.text("app", "create", name, "--allow", "get:orders")
        assert office.json("app", "disable", name)["redis_user"] == state
    users = [row.decode().split() for row in below.execute_command("ACL", "LIST")]
    assert {user[1]: user[2] for user in users} == {"ops": "on", "both": "on", "default": "on", "mine": "off"}
    assert "of everybody" in office.error("app", "acl", "default")
    # It would lock itself out.
    office.text("app", "enable", "mine")
    as_mine = own.url.replace("unix://", "unix://mine:any@")
    assert office.json("app", "disable", "mine", REDISQ_URL=as_mine)["redis_user"] == "foreign"


def test_who_may_not_touch_users_is_told_how_to_by_hand(
    own: embedded.EmbeddedServer, office: Shell, below: redis.Redis
) -> None:
    namespace = office.environment["REDISQ_NAMESPACE"]
    below.execute_command("ACL", "SETUSER", "office", "on", "nopass", f"~{namespace}:*", "+@all", "-acl")
    office.environment["REDISQ_URL"] = own.url.replace("unix://", "unix://office:any@")
    office.text("app", "create", "shop", "--allow", "get:orders")
    told = office.text("app", "disable", "shop")
    assert "by hand: ACL SETUSER shop off and CLIENT KILL USER shop" in told
    assert office.json("app", "show", "shop")["disabled"]
