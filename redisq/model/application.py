"""What the registry of applications holds. Frozen, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Records:
    """What the registry of applications holds, name -> record, and the word that changes whenever it does."""

    generation: bytes
    records: Mapping[str, bytes]
