"""Commands on the wire are those that redis-py would write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Encoder, PythonRespSerializer

from redisq.link.packing import Pack, pack, pack_in_python

PARTS = st.lists(st.binary(max_size=30) | st.text(max_size=10) | st.integers(), min_size=1, max_size=8)
redis_py = PythonRespSerializer(6000, Encoder("utf-8", "strict", False).encode)


@pytest.mark.parametrize("one", [pack, pack_in_python])
@given(parts=PARTS)
def test_it_is_what_redis_py_writes(one: Pack, parts: list[bytes | str | int]) -> None:
    assert one((b"EVALSHA", *parts)) == b"".join(redis_py.pack("EVALSHA", *parts))
