"""The registry of applications: `applications.lua`, `application.lua`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from redisq.model.application import Records
from redisq.store import scripts
from redisq.store.call import Call, new_nonce
from redisq.store.reply import Outcome, read_outcome


def applications(apps: str, generation: bytes | None = None) -> Call[Records | None]:
    """Read the records of all applications; None when they are those of this generation, if one is given."""
    known = new_nonce() if generation is None else generation  # one that could be guessed might be put there
    return Call(scripts.load("applications"), (apps,), (known,), _read_records)


def _read_records(reply: Sequence[bytes]) -> Records | None:
    if not reply:
        return None
    fields = dict(zip(reply[1::2], reply[2::2], strict=True))
    fields.pop(b"#", None)
    return Records(reply[0], {name.decode(errors="backslashreplace"): record for name, record in fields.items()})


def application(apps: str, name: str, before: bytes, record: str, most: int) -> Call[Outcome[None]]:
    """Write an application's record, if the one there is `before`, b"" for none; a repeat succeeds.

    There may be `most` applications.
    """
    args = (name, before, record, new_nonce(), most)
    return Call(scripts.load("application"), (apps,), args, read_outcome)
