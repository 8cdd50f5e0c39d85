"""Applications: what a record proves, what the registry lets pass, and what revoking, rotating and replaying mean."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from redisq import tokens
from redisq.errors import Forbidden, InvalidApplication, InvalidCredentials, InvalidToken, TokenExpired
from redisq.tokens import LEEWAY, Credentials, Grant, applications, lineage
from redisq.tokens.applications import MAX_RECORD_BYTES, MOST_DENIED, Application, MasterKey, MasterKeys, Registry
from redisq.tokens.scopes import EVERYTHING, Scopes
from tests.unit.test_tokens import WEAK_KEYS, WEAK_SECRETS, b64

NOW = 1_800_000_000
AUDIENCE = "redisq:test"
NEW, OLD = (MasterKey(kid, hashlib.sha256(kid.encode()).digest()) for kid in ("master-2", "master-1"))
MASTERS = MasterKeys((NEW, OLD))
ALLOWANCE = Scopes.parse(["queue,get:orders", "work:reports.*"])


def made(name: str = "shop", allowance: Scopes = ALLOWANCE, masters: MasterKeys = MASTERS) -> Application:
    return Application.new(name, allowance, masters, NOW)


def credentials_of(app: Application, index: int = 0) -> Credentials:
    found = app.credentials(app.keys[index], MASTERS)
    assert found is not None
    return found


def token_of(app: Application, index: int = 0, now: float = NOW, **how: Any) -> str:
    how = {"ops": tokens.OPS, "queues": ["*"], **how}
    return tokens.sign(credentials_of(app, index), audience=AUDIENCE, now=now, **how)


def registry(*apps: Application, masters: MasterKeys = MASTERS, before: Registry | None = None) -> Registry:
    records = {app.name: app.to_record("ns", MASTERS).encode() for app in apps}
    return Registry("ns", masters, records, before)


def check(where: Registry, token: str, now: float = NOW) -> Grant:
    return where.verify(token, now, AUDIENCE)


def refused(where: Registry, token: str, now: float = NOW) -> str:
    with pytest.raises(InvalidToken) as caught:
        check(where, token, now)
    assert not any(part in str(caught.value) for part in token.split(".") if len(part) > 20)
    return caught.value.reason


# --- Master keys ---


def test_master_keys_survive_their_text() -> None:
    for key in (MasterKey.generate(), NEW):
        assert MasterKey.parse(key.text()) == key
        assert key.text().split(".")[2] not in repr(key)
    assert MasterKeys.parse(f"{NEW.text()}, {OLD.text()}") == MASTERS
    assert MASTERS.newest == NEW


@pytest.mark.parametrize(
    "text", [str(s).replace("rqs", "rqm") for s in WEAK_SECRETS if isinstance(s, str) and s == s.strip()], ids=ascii
)
def test_weak_master_keys_are_refused_unquoted(text: str) -> None:
    for whole in (text, f"{NEW.text()},{text}"):
        with pytest.raises(InvalidCredentials, match="REDISQ_MASTER_KEY") as caught:
            MasterKeys.parse(whole)
        assert NEW.text() not in str(caught.value)
        assert not text or text not in str(caught.value)


def test_more_that_are_no_master_keys() -> None:
    for key in WEAK_KEYS:
        with pytest.raises(InvalidCredentials):
            MasterKey("kid", key)
    for text in (",", NEW.text() + ",", f"{NEW.text()},{NEW.text()}", NEW.text().replace("rqm1", "rqs1"), "rqm1.k"):
        with pytest.raises(InvalidCredentials):
            MasterKeys.parse(text)


def test_secrets_depend_on_master_key_application_and_key_id() -> None:
    one = NEW.credentials("shop", "k")
    assert one == NEW.credentials("shop", "k")
    others = [OLD.credentials("shop", "k"), NEW.credentials("shopk", "k"), NEW.credentials("shop", "kk")]
    assert len({one.key, *(other.key for other in others)}) == 4
    assert NEW.credentials("ab", "c").key != NEW.credentials("a", "bc").key


# --- Records ---


def test_a_record_says_all_and_holds_no_secret() -> None:
    app = replace(made(), version=7, not_before=NOW - 5, disabled=True, denied={"jti-1": NOW + 9})
    app = replace(app, keys=(*app.keys, replace(app.keys[0], kid="old", master="master-1", not_after=NOW + 60)))
    record = app.to_record("ns", MASTERS)
    assert Application.from_record("ns", "shop", record.encode(), MASTERS) == app
    payload = base64.urlsafe_b64decode(record.split(".")[2] + "==")
    for index in (0, 1):
        assert credentials_of(app, index).key not in payload
        assert credentials_of(app, index).secret().split(".")[2] not in record
    assert record.startswith("rqa1.master-2.")


def test_a_record_of_an_older_master_key_verifies_and_is_rewritten_with_the_newest() -> None:
    app = made(masters=MasterKeys((OLD,)))
    record = app.to_record("ns", MasterKeys((OLD,)))
    assert record.startswith("rqa1.master-1.")
    found = Application.from_record("ns", "shop", record.encode(), MASTERS)
    assert found == app
    assert found.credentials(found.keys[0], MASTERS) == OLD.credentials("shop", found.keys[0].kid)
    assert found.to_record("ns", MASTERS).startswith("rqa1.master-2.")
    assert Application.from_record("ns", "shop", record.encode(), MasterKeys((NEW,))) is None


def test_a_key_counts_as_long_as_its_master_key_does() -> None:
    app = made(masters=MasterKeys((OLD,)))
    where = registry(app)  # a record written by the new key, of a key that the old one made
    assert check(where, token_of(app)).app == "shop"
    gone = Registry("ns", MasterKeys((NEW,)), {"shop": app.to_record("ns", MASTERS).encode()})
    assert gone.applications == {"shop": app}
    assert refused(gone, token_of(app)) == "unknown_key"


def test_what_is_not_as_it_was_written_is_no_record() -> None:
    record = made().to_record("ns", MASTERS).encode()
    version, kid, payload, tag = record.split(b".")
    wider = b64(base64.urlsafe_b64decode(payload + b"==").replace(b"get:orders", b"admin:*")).encode()
    moved = {"another name": ("ns", "billing", record), "another namespace": ("ns2", "shop", record)}
    changed = {
        "payload": b".".join([version, kid, wider, tag]),
        "master key": b".".join([version, b"master-1", payload, tag]),
        "unknown master key": b".".join([version, b"master-9", payload, tag]),
        "version": b".".join([b"rqa2", kid, payload, tag]),
        "tag cut": record[:-1],
        "tag longer": record + b"A",
        "no tag": b".".join([version, kid, payload, b""]),
        "nothing": b"",
        "binary": b"\xff\x00" * 50,
        "dots": b"...",
        "too large": b".".join([version, kid, b"A" * MAX_RECORD_BYTES, tag]),
        "a token": token_of(made()).encode(),
    }
    rows = {**moved, **{name: ("ns", "shop", text) for name, text in changed.items()}}
    assert {name for name, row in rows.items() if Application.from_record(*row, MASTERS) is not None} == set()


@pytest.mark.parametrize("position", range(4))
def test_each_flipped_bit_of_a_record_counts_as_no_record(position: int) -> None:
    record = made().to_record("ns", MASTERS)
    parts = record.split(".")
    for index, bit in ((i, 1 << b) for i in range(len(parts[position])) for b in range(7)):
        text = parts[position]
        other = text[:index] + chr(ord(text[index]) ^ bit) + text[index + 1 :]
        changed = ".".join([*parts[:position], other, *parts[position + 1 :]])
        assert Application.from_record("ns", "shop", changed.encode(), MASTERS) is None


def sealed(payload: object) -> bytes:
    """A record that verifies, of any payload: as a newer redisq may write it."""
    text = b64(json.dumps(payload).encode())
    return f"rqa1.master-2.{text}.{b64(NEW.tag('ns', 'shop', text))}".encode()


def test_a_payload_of_another_shape_counts_as_no_record() -> None:
    good: dict[str, Any] = {
        "version": 1,
        "created_at": 1,
        "allowance": ["get:orders"],
        "keys": [["kid", "master-2", 1, None]],
        "not_before": 0,
        "disabled": False,
        "denied": {},
    }
    assert Application.from_record("ns", "shop", sealed(good), MASTERS) is not None
    bad: list[Any] = [[], 7, "x", {}, good | {"more": 1}]
    bad += [{name: value for name, value in good.items() if name != left_out} for left_out in good]
    for name, values in {
        "version": ["1", None, True, 1.5],
        "allowance": [["fly:orders"], "get:orders", [1], None, []],
        "keys": [
            [["kid"]],
            [[1, "m", 1, None]],
            [["kid", "m", "1", None]],
            [["kid", "m", 1, "9"]],
            "kid",
            7,
            [["k/k", "m", 1, 1]],
        ],
        "not_before": [None, "0"],
        "denied": [[], {"jti": "1"}, None, {"jti": None}],
    }.items():
        bad += [good | {name: value} for value in values]
    for payload in bad:
        assert Application.from_record("ns", "shop", sealed(payload), MASTERS) is None, payload
    unclear = Application.from_record("ns", "shop", sealed(good | {"disabled": 0}), MASTERS)
    assert unclear is not None
    assert unclear.disabled


# --- The registry ---


def test_a_grant_is_capped_by_the_allowance() -> None:
    app = made()
    grant = check(registry(app), token_of(app))
    assert grant.effective() == ALLOWANCE
    grant.require("get", "orders", NOW)
    for op, queue in (("delete", "orders"), ("get", "reports.1"), ("work", "orders"), ("admin", "reports.1")):
        with pytest.raises(Forbidden):
            grant.require(op, queue, NOW)
    assert not grant.allows_everywhere("get")


def test_a_token_may_say_less_than_the_allowance() -> None:
    app = made()
    grant = check(registry(app), token_of(app, ops=["get", "delete"], queues=["orders", "mail"]))
    assert grant.effective().texts() == ["get:orders"]


def test_an_allowance_of_everything_caps_nothing() -> None:
    app = made(allowance=EVERYTHING)
    grant = check(registry(app), token_of(app))
    assert grant.scopes == ()
    assert grant.allows_everywhere("admin")


def test_a_smaller_allowance_counts_for_tokens_made_before() -> None:
    app = made()
    token = token_of(app)
    less = app.with_allowance(Scopes.parse(["get:orders"]), NOW + 1)
    assert check(registry(less), token).effective().texts() == ["get:orders"]


def test_10_an_unknown_key() -> None:
    assert refused(registry(made()), token_of(made())) == "unknown_key"


def test_11_a_retired_key_after_its_overlap() -> None:
    app = made()
    token = token_of(app, ttl=3600)
    rotated = app.rotated(MASTERS, 60, NOW, "kid-new")
    where = registry(rotated)
    assert [key.kid for key in rotated.keys] == ["kid-new", app.keys[0].kid]
    assert check(where, token, NOW + 60).app == check(where, token_of(rotated), NOW + 60).app == "shop"
    assert refused(where, token, NOW + 61) == "unknown_key"
    at_once = app.rotated(MASTERS, 0, NOW, "kid-new")
    assert refused(registry(at_once), token) == "unknown_key"


def test_12_the_key_id_of_another_application() -> None:
    shop, billing = made(), made("billing")
    where = registry(shop, billing)
    own, other = token_of(shop).split("."), token_of(billing).split(".")
    assert refused(where, ".".join([own[0], other[1], *own[2:]])) == "bad_mac"
    lie = Credentials("billing", shop.keys[0].kid, credentials_of(shop).key)
    assert refused(where, tokens.sign(lie, audience=AUDIENCE, ops=["get"], queues=["*"], now=NOW)) == "bad_mac"


def test_38_tokens_issued_before_all_were_revoked() -> None:
    app = made()
    before, same = token_of(app, now=NOW - 1), token_of(app, now=NOW)
    where = registry(app.revoked_all(NOW + 0.9))
    assert [refused(where, token, NOW + 1) for token in (before, same)] == ["revoked"] * 2
    assert refused(where, tokens.narrow(same, ops=["get"]), NOW + 1) == "revoked"
    later = NOW + 1 + int(LEEWAY)
    assert check(where, token_of(app, now=later), later).app == "shop"
    again = app.revoked_all(NOW + 100).revoked_all(NOW + 50)
    assert again.not_before == NOW + 101 + LEEWAY


def test_38_tokens_of_a_clock_that_is_ahead_are_among_those_of_before() -> None:
    """Whatever counts at the moment of the revocation is revoked: also a token of up to `LEEWAY` seconds later."""
    app = made()
    for at in (NOW, NOW + 0.5, NOW + 0.99):
        where = registry(app.revoked_all(at))
        for ahead in (1, 20, LEEWAY):
            token = token_of(app, now=at + ahead)
            assert check(registry(app), token, at).app == "shop"
            for when in (at, at + ahead, at + ahead + 1):
                assert refused(where, token, when) == "revoked", (at, ahead, when)


def test_38_what_a_gateway_issues_counts_soon_after_all_were_revoked() -> None:
    app = made().revoked_all(NOW + 0.9)
    token = token_of(app, now=app.issued_at(NOW + 1))
    assert check(registry(app), token, NOW + 1).app == "shop"
    assert app.issued_at(NOW + 99) == NOW + 99


def test_39_a_token_that_is_denied_and_what_was_narrowed_from_it() -> None:
    app = made()
    parent = token_of(app, jti="jti-1")
    child = tokens.narrow(parent, ops=["get"])
    where = registry(app.revoked("jti-1", None, NOW))
    assert [refused(where, token) for token in (parent, child)] == ["revoked"] * 2
    assert check(where, token_of(app, jti="jti-2")).jti == "jti-2"


def test_denials_are_forgotten_when_the_token_has_expired() -> None:
    app = made().revoked("short", NOW + 10, NOW).revoked("long", None, NOW)
    assert set(app.denied) == {"short", "long"}
    assert set(app.revoked("next", NOW + 99, NOW + 40).denied) == {"short", "long", "next"}
    assert set(app.revoked("next", NOW + 99, NOW + 41).denied) == {"long", "next"}
    assert app.revoked("long", NOW + 1, NOW).denied == app.denied, "what is denied for longer stays so"
    assert app.switched(disabled=True, now=NOW + 40 * 86_400).denied == {}


def test_so_many_denials_and_no_more() -> None:
    app = replace(made(), denied={f"{'j' * 60}{n}": NOW + 9 for n in range(MOST_DENIED)})
    record = app.to_record("ns", MASTERS).encode()
    assert len(record) < MAX_RECORD_BYTES
    assert Application.from_record("ns", "shop", record, MASTERS) == app
    with pytest.raises(InvalidApplication, match="redisq app revoke shop --all"):
        app.revoked("one-more", NOW + 9, NOW)
    with pytest.raises(InvalidApplication, match="token's id"):
        made().revoked("no id", None, NOW)


def test_a_disabled_application() -> None:
    app = made()
    off = app.switched(disabled=True, now=NOW)
    assert refused(registry(off), token_of(app)) == "revoked"
    assert check(registry(off.switched(disabled=False, now=NOW)), token_of(app)).app == "shop"


def test_an_expired_token_is_expired_whatever_else() -> None:
    app = made().switched(disabled=True, now=NOW)
    with pytest.raises(TokenExpired):
        check(registry(app), token_of(app), NOW + 931)


def test_a_token_that_was_good_before_is_good_for_as_long_as_it_would_be_anyway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = made()
    where, token = registry(shop), token_of(shop, ttl=600)
    grant = check(where, token)
    with monkeypatch.context() as patch:
        patch.setattr("redisq.tokens.verify", lambda *_, **__: pytest.fail("it was verified before"))
        assert check(where, token, NOW + 60) == grant
    assert refused(where, token, NOW + 700) == "expired"
    assert check(where, token) == grant
    with pytest.raises(InvalidToken):
        where.verify(token, NOW, "redisq:elsewhere")
    for changed in (
        shop.revoked_all(NOW + 1),
        shop.switched(disabled=True, now=NOW),
        shop.revoked(grant.jti, None, NOW),
    ):
        assert refused(registry(changed, before=where), token) == "revoked"
    retired = registry(shop.rotated(MASTERS, 30, NOW, "new"))
    assert check(retired, token, NOW + 30) == grant
    assert refused(retired, token, NOW + 31) == "unknown_key"


def test_a_token_that_was_good_before_is_known_by_its_whole_text_and_its_audience() -> None:
    app = made(allowance=EVERYTHING)
    where, token = registry(app), token_of(app, ttl=900)
    check(where, token)
    assert refused(where, token[:-1] + ("A" if token[-1] != "A" else "B")) != ""
    assert refused(where, token + "A") != ""
    with pytest.raises(InvalidToken):
        where.verify(token, NOW, "redisq:other")
    assert check(where, token).jti == tokens.inspect(token)["payload"]["jti"]


def test_only_so_many_good_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applications, "_REMEMBERED", 10)
    app = made(allowance=EVERYTHING)
    where, token = registry(app), token_of(app)
    for _ in range(3):
        for number in range(11):  # whoever holds a token can make as many of it as he likes
            check(where, tokens.narrow(token, expires_at=NOW + 800 - number))
        assert len(where._verified) <= 10
    for _ in range(20):
        refused(where, token[:-4] + "AAAA")
    assert len(where._verified) <= 10


def test_a_rotation_at_a_time() -> None:
    app = made().rotated(MASTERS, 60, NOW, "two")
    with pytest.raises(InvalidApplication, match="--overlap 0"):
        app.rotated(MASTERS, 60, NOW + 59, "three")
    assert [key.kid for key in app.rotated(MASTERS, 0, NOW, "three").keys] == ["three"]
    later = app.rotated(MASTERS, 60, NOW + 61, "three")
    assert [(key.kid, key.not_after) for key in later.keys] == [("three", None), ("two", NOW + 121)]
    assert later.keys[0].master == "master-2"


def test_each_change_has_a_higher_version() -> None:
    app = made()
    steps = [app]
    for change in (
        lambda a: a.rotated(MASTERS, 60, NOW, "two"),
        lambda a: a.switched(disabled=True, now=NOW),
        lambda a: a.revoked("jti", None, NOW),
        lambda a: a.revoked_all(NOW),
        lambda a: a.with_allowance(EVERYTHING, NOW - 1000),
    ):
        steps.append(change(steps[-1]))
    assert [step.version for step in steps] == list(range(NOW, NOW + 6))
    assert replace(app, version=5).switched(disabled=True, now=NOW).version == NOW, "above any that was lost"


def test_a_record_that_is_put_back_counts_as_none() -> None:
    """Whoever can write to Redis could undo a revocation so."""
    app = made()
    token = token_of(app)
    first = registry(app)
    off = registry(app.switched(disabled=True, now=NOW), before=first)
    back = registry(app, before=off)
    assert refused(back, token) == "unknown_key"
    assert (back.applications, list(back.replayed)) == ({}, ["shop"])
    removed = registry(before=back)
    assert refused(registry(app, before=removed), token) == "unknown_key"
    with pytest.raises(InvalidCredentials):
        back.authenticate("shop", credentials_of(app).secret(), NOW)
    mended = app.switched(disabled=False, now=NOW + 5)
    assert check(registry(mended, before=back), token).app == "shop"


# --- Lineage ---


def stored(app: Application) -> Application:
    """An application as it is read from its record, which is how each change begins."""
    found = Application.from_record("ns", app.name, app.to_record("ns", MASTERS).encode(), MASTERS)
    assert found == app
    return found


def later(app: Application, changes: int = 1) -> Application:
    """What comes of so many changes, each of the record before."""
    for _ in range(changes):
        app = stored(app.with_allowance(ALLOWANCE, NOW))
    return app


CHANGES: dict[str, Callable[[Application], Application]] = {
    "allow": lambda app: app.with_allowance(EVERYTHING, NOW + 60),
    "rotate": lambda app: app.rotated(MASTERS, 60, NOW + 60, "two"),
    "enable": lambda app: app.switched(disabled=False, now=NOW + 60),
    "revoke": lambda app: app.revoked("another", None, NOW + 60),
    "revoke all": lambda app: app.revoked_all(NOW - 600),
}
REVOCATIONS: dict[str, Callable[[Application], Application]] = {
    "allow": lambda app: app.with_allowance(Scopes.parse(["get:nothing"]), NOW),
    "rotate": lambda app: app.rotated(MASTERS, 0, NOW, "new"),
    "disable": lambda app: app.switched(disabled=True, now=NOW),
    "revoke": lambda app: app.revoked("jti-1", None, NOW),
    "revoke all": lambda app: app.revoked_all(NOW),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("revocation", REVOCATIONS)
def test_what_is_made_of_a_record_that_was_put_back_counts_as_none(revocation: str, change: str) -> None:
    """Else the change would sign anew what was revoked."""
    app = stored(made())
    token = token_of(app, jti="jti-1")
    seen = registry(stored(REVOCATIONS[revocation](app)), before=registry(app))
    made_anew = registry(stored(CHANGES[change](app)), before=seen)
    assert refused(made_anew, token) == "unknown_key"
    assert (made_anew.applications, list(made_anew.strayed), list(made_anew.replayed)) == ({}, ["shop"], [])
    removed = registry(before=made_anew)
    assert refused(registry(later(CHANGES[change](app), 3), before=removed), token) == "unknown_key"


@pytest.mark.parametrize("missed", [0, 1, 64, 899])
def test_changes_that_were_missed_in_between_do_no_harm(missed: int) -> None:
    """A script revokes tokens one by one between two looks, or a gateway is cut off meanwhile."""
    app = stored(made())
    latest = later(app, missed + 1)
    assert registry(latest, before=registry(app)).applications == {"shop": latest}
    assert len(latest.before or ()) == missed + 1


def test_what_many_changes_made_of_a_record_that_was_put_back_counts_as_none() -> None:
    app = stored(made())
    seen = registry(later(app, 100), before=registry(app))
    assert list(registry(later(app, 99), before=seen).replayed) == ["shop"]
    assert list(registry(later(app, 101), before=seen).applications) == ["shop"]
    forged = later(stored(app.revoked("another", None, NOW)), 300)
    assert list(registry(forged, before=seen).strayed) == ["shop"]


def test_more_changes_than_a_record_names_are_too_many() -> None:
    """Whoever has seen none of those that it names cannot tell it from what was made of a replay, nor says it was."""
    app = stored(made())
    named = tuple(lineage.Past(app.version + 1 + n, app.digest) for n in reversed(range(lineage.MOST)))
    latest = later(replace(app, version=app.version + lineage.MOST + 1, before=named))
    assert len(latest.before or ()) == lineage.MOST
    where = registry(latest, before=registry(app))
    assert (where.applications, list(where.overtaken), list(where.strayed)) == ({}, ["shop"], [])
    assert registry(latest).applications == {"shop": latest}, "who starts has seen nothing"
    new = stored(made().instead_of(latest))
    assert registry(new, before=where).applications == {"shop": new}


def test_an_application_that_names_as_much_as_it_may_fits_into_its_record() -> None:
    """Else nobody could revoke anything of it any more."""
    name = "n" * 64
    app = replace(
        stored(made(name)),
        allowance=Scopes.product(["delete"], [f"{'q' * 125}{n}" for n in range(100, 100 + applications.MOST_SCOPES)]),
        denied={f"{'j' * 60}{n}": NOW for n in range(1_000, 1_000 + MOST_DENIED)},
    )
    longest = lineage.after(app.past, [app.past] * lineage.MOST)
    record = replace(app, before=longest).to_record("ns", MASTERS).encode()
    assert len(longest) == lineage.MOST
    assert len(record) < MAX_RECORD_BYTES
    assert Application.from_record("ns", name, record, MASTERS) is not None


def test_another_record_of_the_same_version_counts_as_none() -> None:
    app = stored(made())
    off, on = (stored(app.switched(disabled=disabled, now=NOW)) for disabled in (True, False))
    assert off.version == on.version
    assert list(registry(on, before=registry(off)).strayed) == ["shop"]
    assert registry(off, before=registry(off)).applications == {"shop": off}


def test_an_application_that_is_made_anew_counts_and_nothing_of_the_one_before() -> None:
    app = stored(made())
    seen = registry(stored(app.revoked_all(NOW)), before=registry(app))
    new = stored(made().instead_of(seen.applications["shop"]))
    where = registry(new, before=seen)
    assert check(where, token_of(new)).app == "shop"
    assert refused(where, token_of(app)) == "unknown_key"
    assert list(registry(app, before=where).replayed) == ["shop"]


@pytest.mark.parametrize("changes", [0, 1, 3])
def test_an_application_that_was_made_anew_counts_whatever_its_version(changes: int) -> None:
    """Many changes in one second carry versions ahead of the clock; a record that is gone tells none of them."""
    seen = registry(later(stored(made()), 50))
    anew = stored(Application.new("shop", ALLOWANCE, MASTERS, NOW + 5))
    assert anew.version < seen.applications["shop"].version
    where = registry(later(anew, changes), before=seen)
    assert check(where, token_of(anew)).app == "shop"
    for old in (seen.applications["shop"], later(seen.applications["shop"], 2)):
        assert registry(old, before=where).applications == {}, "the one before is not put back in its turn"


def test_an_application_that_was_made_anew_and_changed_between_two_looks_counts() -> None:
    app = stored(made())
    new = stored(made().instead_of(later(app, 2)))
    latest = later(new, 2)
    assert registry(latest, before=registry(app)).applications == {"shop": latest}
    assert registry(latest, before=registry(new)).applications == {"shop": latest}


def test_a_clock_that_was_ahead_lets_nobody_put_an_old_record_back() -> None:
    """A record counts as made anew by its time, so those that come after it shall not name an earlier one."""
    ahead = stored(Application.new("shop", ALLOWANCE, MASTERS, NOW + 3_600))
    for latest in (
        stored(ahead.switched(disabled=True, now=NOW)),
        stored(made().instead_of(ahead)),
        later(stored(made().instead_of(ahead)), 2),
    ):
        assert list(registry(ahead, before=registry(latest)).replayed) == ["shop"]
        assert list(registry(latest, before=registry(ahead)).applications) == ["shop"]
    root = stored(made().instead_of(later(stored(made()), 50)))
    anew = stored(Application.new("shop", ALLOWANCE, MASTERS, NOW + 9))
    assert root.version > anew.version
    assert registry(root, before=registry(anew, before=registry(root))).applications == {}


def old_record(app: Application) -> Application:
    """An application as a redisq wrote it that named no records of before."""
    found = Application.from_record("ns", "shop", replace(app, before=None).to_record("ns", MASTERS).encode(), MASTERS)
    assert found is not None
    assert found.before is None
    return found


def test_records_without_a_lineage_are_read_on_until_one_has_it() -> None:
    first = old_record(made())
    second = old_record(first.switched(disabled=True, now=NOW))
    assert first.changed_at == first.version
    assert registry(second, before=registry(first)).applications == {"shop": second}
    assert list(registry(first, before=registry(second)).replayed) == ["shop"]
    third = stored(second.switched(disabled=False, now=NOW))
    assert registry(third, before=registry(second)).applications == {"shop": third}
    forged = stored(first.rotated(MASTERS, 60, NOW + 60, "two"))
    assert list(registry(forged, before=registry(second)).strayed) == ["shop"]
    of_an_old_redisq = old_record(replace(third, version=NOW + 99))
    assert list(registry(of_an_old_redisq, before=registry(third)).strayed) == ["shop"]


def test_a_lineage_of_another_shape_makes_no_record() -> None:
    text = stored(made()).to_record("ns", MASTERS).split(".")[2]
    good = json.loads(base64.urlsafe_b64decode(text + "=="))
    digest = lineage.digest_of(text)
    assert Application.from_record("ns", "shop", sealed(good | {"before": [[1, digest]]}), MASTERS) is not None
    for before in (
        *(None, 7, "x", {"a": 1}, [7], [[1]], [["1", digest]], [[True, digest]], [[1, 7]], [[1, digest, 1]]),
        *([[1, digest[:-1]]], [[1, digest]] * (lineage.MOST + 1)),
    ):
        assert Application.from_record("ns", "shop", sealed(good | {"before": before}), MASTERS) is None, before
    for one in ("before", "changed_at"):
        less = {name: value for name, value in good.items() if name != one}
        assert Application.from_record("ns", "shop", sealed(less), MASTERS) is None


def test_records_that_do_not_verify_are_told_of() -> None:
    records = {
        "shop": made().to_record("ns", MASTERS).encode(),
        "odd": b"hello",
        "b": made("a").to_record("ns", MASTERS).encode(),
    }
    where = Registry("ns", MASTERS, records)
    assert (list(where.applications), list(where.unverified)) == (["shop"], ["b", "odd"])
    assert not where.is_foreign
    assert not Registry("ns", MASTERS, {}).is_foreign
    assert Registry("ns", MasterKeys((MasterKey.generate(),)), records).is_foreign


def test_what_did_not_change_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = registry(made("a"), made("b"))
    read: list[str] = []
    monkeypatch.setattr("redisq.tokens.applications._read", lambda namespace, name, *_: read.append(name))
    records = {name: entry.record for name, entry in first._entries.items()}
    again = Registry("ns", MASTERS, {**records, "c": b"new"}, first)
    assert (read, list(again.applications)) == (["c"], ["a", "b"])


# --- Secrets ---


def test_either_live_secret_is_good_and_no_other() -> None:
    app = made().rotated(MASTERS, 60, NOW, "kid-new")
    where = registry(app, made("billing"))
    new, old = (credentials_of(app, index).secret() for index in (0, 1))
    assert where.authenticate("shop", new, NOW) == where.authenticate("shop", old, NOW + 60) == app
    other = credentials_of(made("billing")).secret()
    rows = [("shop", old, NOW + 61), ("billing", new, NOW), ("shop", other, NOW), ("nobody", new, NOW)]
    rows += [
        ("shop", text, NOW)
        for text in ("", new[:-1], new + "A", new.upper(), "\ud800", "é", "rqs1.kid-new." + "A" * 43)
    ]
    for app_id, secret, now in rows:
        with pytest.raises(InvalidCredentials) as caught:
            where.authenticate(app_id, secret, now)
        assert str(caught.value) == "The application's id or its secret is not right."
    with pytest.raises(InvalidCredentials):
        registry(app.switched(disabled=True, now=NOW)).authenticate("shop", new, NOW)


def test_an_unknown_application_costs_as_many_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    app = made()
    where, compared = registry(app), []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *texts: compared.append(len(texts[1])) or real(*texts))
    for app_id, secret in (("shop", credentials_of(app).secret()), ("shop", "wrong"), ("nobody", "wrong")):
        compared.clear()
        try:
            where.authenticate(app_id, secret, NOW)
        except InvalidCredentials:
            pass
        assert compared == [len(credentials_of(app).secret())] * 2


@pytest.mark.parametrize("name", ["", "-a", "a b", "a" * 65, "a\n", "é", "#", None])
def test_bad_names(name: Any) -> None:
    with pytest.raises(InvalidApplication, match="name"):
        made(name)


def test_bad_allowances() -> None:
    for allowance in (Scopes(()), Scopes.product(["get"], [f"q{n}" for n in range(257)])):
        with pytest.raises(InvalidApplication, match="allowance"):
            made(allowance=allowance)


# --- Mutated tokens: 20,000 in the ordinary run, a million with `make fuzz-tokens` ---

MUTATIONS = int(os.environ.get("TOKEN_MUTATIONS", "20000"))
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def _cut(rng: random.Random, token: str, _: str) -> str:
    start = rng.randrange(len(token))
    return token[:start] + token[start + rng.randint(1, 40) :]


def _change(rng: random.Random, token: str, _: str) -> str:
    letters = list(token)
    for _count in range(rng.randint(1, 4)):
        letters[rng.randrange(len(letters))] = rng.choice(ALPHABET + "=+/ \n\0é\ud800")
    return "".join(letters)


def _insert(rng: random.Random, token: str, _: str) -> str:
    at = rng.randrange(len(token) + 1)
    return token[:at] + "".join(rng.choices(ALPHABET + "=+/ ", k=rng.randint(1, 40))) + token[at:]


def _mix(rng: random.Random, token: str, other: str) -> str:
    ours, theirs = token.split("."), other.split(".")
    return ".".join(rng.choice((ours, theirs))[i] for i in range(min(len(ours), len(theirs))))


def _shuffle(rng: random.Random, token: str, _: str) -> str:
    parts = token.split(".")
    return ".".join([*parts[:2], *rng.choices(parts[2:], k=rng.randint(1, len(parts)))])


def _rewrite(rng: random.Random, token: str, _: str) -> str:
    """Change what a payload or a caveat says, as one who knows the format would."""
    parts = token.split(".")
    index = rng.randrange(2, len(parts) - 1)
    said = json.loads(base64.urlsafe_b64decode(parts[index] + "=="))
    said[rng.choice(["exp", "iat", "ops", "q", "app", "jti", "scope", "ip"])] = rng.choice(
        [NOW + rng.randrange(10**6), ["admin"], ["*"], "billing", None, "jti-9", ["admin:*"], ["0.0.0.0/0"]]
    )
    parts[index] = b64(json.dumps(said, separators=(",", ":")).encode())
    return ".".join(parts)


MUTATORS: list[Callable[[random.Random, str, str], str]] = [_cut, _change, _insert, _mix, _shuffle, _rewrite]


def test_mutated_tokens_are_refused_and_raise_nothing_else() -> None:
    shop, billing = made(), made("billing", EVERYTHING)
    where = registry(shop, billing)
    genuine = [token_of(shop), token_of(billing, ops=["get"], queues=["a*"])]
    genuine += [
        tokens.narrow(genuine[0], ops=["get"]),
        tokens.narrow(genuine[1], scope=["get:ab"], addresses=["10.0.0.1"]),
    ]
    genuine += [tokens.narrow(genuine[2], queues=["orders"], expires_at=NOW + 60)]
    assert all(check(where, token) for token in genuine)
    rng = random.Random(20_261_127)
    reasons: dict[str, int] = {}
    for _ in range(MUTATIONS):
        token, other = rng.choice(genuine), rng.choice(genuine)
        mutant = rng.choice(MUTATORS)(rng, token, other)
        if mutant in genuine:
            continue
        reason = refused(where, mutant)
        reasons[reason] = reasons.get(reason, 0) + 1
    assert {"bad_mac", "malformed", "unknown_key", "version"} <= set(reasons)
    assert not set(reasons) & {"revoked", "expired", "claim_type", "claim_missing", "app", "audience"}, (
        "got past the tag"
    )
