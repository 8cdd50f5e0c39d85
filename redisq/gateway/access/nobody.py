"""Who knows no application: for a gateway that asks nobody for a token."""

from __future__ import annotations

from redisq.errors import InvalidCredentials, InvalidToken
from redisq.tokens.applications import Application
from redisq.tokens.token import Grant


class Nobody:
    """A verifier that knows nobody."""

    def verify(self, token: str, now: float) -> Grant:  # noqa: ARG002
        """Refuse every token."""
        raise InvalidToken(reason="unknown_key")

    def authenticate(self, app_id: str, secret: str, now: float) -> Application:  # noqa: ARG002
        """Refuse everybody."""
        raise InvalidCredentials("The application's id or its secret is not right.")

    def snapshot(self) -> None:
        """Know nothing, for sure."""
