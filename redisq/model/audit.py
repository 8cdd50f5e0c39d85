"""What is found when a queue is looked over for damage. Frozen, without I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from redisq.model.message import json_ready


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that `doctor` found: `count` times in one queue, or of the server when `queue` is None.

    `severity` is `error` (an invariant is broken), `warning` (something needs attention) or `note`; `code` is its
    stable word. `examples` are a few ids or names, `meaning` and `remedy` sentences for people. `fixable` says whether
    `fix` mends it, `fixed` how many it has mended.
    """

    severity: str
    code: str
    queue: str | None
    count: int
    examples: tuple[str, ...]
    meaning: str
    remedy: str
    fixable: bool = False
    fixed: int = 0

    @property
    def remains(self) -> bool:
        """Whether some of it is not mended."""
        return self.fixed < self.count

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {field.name: json_ready(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Survey:
    """How a queue is as a whole: the types of its keys by name, and when each is right the rest.

    `held` counts bodies, `recorded` records and tombstones. In seconds: how far the newest entry is `ahead` of the
    server's clock; how long ago the first lease `lapsed`, the first scheduled message was `due`, the first `leftover`
    could have been swept. `forgotten` counts last claims that could have been, too. `config` is the definition as it is
    stored.
    """

    types: Mapping[str, str]
    sound: bool
    held: int = 0
    recorded: int = 0
    rings: int = 0
    ahead: float = 0.0
    lapsed: float = 0.0
    due: float = 0.0
    leftover: float = 0.0
    forgotten: int = 0
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """What a page of one of a queue's structures tells of where messages are: see `look.lua`.

    `cursor` is where the next begins, b"0" after the last. `doubtful` are ids; `tombstones` are ids with their times.
    """

    cursor: bytes
    places: Sequence[bytes]
    doubtful: Sequence[bytes]
    tombstones: Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How many of the messages in doubt were `judged`, and the `problems`: 16-byte id, word, whether it was mended."""

    judged: int
    problems: Sequence[tuple[bytes, str, bool]]
