"""Settings of the gateway alone, from arguments or from REDISQ_HTTP_ environment variables. Times are in seconds."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from redisq.errors import InvalidSettings

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def _separated(value: Any) -> Any:
    """Read a list as an environment variable has it: separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class GatewaySettings(BaseSettings):
    """Where the gateway listens, and its limits.

    Raises:
        InvalidSettings: a value is out of its bounds; the text names the environment variable.
    """

    model_config = SettingsConfigDict(
        env_prefix="REDISQ_HTTP_", extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """address to listen on"""
    port: int = Field(default=8080, ge=0, le=65_535)
    """port to listen on; 0 takes a free one"""
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_separated)] = ()
    """origins whose scripts may call the gateway from a browser, separated by commas; * is any"""
    metrics_allow: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_separated)] = ()
    """networks that may read /_metrics without a token, separated by commas"""
    registry_poll: float = Field(default=2, gt=0, le=5)
    """the registry of applications is read this often, so a revocation takes as long to count"""
    registry_stale_after: float = Field(default=30, ge=5, le=300)
    """a gateway that could not read the registry for this long lets nobody in"""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = "; ".join(
                f"REDISQ_HTTP_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False, include_context=False)
            )
            raise InvalidSettings(problems) from None
