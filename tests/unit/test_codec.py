"""What goes into a message comes out of it, and whatever cannot is refused by name of its place, in both directions."""

from __future__ import annotations

import struct
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redisq.body.codec import (
    DEFAULT_MAX_BYTES,
    ENVELOPE_VERSION,
    MAX_DEPTH,
    MAX_HEADER_BYTES,
    MAX_ITEMS,
    decode,
    decode_request,
    digest,
    encode,
    encode_request,
)
from redisq.errors import InvalidMessage, MessageTooLarge

quietly = settings(deadline=None, database=None)

offsets = st.timedeltas(min_value=timedelta(hours=-23, minutes=-59), max_value=timedelta(hours=23, minutes=59))
moments = st.datetimes(
    min_value=datetime(1, 1, 2),
    max_value=datetime(9999, 12, 30),
    timezones=st.just(UTC) | st.builds(timezone, offsets),
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | moments
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
some_headers = st.dictionaries(st.text(), st.text(), max_size=4)


def decoded_form(value: Any) -> Any:
    """Give what a value is after the journey: tuples as lists, datetimes in UTC."""
    match value:
        case list() | tuple():
            return [decoded_form(item) for item in value]
        case dict():
            return {key: decoded_form(item) for key, item in value.items()}
        case datetime():
            return value.astimezone(UTC).replace(fold=0)
    return value


def nested(depth: int, wrap: Callable[[Any], Any] = lambda inner: [inner]) -> Any:
    """Give `depth` containers, one inside the other, around a None."""
    value = None
    for _ in range(depth):
        value = wrap(value)
    return value


def refusal(value: object, encoder: Callable[[object], bytes] = encode) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        encoder(value)
    assert type(caught.value) is InvalidMessage
    return caught.value


def refusal_of_bytes(data: bytes) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        decode(data)
    assert type(caught.value) is InvalidMessage
    return caught.value


def is_ours_or_refused(data: bytes) -> None:
    """Decode both ways: each either refuses with InvalidMessage or gives what encodes to these very bytes."""
    try:
        value = decode(data)
    except InvalidMessage:
        pass
    else:
        assert encode(value, len(data)) == data
    try:
        request, headers = decode_request(data)
    except InvalidMessage:
        pass
    else:
        assert encode_request(request, len(data), headers) == data


# --- round trips ---


@quietly
@given(values)
@example(-0.0)
@example([True, 1, 1.0, "1", b"1"])
@example({"": {"b": 1, "a": 2}})
def test_what_goes_in_comes_out(value: object) -> None:
    decoded = decode(encode(value))
    assert repr(decoded) == repr(decoded_form(value))  # repr tells True, 1 and 1.0 apart, and the order of keys


@quietly
@given(values, some_headers)
def test_a_request_and_its_headers_come_out(value: object, headers: dict[str, str]) -> None:
    request, found = decode_request(encode_request(value, headers=headers))
    assert repr(request) == repr(decoded_form(value))
    assert found == headers


@quietly
@given(values)
def test_max_bytes_is_the_length_of_what_encode_gives(value: object) -> None:
    data = encode(value)
    assert encode(value, len(data)) == data
    assert decode(data, len(data)) is not Ellipsis
    for attempt in (
        lambda limit: encode(value, limit),
        lambda limit: encode_request(value, limit, {"a": "b"}),
        lambda limit: decode(data, limit),
    ):
        with pytest.raises(MessageTooLarge):
            attempt(len(data) - 1)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, "c0"),
        (True, "c3"),
        (1, "01"),
        (-1, "ff"),
        (128, "cc80"),
        (-129, "d1ff7f"),
        (2**63 - 1, "cf7fffffffffffffff"),
        (-(2**63), "d38000000000000000"),
        (0.1, "cb3fb999999999999a"),
        ("é", "a2c3a9"),
        (b"\xff", "c401ff"),
        ((1, [2]), "92019102"),
        ({"hello": "world"}, "81a568656c6c6fa5776f726c64"),
        (datetime(2024, 2, 29, tzinfo=UTC), "d6ff65dfc900"),
        (datetime(2024, 2, 29, microsecond=1, tzinfo=UTC), "d7ff00000fa065dfc900"),
        (datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "c70cff3b9ac618ffffffffffffffff"),
    ],
)
def test_the_encoding_of_a_value_never_changes(value: object, encoded: str) -> None:
    """Stored messages and digests depend on it: these bytes may not differ from one release to the next."""
    assert encode(value).hex() == encoded


# --- datetimes ---


class Brittle(tzinfo):
    """A timezone that gives what it is told to, or raises it."""

    def __init__(self, offset: timedelta | Exception | None) -> None:
        self.offset = offset

    def utcoffset(self, moment: datetime | None, /) -> timedelta | None:
        if isinstance(self.offset, Exception):
            raise self.offset
        return self.offset

    def dst(self, moment: datetime | None, /) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None, /) -> str | None:
        return None


class Winter(Brittle):
    """A timezone that puts its clocks back: the second 2 o'clock is an hour later than the first."""

    def utcoffset(self, moment: datetime | None, /) -> timedelta:
        return timedelta(hours=1 if moment and moment.fold else 2)


@pytest.mark.parametrize("edge", [datetime.min, datetime.max])
def test_the_ends_of_the_calendar_come_out(edge: datetime) -> None:
    moment = edge.replace(tzinfo=UTC)
    assert decode(encode(moment)) == moment


@pytest.mark.parametrize("fold", [0, 1])
def test_the_hour_that_happens_twice_comes_out_as_the_right_one(fold: int) -> None:
    moment = datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=Winter(None))
    assert decode(encode(moment)) == datetime(2024, 10, 27, fold, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "problem"),
    [
        (datetime(2024, 1, 1), "naive"),
        (datetime.min, "naive"),
        (datetime(2024, 1, 1, tzinfo=Brittle(None)), "naive"),
        (datetime(2024, 1, 1, tzinfo=Brittle(KeyError("s3cret"))), "no UTC time"),
        (datetime(2024, 1, 1, tzinfo=Brittle(timedelta(days=2))), "no UTC time"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "no UTC time"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "no UTC time"),
    ],
)
def test_a_datetime_that_is_no_instant_is_refused(moment: datetime, problem: str) -> None:
    error = refusal({"at": [moment]})
    assert error.path == "$.at[0]"
    assert problem in str(error)
    assert "s3cret" not in str(error)


# --- values that are refused ---


class Colour(StrEnum):
    RED = "red"


class Text(str):
    __slots__ = ()


class Moment(datetime):
    pass


Point = namedtuple("Point", "x y")

REFUSED_SCALARS = [
    (float("nan"), "NaN or infinite"),
    (float("inf"), "NaN or infinite"),
    (float("-inf"), "NaN or infinite"),
    (2**63, "64 signed bits"),
    (-(2**63) - 1, "64 signed bits"),
    (2**64, "64 signed bits"),
    (10**400, "64 signed bits"),
    ("\ud800", "lone surrogate"),
    ("a\udfffb", "lone surrogate"),
    ("\ud83d\ude00", "lone surrogate"),
    ({1}, "set cannot be sent"),
    (frozenset(), "frozenset cannot be sent"),
    (object(), "object cannot be sent"),
    (object, "type cannot be sent"),
    (1j, "complex cannot be sent"),
    (range(3), "range cannot be sent"),
    (bytearray(b"a"), "bytearray cannot be sent"),
    (memoryview(b"a"), "memoryview cannot be sent"),
    (time(12), "time cannot be sent"),
    (timedelta(1), "timedelta cannot be sent"),
    (msgpack.Timestamp(1), "Timestamp cannot be sent"),
    (msgpack.ExtType(1, b""), "ExtType is a subclass of tuple"),
    (Text("a"), "Text is a subclass of str"),
    (Point(1, 2), "Point is a subclass of tuple"),
    (OrderedDict(a=1), "OrderedDict is a subclass of dict"),
    (defaultdict(int), "defaultdict is a subclass of dict"),
    (Moment(2024, 1, 1, tzinfo=UTC), "Moment is a subclass of datetime"),
]


@pytest.mark.parametrize(("value", "problem"), REFUSED_SCALARS, ids=lambda case: type(case).__name__)
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda value: value, "$"),
        (lambda value: [value], "$[0]"),
        (lambda value: {"items": [0, "", {"price": None}, {"price": value, "sku": "A-1"}]}, "$.items[3].price"),
        (lambda value: {"a b": (1, value)}, '$["a b"][1]'),
    ],
    ids=["alone", "in a list", "deep", "in a tuple"],
)
def test_a_refused_value_is_named_by_its_place(
    value: object, problem: str, wrap: Callable[[object], object], path: str
) -> None:
    for encoder in (encode, encode_request):
        error = refusal(wrap(value), encoder)
        assert error.path == path
        assert str(error).startswith(f"{path}: ")
        assert problem in str(error)


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        ({1: "a"}, "$", "a key of the map is int"),
        ({"a": [{None: 1}]}, "$.a[0]", "a key of the map is NoneType"),
        ({"a": {True: 1}}, "$.a", "a key of the map is bool"),
        ({"a": {b"k": 1}}, "$.a", "a key of the map is bytes"),
        ({"a": {("k",): 1}}, "$.a", "a key of the map is tuple"),
        ({"a": {Colour.RED: 1}}, "$.a", "a key of the map is Colour"),
        ({"a": {"\udc80": 1}}, '$.a["\\udc80"]', "lone surrogate"),
    ],
)
def test_a_key_that_is_not_text_is_refused(value: object, path: str, problem: str) -> None:
    error = refusal(value)
    assert error.path == path
    assert problem in str(error)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("price", ".price"),
        ("_1", "._1"),
        ("größe", ".größe"),
        ("", '[""]'),
        ("1a", '["1a"]'),
        ("a.b", '["a.b"]'),
        ('say "x"', '["say \\"x\\""]'),
        ("new\nline", '["new\\nline"]'),
        ("k" * 64, "." + "k" * 64),
        ("k" * 65, '["' + "k" * 64 + '..."]'),
    ],
)
def test_a_path_shows_any_key_on_one_line(key: str, shown: str) -> None:
    assert refusal({key: {"x": [set()]}}).path == f"${shown}.x[0]"


def test_no_error_shows_a_value() -> None:
    secrets = [
        "s3cret\ud800",
        Text("s3cret"),
        Decimal("sNaN31337"),
        float("nan"),
        31337 * 2**64,
        {"s3cret"},
        b"s3cret" * 9,
    ]
    for secret in secrets:
        with pytest.raises(InvalidMessage) as caught:
            encode({"a": secret}, max_bytes=40)
        assert "s3cret" not in str(caught.value)
        assert "31337" not in str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__


# --- values that turn on their encoder ---


class Meddler(Brittle):
    """A timezone that does something each time it is asked."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self.meddle = meddle

    def utcoffset(self, moment: datetime | None, /) -> timedelta:
        self.meddle()
        return timedelta(0)


def test_a_dict_that_changes_meanwhile_is_refused() -> None:
    value: dict[str, object] = {}
    value["at"] = datetime(2024, 1, 1, tzinfo=Meddler(lambda: value.update({str(len(value)): 1})))
    error = refusal(value)
    assert error.path is None
    assert "RuntimeError" in str(error)
    assert error.__cause__ is None


def test_encode_can_be_entered_while_it_encodes() -> None:
    inner: list[bytes] = []
    value = ["before", datetime(2024, 1, 1, tzinfo=Meddler(lambda: inner.append(encode({"inner": 1})))), "after"]
    assert decode(encode(value)) == ["before", datetime(2024, 1, 1, tzinfo=UTC), "after"]
    assert len(set(inner)) == 1
    assert decode(inner[0]) == {"inner": 1}


def test_many_threads_encode_and_decode_at_once() -> None:
    def travel(number: int) -> bool:
        value = {"number": [number] * 50, "text": str(number) * 50, "at": datetime.fromtimestamp(number, UTC)}
        return all(decode_request(encode_request(value)) == (value, {}) for _ in range(20))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(travel, range(64)))


def test_a_list_that_holds_itself_is_refused() -> None:
    cycle: list[object] = [1]
    cycle.append(cycle)
    error = refusal({"a": cycle})
    assert error.path == "$.a" + "[1]" * (MAX_DEPTH - 1)
    assert "break a cycle" in str(error)


def test_a_map_that_holds_itself_many_times_is_refused() -> None:
    cycle: dict[str, object] = {}
    cycle.update({f"k{number}": cycle for number in range(1000)})
    refusal(cycle)


@pytest.fixture
def no_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make packing fail, in another way than by size: what passes this was refused before it."""
    monkeypatch.setattr("redisq.body.codec.msgpack.Packer", None)


@pytest.mark.usefixtures("no_packing")
def test_one_list_repeated_a_billion_times_is_refused_before_it_is_packed() -> None:
    value: list[object] = []
    for _ in range(30):
        value = [value, value]
    assert f"{MAX_ITEMS:,}" in str(refusal(value))


@pytest.mark.usefixtures("no_packing")
@pytest.mark.parametrize(
    "long", ["x" * 1000, "é" * 1000, b"x" * 1000, {"x" * 1000: None}], ids=["ASCII", "other", "bytes", "key"]
)
def test_one_long_text_repeated_is_refused_before_it_is_packed(long: object) -> None:
    with pytest.raises(MessageTooLarge, match="more than 50,000 bytes"):
        encode({"all": [long] * 51}, max_bytes=50_000)


# --- limits ---

WRAPS = [
    pytest.param(lambda inner: [inner], "[0]", id="list"),
    pytest.param(lambda inner: (inner,), "[0]", id="tuple"),
    pytest.param(lambda inner: {"a": inner}, ".a", id="dict"),
]


@pytest.mark.parametrize(("wrap", "step"), WRAPS)
def test_depth_32_passes_and_33_does_not(wrap: Callable[[Any], Any], step: str) -> None:
    assert decode(encode(nested(32, wrap))) == decoded_form(nested(32, wrap))
    error = refusal(nested(33, wrap))
    assert error.path == "$" + step * 32
    assert "deeper than 32 levels" in str(error)
    too_deep = msgpack.packb(nested(33, wrap))
    assert refusal_of_bytes(too_deep).path == "$" + step * 32


def test_an_empty_list_counts_as_a_level() -> None:
    assert encode(nested(31, lambda inner: [inner or []])) == b"\x91" * 31 + b"\x90"
    refusal(nested(32, lambda inner: [inner or []]))


def test_headers_and_the_envelope_are_no_level() -> None:
    assert decode_request(encode_request(nested(32), headers={"a": "b"})) == (nested(32), {"a": "b"})


@pytest.mark.parametrize(
    "value",
    [
        [0] * 100_000,
        {str(number): 0 for number in range(100_000)},
        [[0] * 49_999, {str(number): 0 for number in range(49_999)}],
        [[]] * 100_000,
    ],
    ids=["list", "dict", "both", "empty lists"],
)
def test_100_000_items_pass_and_100_001_do_not(value: Any) -> None:
    assert decode(encode(value)) == value
    if isinstance(value, dict):
        value["more"] = 0
    else:
        value = [*value, 0]
    assert "more than 100,000" in str(refusal(value))
    refusal_of_bytes(msgpack.packb(value))


def test_the_largest_message_by_default_is_a_mebibyte() -> None:
    assert len(encode("x" * (2**20 - 5))) == DEFAULT_MAX_BYTES == 2**20
    for encoder in (encode, encode_request):
        with pytest.raises(MessageTooLarge, match="more than 1,048,576 bytes"):
            encoder("x" * (2**20 - 4))


def test_decode_takes_any_size_unless_told() -> None:
    data = encode("x" * 2**21, max_bytes=2**22)
    assert decode(data) == "x" * 2**21
    assert decode_request(b"\x01" + data) == ("x" * 2**21, {})


# --- bytes that are refused ---


@quietly
@given(st.binary())
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    is_ours_or_refused(data)
    is_ours_or_refused(bytes([ENVELOPE_VERSION]) + data)


@quietly
@given(
    st.lists(
        st.sampled_from([bytes([byte]) for byte in range(256)])
        | st.sampled_from(
            [b"\xa1a", b"\xa1b", b"\x81", b"\x82", b"\x92", b"\xd6\xff\0\0\0\0", b"\xd7\xff" + b"\xff" * 8]
        )
    )
)
def test_any_pieces_of_msgpack_are_a_message_or_refused(pieces: list[bytes]) -> None:
    is_ours_or_refused(b"".join(pieces))


@quietly
@given(values, some_headers, st.data())
def test_a_damaged_message_is_another_message_or_refused(
    value: object, headers: dict[str, str], data: st.DataObject
) -> None:
    for body in (encode(value), encode_request(value, headers=headers)):
        damaged = bytearray(body)
        bit = data.draw(st.integers(0, 8 * len(body) - 1))
        damaged[bit // 8] ^= 1 << bit % 8
        is_ours_or_refused(bytes(damaged))
        start, end = sorted((data.draw(st.integers(0, len(body))), data.draw(st.integers(0, len(body)))))
        is_ours_or_refused(body[:start] + body[end:])
        is_ours_or_refused(body[:end] + body[start:])


@quietly
@given(values, some_headers)
def test_a_message_cut_short_or_too_long_is_refused(value: object, headers: dict[str, str]) -> None:
    for body, decoder in ((encode(value), decode), (encode_request(value, headers=headers), decode_request)):
        for end in range(len(body)):
            with pytest.raises(InvalidMessage):
                decoder(body[:end])
        with pytest.raises(InvalidMessage):
            decoder(body + b"\0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff" + b"\0" * 5,
        b"\xdf\xff\xff\xff\xff" + b"\0" * 5,
        b"\xdb\xff\xff\xff\xff" + b"\0" * 5,
        b"\xc6\xff\xff\xff\xff" + b"\0" * 5,
        b"\xc9\xff\xff\xff\xff" + b"\0" * 5,
        b"\x91" * 100_000 + b"\0",
        b"\x81\xa1a" * 100_000 + b"\0",
        b"\xdd\x00\x01\x86\xa0" * 2000,
        b"\xdd\x00\x01\x86\xa1" + b"\0" * 100_001,
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",
        b"\x81\x01\x02",
        b"\x81\xc0\x02",
        b"\x81\x90\x02",
        b"\x81\xd6\xff\0\0\0\0\x02",
        b"\xd5\xff\0\0",
        b"\xd4\x80\0",
        b"\xc7\x0c\xff\0\0\0\0" + struct.pack(">q", 253402300800),
        b"\xc7\x0c\xff\0\0\0\0" + struct.pack(">q", -62135596801),
        b"\xc7\x0c\xff\0\0\0\0" + struct.pack(">q", 2**63 - 1),
        b"\xc7\x0c\xff\0\0\0\0" + struct.pack(">q", -(2**63)),
    ],
    ids=lambda data: data[:12].hex() or "empty",
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    error = refusal_of_bytes(data)
    assert "not a message that redisq wrote" in str(error)
    assert error.__suppress_context__  # the exception behind it may hold the bytes
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("data", "path", "problem"),
    [
        (b"\x81\xa1a\xcb\x7f\xf8\0\0\0\0\0\0", "$.a", "NaN"),
        (b"\x91\xca\x7f\x80\0\0", "$[0]", "infinite"),
        (b"\xcf\x80\0\0\0\0\0\0\0", "$", "64 signed bits"),
        (b"\x91\xcf" + b"\xff" * 8, "$[0]", "64 signed bits"),
        (b"\x81\xa1a\x81\xc4\x01b\0", "$.a", "a key of the map is bytes"),
        (b"\x92\0\xd4\x05\0", "$[1]", "ExtType"),
        (b"\xc7\0\0", "$", "ExtType"),
    ],
)
def test_bytes_with_a_value_that_encode_refuses_name_its_place(data: bytes, path: str, problem: str) -> None:
    error = refusal_of_bytes(data)
    assert error.path == path
    assert problem in str(error)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"\x82\xa1a\x01\xa1a\x02", "$.a"),
        (b"\x82\xa1a\x01\xa1a\x01", "$.a"),
        (b"\x81\xa1b\x92\0\x82\xa3a b\0\xa3a b\0", '$.b[1]["a b"]'),
        (b"\x82\xa1a" + b"\x91" * 500 + b"\xc0\xa1a\x01", "$.a"),
    ],
    ids=["other value", "same value", "deep", "one of them too deep"],
)
def test_a_repeated_key_is_named(data: bytes, path: str) -> None:
    error = refusal_of_bytes(data)
    assert error.path == path
    assert "more than once" in str(error)


@pytest.mark.parametrize(
    "data",
    [
        b"\xcc\x01",
        b"\xd0\x01",
        b"\xd3" + b"\0" * 7 + b"\x01",
        b"\xca\x3f\x80\0\0",
        b"\xd9\x01a",
        b"\xc5\0\x01a",
        b"\xdc\0\x01\0",
        b"\xde\0\x01\xa1a\0",
        b"\xd7\xff\0\0\0\0\0\0\0\0",
        b"\xd7\xff\0\0\0\x04\0\0\0\0",
    ],
    ids=lambda data: data.hex(),
)
def test_another_encoding_of_a_value_is_refused(data: bytes) -> None:
    assert "the one encoding that redisq writes" in str(refusal_of_bytes(data))


# --- the envelope ---


def test_an_envelope_without_headers_is_one_byte() -> None:
    request = {"hello": "world"}
    assert encode_request(request) == b"\x01" + encode(request)
    assert encode_request(request, headers={}) == encode_request(request)


def test_an_envelope_with_headers_has_them_before_the_request() -> None:
    assert encode_request([1], headers={"a": "b"}) == b"\x01\xc1\x00\x05\x81\xa1a\xa1b\x91\x01"


def test_max_bytes_counts_the_request_alone() -> None:
    assert decode_request(encode_request("abcd", 5, {"name": "x" * 1000})) == ("abcd", {"name": "x" * 1000})


@pytest.mark.parametrize("version", [version for version in range(256) if version != ENVELOPE_VERSION])
def test_an_unknown_version_is_refused_as_a_newer_redisqs(version: int) -> None:
    with pytest.raises(InvalidMessage, match=rf"A newer redisq wrote this message.* version {version},"):
        decode_request(bytes([version]) + encode({"hello": "world"}))


def test_an_empty_envelope_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="envelope is empty"):
        decode_request(b"")


def test_headers_have_their_own_limit() -> None:
    fits = {"a": "x" * (MAX_HEADER_BYTES - 6)}
    assert decode_request(encode_request(None, headers=fits)) == (None, fits)
    with pytest.raises(InvalidMessage, match="at most 65,535 bytes"):
        encode_request(None, headers={"a": "x" * (MAX_HEADER_BYTES - 5)})


@pytest.mark.parametrize(
    "headers", [{"a": 1}, {1: "a"}, {"a": None}, {"a": Colour.RED}, {"a": "\ud800"}, {"\ud800": "a"}]
)
def test_headers_that_are_not_text_are_refused(headers: Any) -> None:
    with pytest.raises(InvalidMessage, match="headers must be") as caught:
        encode_request({}, headers=headers)
    assert caught.value.path is None


@pytest.mark.parametrize(
    "headers",
    [{}, [], None, "a", {"a": 1}, {"a": {}}, {"a": b"b"}],
    ids=repr,
)
def test_an_envelope_with_other_headers_is_refused(headers: object) -> None:
    packed = encode(headers)
    with pytest.raises(InvalidMessage, match="headers that redisq did not write"):
        decode_request(b"\x01\xc1" + len(packed).to_bytes(2, "big") + packed + b"\xc0")


@pytest.mark.parametrize("length", [0, 4, 6, 0xFFFF])
def test_a_wrong_length_of_headers_is_refused(length: int) -> None:
    with pytest.raises(InvalidMessage):
        decode_request(b"\x01\xc1" + length.to_bytes(2, "big") + b"\x81\xa1a\xa1b\xc0")


# --- the digest ---


def test_a_digest_is_8_bytes_and_never_changes() -> None:
    assert digest(encode_request({"hello": "world"})).hex() == "2bea37f3e6ef2426"


@given(values, some_headers)
def test_headers_are_no_part_of_the_digest(value: object, headers: dict[str, str]) -> None:
    assert digest(encode_request(value, headers=headers)) == digest(encode_request(value))


def test_equal_requests_have_equal_digests_and_others_do_not() -> None:
    def of(request: object, headers: dict[str, str] | None = None) -> bytes:
        return digest(encode_request(request, headers=headers))

    assert of({"a": 1, "b": (2,)}) == of({"a": 1, "b": [2]})
    different = [of({"a": 1, "b": 2}), of({"b": 2, "a": 1}), of({"a": 1}), of({"a": True})]
    assert len(set(different)) == len(different)
