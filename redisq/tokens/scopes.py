"""What may be done where: operations, patterns of queues' names, and pairs of the two like `get:orders`. Pure.

A pattern is a queue's name, or the beginning of one and a final `*`, which all names match that begin so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

OPS = frozenset({"queue", "get", "delete", "work", "stats", "admin"})

#: What a queue may be called; as a pattern of JSON Schema and of routes, too.
QUEUE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_QUEUE = re.compile(QUEUE_NAME)
_PATTERN = re.compile(rf"\*|{_QUEUE.pattern}\*?")
_PAIR = re.compile(rf"(?:{'|'.join(sorted(OPS))}):(?:{_PATTERN.pattern})")


def is_queue(name: object) -> bool:
    """Return whether this is a queue's name."""
    return isinstance(name, str) and _QUEUE.fullmatch(name) is not None


def is_pattern(text: object) -> bool:
    """Return whether this is a pattern of queues' names."""
    return isinstance(text, str) and _PATTERN.fullmatch(text) is not None


def is_pair(text: object) -> bool:
    """Return whether this is one operation, a colon, and one pattern."""
    return isinstance(text, str) and _PAIR.fullmatch(text) is not None


def is_among(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a name, or a whole pattern, is matched by one of `patterns`."""
    for pattern in patterns:  # noqa: SIM110 - done for each call, where a generator takes three times as long
        if name == pattern or (pattern[-1] == "*" and name.startswith(pattern[:-1])):
            return True
    return False


def intersect(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, ...]:
    """Return patterns for exactly the names that both match.

    Of two patterns that match one name, one matches all that the other does: the other is what they have in common.
    """
    return tuple(dict.fromkeys(_within(ours, theirs) + _within(theirs, ours)))


def _within(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if is_among(name, patterns)]


@dataclass(frozen=True, slots=True)
class Scopes:
    """Pairs of an operation and a pattern, each of which allows that operation on the queues that match: `pairs`.

    They are sorted, each there once. Those of an operation's patterns that others include stay: they do no harm.
    """

    pairs: tuple[tuple[str, str], ...]
    _patterns: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pairs = sorted(set(self.pairs))
        object.__setattr__(self, "pairs", tuple(pairs))
        patterns: dict[str, tuple[str, ...]] = {}
        for op, pattern in pairs:
            patterns[op] = (*patterns.get(op, ()), pattern)
        object.__setattr__(self, "_patterns", patterns)

    @classmethod
    def product(cls, ops: Iterable[str], patterns: Sequence[str]) -> Scopes:
        """Return each of `ops` on each of `patterns`."""
        return cls(tuple((op, pattern) for op in ops for pattern in patterns))

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Scopes:
        """Read texts like `get:orders`, or `queue,get:orders` for several operations at once.

        Raises:
            ValueError: one is no such text, or there is none.
        """
        if isinstance(texts, str | bytes | Mapping):
            raise ValueError("scopes come as a list of texts: put a single one in [ ]")
        pairs: list[tuple[str, str]] = []
        for text in texts:
            ops, _, pattern = text.partition(":")
            for op in ops.split(","):
                if not is_pair(f"{op}:{pattern}"):
                    raise ValueError(
                        f"{text[:80]!r} is no scope: it reads OPS:PATTERN, like queue,get:orders or work:reports.*, "
                        f"with ops of {', '.join(sorted(OPS))}"
                    )
                pairs.append((op, pattern))
        if not pairs:
            raise ValueError("a scope is needed, like queue,get:orders or work:reports.*")
        return cls(tuple(pairs))

    @property
    def ops(self) -> frozenset[str]:
        """The operations that are allowed on some queue."""
        return frozenset(self._patterns)

    def patterns(self, op: str) -> tuple[str, ...]:
        """Return the patterns of the queues on which `op` is allowed."""
        return self._patterns.get(op, ())

    def allows(self, op: str, queue: str) -> bool:
        """Return whether `op` is allowed on `queue`, a queue's name."""
        return is_among(queue, self._patterns.get(op, ()))

    def covers(self, other: Scopes) -> bool:
        """Return whether all that `other` allows is allowed here."""
        return all(is_among(pattern, self.patterns(op)) for op, pattern in other.pairs)

    def intersection(self, other: Scopes) -> Scopes:
        """Return what both allow."""
        ops = self.ops & other.ops
        return Scopes(tuple((op, p) for op in ops for p in intersect(self.patterns(op), other.patterns(op))))

    def texts(self) -> list[str]:
        """Write the pairs, one operation in each: `get:orders`."""
        return [f"{op}:{pattern}" for op, pattern in self.pairs]


#: every operation on every queue
EVERYTHING = Scopes.product(OPS, ["*"])
