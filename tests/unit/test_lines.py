"""Cutting a stream into batches of lines, however its bytes arrive."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

lines = pytest.importorskip("redisq.cli.commands.lines")


class Pieces(io.BufferedIOBase):
    """A stream that gives these pieces, one at each read, as a pipe does."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def read1(self, size: int = -1, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@given(st.lists(st.sampled_from([b"", b"a", b"\n", b"b\nc", b"\n\n", b"\r\n", b"x" * 9 + b"\n" * 700])))
def test_all_lines_come_once_in_order_with_their_numbers(pieces: list[bytes]) -> None:
    found = list(lines.batches(Pieces(pieces)))
    whole = b"".join(pieces)
    expected = whole.split(b"\n")[: -1 if whole.endswith(b"\n") or not whole else None]
    assert [line for batch in found for line in batch.lines] == expected
    assert [batch.first for batch in found] == [1 + sum(len(b.lines) for b in found[:n]) for n in range(len(found))]
    assert all(1 <= len(batch.lines) <= 500 for batch in found)
    assert [batch.size for batch in found] == sorted(batch.size for batch in found)


def test_a_batch_does_not_wait_for_the_next_piece() -> None:
    stream = Pieces([b"1\n2\n3", b"4\n"])
    batches = lines.batches(stream)
    assert next(batches).lines == [b"1", b"2"]
    assert stream.read1() == b"4\n"


@pytest.mark.parametrize("ending", [b"", b"\n", b"\n2\n"])
def test_a_line_that_is_too_long_is_cut(monkeypatch: pytest.MonkeyPatch, ending: bytes) -> None:
    monkeypatch.setattr(lines, "_LONGEST", 20)
    found = [line for batch in lines.batches(Pieces([b"x" * 7] * 1000 + [ending])) for line in batch.lines]
    assert found[0] == b"x" * 21
    assert found[1:] == ([b"2"] if b"2" in ending else [])
