"""A real server for the frameworks, and the environment of an application that uses it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from redisq import RedisQ, Settings, embedded
from tests.conftest import REAL, SERVERS, settings_for, started


@pytest.fixture
def settings(running: dict[str, embedded.EmbeddedServer], namespace: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that stand in the environment, too."""
    made = settings_for(started(running, REAL or SERVERS[0]).url, namespace)
    assert made.app_id
    assert made.app_secret
    for name in [name for name in os.environ if name.startswith("REDISQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDISQ_URL", str(made.url))
    monkeypatch.setenv("REDISQ_NAMESPACE", namespace)
    monkeypatch.setenv("REDISQ_APP_ID", made.app_id)
    monkeypatch.setenv("REDISQ_APP_SECRET", made.app_secret.get_secret_value())
    return made


@pytest.fixture
def client(settings: Settings) -> Iterator[RedisQ]:
    with RedisQ(settings=settings) as client:
        yield client
