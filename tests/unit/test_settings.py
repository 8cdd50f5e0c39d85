"""Settings: from the environment or from arguments, checked once, and silent about secrets."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import pprint
import traceback
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from rich.pretty import pretty_repr

from redisq import AsyncRedisQ, Credentials, InvalidCredentials, InvalidSettings, RedisQ, Settings
from redisq.gateway.settings import GatewaySettings
from redisq.tokens.applications import MasterKey

CREDENTIALS = Credentials.generate("billing")
MASTER_KEY, OLD_MASTER_KEY = MasterKey.generate().text(), MasterKey.generate().text()


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("REDISQ_"):
            monkeypatch.delenv(name)


def test_defaults() -> None:
    settings = Settings()
    assert settings.url == "redis://127.0.0.1:6379/0"
    assert settings.namespace == "redisq"
    assert settings.auth == "token"
    assert (settings.lease, settings.retention, settings.dedup_window, settings.max_attempts) == (30, 86_400, 300, 5)
    assert settings.max_bytes == 1024 * 1024
    assert settings.credentials() is None
    assert settings.token_audience == "redisq:redisq"


def test_each_setting_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "URL": "redis://elsewhere:7000/3",
        "NAMESPACE": "staging",
        "APP_ID": CREDENTIALS.app,
        "APP_SECRET": CREDENTIALS.secret(),
        "MASTER_KEY": f"{MASTER_KEY},{OLD_MASTER_KEY}",
        "AUDIENCE": "redisq:production",
        "AUTH": "none",
        "TOKEN_TTL": "600.5",
        "COMMAND_TIMEOUT": "1.5",
        "CONNECT_TIMEOUT": "2.5",
        "RETRY_DEADLINE": "3.5",
        "MAX_CONNECTIONS": "7",
        "LEASE": "12.5",
        "RETENTION": "3600",
        "DEDUP_WINDOW": "60",
        "DEAD_RETENTION": "7200",
        "MAX_ATTEMPTS": "9",
        "MAX_LOST": "4",
        "STRICT": "true",
        "EMBEDDED_SERVER": "fakeredis",
        "STALE_AFTER": "90",
        "BACKOFF_BASE": "0.5",
        "BACKOFF_CAP": "60",
        "MAX_BYTES": "1000",
        "MAX_LENGTH": "10",
        "GRACE": "5",
        "HANDLER_TIMEOUT": "45",
        "MAX_STUCK": "3",
        "TRACEBACK_BYTES": "1000",
        "LOG_ERRORS": "type",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
    }
    assert {name.lower() for name in values} == set(Settings.model_fields)
    for name, value in values.items():
        monkeypatch.setenv(f"REDISQ_{name}", value)
    settings = Settings()
    default = Settings.model_construct()
    shown = settings.model_dump()
    assert all(shown[name] != getattr(default, name) for name in shown)
    assert (settings.lease, settings.max_connections, settings.token_audience) == (12.5, 7, "redisq:production")
    credentials = settings.credentials()
    assert credentials is not None
    assert (credentials.app, credentials.secret()) == (CREDENTIALS.app, CREDENTIALS.secret())


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISQ_NAMESPACE", "staging")
    assert Settings(namespace="test").namespace == "test"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lease", "0"),
        ("lease", "soon"),
        ("lease", "nan"),
        ("retention", "-1"),
        ("retention", "inf"),
        ("max_attempts", "0"),
        ("max_attempts", "1.5"),
        ("max_bytes", "0"),
        ("token_ttl", "60"),
        ("command_timeout", "0"),
        ("max_connections", "0"),
        ("auth", "password"),
        ("grace", "-1"),
    ],
)
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"REDISQ_{name.upper()}", value)
    with pytest.raises(InvalidSettings, match=f"REDISQ_{name.upper()}: ") as refused:
        Settings()
    assert refused.value.__cause__ is None


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(InvalidSettings, match=r"REDISQ_LEASE: .*; REDISQ_MAX_BYTES: "):
        Settings(lease=-1, max_bytes=-1)


def test_a_bad_namespace() -> None:
    with pytest.raises(InvalidSettings, match="is no namespace"):
        Settings(namespace="a{b}")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="REDISQ_LEESE"):
        Settings(leese=5)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().lease = 5


# --- Credentials ---


@pytest.mark.parametrize(("given", "missing"), [("app_id", "REDISQ_APP_SECRET"), ("app_secret", "REDISQ_APP_ID")])
def test_half_of_the_credentials_names_the_other_half(given: str, missing: str) -> None:
    value = CREDENTIALS.app if given == "app_id" else CREDENTIALS.secret()
    with pytest.raises(InvalidCredentials, match=f"{missing} is not set") as refused:
        Settings(**{given: value})
    assert CREDENTIALS.secret() not in str(refused.value)


def test_a_secret_is_never_shown() -> None:
    settings = Settings(app_id=CREDENTIALS.app, app_secret=CREDENTIALS.secret())
    key = CREDENTIALS.secret().rpartition(".")[2]
    assert key not in repr(settings) + str(settings) + str(settings.model_dump()) + settings.model_dump_json()
    assert key not in repr(settings.credentials())


def test_master_keys_are_read_and_never_shown() -> None:
    settings = Settings(master_key=f"{MASTER_KEY}, {OLD_MASTER_KEY}")
    masters = settings.master_keys()
    assert masters is not None
    assert [key.text() for key in masters.keys] == [MASTER_KEY, OLD_MASTER_KEY]
    shown = repr(settings) + str(settings.model_dump()) + settings.model_dump_json() + repr(masters)
    assert not any(text.rpartition(".")[2] in shown for text in (MASTER_KEY, OLD_MASTER_KEY))
    assert Settings().master_keys() is None
    for bad in ("", MASTER_KEY[:-3], f"{MASTER_KEY},", CREDENTIALS.secret()):
        with pytest.raises(InvalidCredentials, match="REDISQ_MASTER_KEY") as refused:
            Settings(master_key=bad)
        assert not bad or bad.strip(",") not in str(refused.value)


def test_settings_of_the_registry_need_no_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISQ_APP_ID", "half of a pair")
    assert Settings.of_registry(None) is None
    monkeypatch.setenv("REDISQ_MASTER_KEY", MASTER_KEY)
    found = Settings.of_registry("redis://other")
    assert found is not None
    assert (found.url, found.credentials()) == ("redis://other", None)


def test_a_bad_secret_is_not_quoted() -> None:
    bad = CREDENTIALS.secret()[:-3]
    for values in ({"app_id": CREDENTIALS.app}, {"app_id": CREDENTIALS.app, "lease": -1}):
        with pytest.raises((InvalidCredentials, InvalidSettings)) as refused:
            Settings(app_secret=bad, **values)
        assert bad not in str(refused.value)
        assert bad.rpartition(".")[2] not in str(refused.value)


def test_no_dump_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISQ_URL", "redis://user:hunter2@host:6379/0")
    settings = Settings()
    for one in (
        settings,
        Settings.merged(settings, "rediss://:hunter2@host?ssl_password=hunter2"),
        copy.copy(settings),
    ):
        assert "hunter2" in str(one.url)
        shown = [repr(one), str(one), repr(one.url), repr(vars(one)), repr(dict(one)), pprint.pformat(one)]
        shown += [str(one.model_dump()), json.dumps(one.model_dump(mode="json")), one.model_dump_json()]
        shown += [str(one.model_dump()["url"]), pretty_repr(one), pretty_repr(vars(one)), pickle_shown(one)]
        assert not any("hunter2" in text for text in shown)
    assert Settings().model_dump()["url"] == "redis://user:***@host:6379/0"
    assert Settings(url="redis://host").model_dump()["url"] == "redis://host"


def pickle_shown(settings: Settings) -> str:
    """What a copy in another process shows; it works there."""
    again = pickle.loads(pickle.dumps(settings))
    assert str(again.url) == str(settings.url)
    return repr(vars(again))


def test_no_error_holds_what_was_given() -> None:
    for values in ({"url": 5}, {"url": "redis://:hunter2@host", "lease": "hunter2"}, {"app_secret": ["hunter2"]}):
        with pytest.raises(InvalidSettings) as refused:
            Settings(**values)
        assert refused.value.__context__ is None
        assert refused.value.__cause__ is None
        assert "hunter2" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("value", [True, timedelta(seconds=5), 10**400, [5], b"x", "5 s", math.nan], ids=repr)
@pytest.mark.parametrize("name", ["lease", "command_timeout", "max_attempts", "max_connections"])
def test_what_is_no_number_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match=f"REDISQ_{name.upper()}: "):
        Settings(**{name: value})


# --- Variables that are none ---


def test_an_unknown_variable_is_named_once_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("redisq.settings._told", set())
    slips = {"REDISQ_LEESE": "REDISQ_LEASE", "REDISQ_URI": "REDISQ_URL", "redisq_app_secrets": "REDISQ_APP_SECRET"}
    known = ["REDISQ_HTTP_PORT", "REDISQ_TEST_SERVERS", "REDISQ_EMBEDDED_SERVER", "REDISQ_FAILPOINTS", "REDISQ_QUEUE"]
    of_kubernetes = {"REDISQ_SERVICE_HOST": "10.0.0.1", "REDISQ_GATEWAY_SERVICE_PORT_HTTP": "80"}
    of_kubernetes |= {"REDISQ_PORT": "tcp://10.0.0.1:80", "REDISQ_PORT_80_TCP_ADDR": "10.0.0.1"}
    for name in (*slips, "REDISQ_QUITE_ANOTHER", *known):
        monkeypatch.setenv(name, "hunter2")
    for name, value in of_kubernetes.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        Settings()
        RedisQ(settings=Settings())
    told = sorted(record.getMessage() for record in caplog.records)
    assert told == sorted(
        [
            f"{slip.upper()} is not a setting of redisq and counts for nothing. Did you mean {slips[slip]}?"
            for slip in slips
        ]
        + ["REDISQ_QUITE_ANOTHER is not a setting of redisq and counts for nothing."]
    )
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_an_unknown_variable_of_the_gateway_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("redisq.settings._told", set())
    monkeypatch.setenv("REDISQ_HTTP_PROT", "80")
    monkeypatch.setenv("REDISQ_HTTP_HOST", "127.0.0.1")
    GatewaySettings()
    (record,) = caplog.records
    assert "REDISQ_HTTP_PROT" in record.getMessage()
    assert "Did you mean REDISQ_HTTP_PORT?" in record.getMessage()


# --- With a URL beside ---


def test_a_url_replaces_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISQ_NAMESPACE", "staging")
    monkeypatch.setenv("REDISQ_URL", "redis://environment")
    mine = Settings(url="redis://mine", namespace="mine")
    assert Settings.merged(mine, None) is mine
    assert Settings.merged(mine, "redis://other").url == "redis://other"
    assert Settings.merged(mine, "redis://other").namespace == "mine"
    assert mine.url == "redis://mine"
    assert Settings.merged(None, "redis://other").namespace == "staging"
    assert Settings.merged(None, None).url == "redis://environment"


@pytest.mark.parametrize("kind", [RedisQ, AsyncRedisQ])
def test_arguments_of_a_wrong_type_are_refused(kind: Any) -> None:
    for arguments in (
        {"url": 5},
        {"url": b"redis://"},
        {"settings": {}},
        {"settings": "redis://"},
        {"settings": Settings},
    ):
        with pytest.raises(InvalidSettings):
            kind(**arguments)
    for credentials in ("rqs1.a.b", (CREDENTIALS.app, CREDENTIALS.secret()), {}):
        with pytest.raises(InvalidCredentials, match=r"Credentials\.parse") as refused:
            kind(credentials=credentials)
        assert CREDENTIALS.secret() not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:se/kret@h",
        "redis://:sekret#1@h",
        "redis://:sekret@h:x/0",
        "http://sekret",
        "redis://h/0?sekret=1",
        "",
    ],
)
def test_a_url_that_cannot_be_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    known = Settings()
    for make in (lambda: Settings(url=url), lambda: Settings.merged(None, url), lambda: Settings.merged(known, url)):
        with pytest.raises(InvalidSettings) as caught:
            make()
        assert "kret" not in "".join(traceback.format_exception(caught.value))
    monkeypatch.setenv("REDISQ_URL", url)
    with pytest.raises(InvalidSettings):
        Settings()
    assert Settings.merged(None, "redis://h").url == "redis://h"  # which stands in place of it
    monkeypatch.setenv("REDISQ_MASTER_KEY", MasterKey.generate().text())
    registry = Settings.of_registry("redis://h")
    assert registry is not None
    assert registry.url == "redis://h"
