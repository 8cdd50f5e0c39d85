"""Master keys: what the secrets of applications are derived from, and their records are signed with. Pure.

A master key reads `rqm1.<kid>.<43 base64url characters>`. REDISQ_MASTER_KEY holds one or several, separated by commas:
the newest, which comes first, makes new keys and records; all verify.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

from redisq.errors import InvalidCredentials
from redisq.tokens import encoding
from redisq.tokens.token import Credentials


@dataclass(frozen=True, slots=True)
class MasterKey:
    """What the secrets and records of all applications are made with.

    Raises:
        InvalidCredentials: a part has a wrong form, or the key is not 32 random bytes.
    """

    kid: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.kid, str) and encoding.KID.fullmatch(self.kid) and encoding.is_key(self.key)):
            raise InvalidCredentials(
                "A key in REDISQ_MASTER_KEY is 32 random bytes: `redisq app master-key` makes one."
            )

    @classmethod
    def parse(cls, text: str) -> MasterKey:
        """Read `rqm1.<kid>.<43 base64url characters>`; raises as the class does."""
        read = encoding.read_secret("rqm1", text)
        if read is None:
            raise InvalidCredentials(
                "REDISQ_MASTER_KEY reads rqm1.<kid>.<43 base64url characters>, or several, separated by commas: copy "
                "all of it, or make a new one with `redisq app master-key`."
            )
        return cls(*read)

    @classmethod
    def generate(cls) -> MasterKey:
        """Make a new one: a random key under a random key id."""
        return cls(secrets.token_hex(8), secrets.token_bytes(encoding.KEY_BYTES))

    def text(self) -> str:
        """Return it as text, for printing once."""
        return f"rqm1.{self.kid}.{encoding.encode(self.key)}"

    def credentials(self, app: str, kid: str) -> Credentials:
        """Derive an application's credentials under a key id."""
        info = encoding.length_prefixed("redisq/application/v1", app, kid)
        return Credentials(app, kid, encoding.hkdf(self.key, info=info))

    def tag(self, namespace: str, name: str, payload: str) -> bytes:
        """Return the tag of a record, whose payload is given as written."""
        key = encoding.hkdf(self.key, info=encoding.length_prefixed("redisq/record/v1", namespace, name))
        return hmac.digest(key, encoding.length_prefixed("redisq.record.v1", self.kid, payload), "sha256")


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """All master keys that are in force, the newest first."""

    keys: tuple[MasterKey, ...]

    @classmethod
    def parse(cls, text: str) -> MasterKeys:
        """Read them, separated by commas.

        Raises:
            InvalidCredentials: one is not valid, or two have the same key id.
        """
        found = tuple(MasterKey.parse(part.strip()) for part in text.split(","))
        if len({key.kid for key in found}) != len(found):
            raise InvalidCredentials("REDISQ_MASTER_KEY holds the same key twice: each key id counts once.")
        return cls(found)

    @property
    def newest(self) -> MasterKey:
        """The one that makes new keys and records."""
        return self.keys[0]

    def find(self, kid: str) -> MasterKey | None:
        """Return the one of a key id."""
        return next((key for key in self.keys if key.kid == kid), None)
