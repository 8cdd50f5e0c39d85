"""What the harness tells a worker or client process: one environment variable, beside redisq's own."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_VARIABLE = "CHAOS_PART"


@dataclass(frozen=True, slots=True)
class Part:
    """The slot that a process fills. What follows `history` is a client's: `rate` is in messages a second, `style` one
    of `threads`, `asyncio` and `uvloop`.
    """

    slot: str
    seed: int
    history: str
    messages: int = 0
    rate: float = 0.0
    style: str = "threads"

    @property
    def folder(self) -> Path:
        """Where histories are written."""
        return Path(self.history)

    def environment(self) -> dict[str, str]:
        """Give the variable that tells it."""
        return {_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def mine(cls) -> Part:
        """Read this process' part."""
        return cls(**json.loads(os.environ[_VARIABLE]))
