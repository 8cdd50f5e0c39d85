"""Scripts are what their headers say, and what DESIGN.md allows them to be.

Globals are read from the compiled form, so that none hides in a branch that no test runs.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pytest

from redisq import store
from redisq.errors import RedisQError
from redisq.store import scripts
from redisq.store.keys import apps_key, partition_keys, queues_key, rate_key
from redisq.store.reply import refusal

lua = pytest.importorskip("lupa.lua51", reason="lupa comes with fakeredis[lua]")

FOLDER = files(scripts)
TESTS = Path(__file__).parents[1] / "scripts"
SCRIPTS = sorted(path.name.removesuffix(".lua") for path in FOLDER.iterdir() if path.name.endswith(".lua"))
PERMITTED = "permitted"  # no operation, but asked before one with its keys, so that it names none
OPERATIONS = [name for name in SCRIPTS if name != PERMITTED]
LIB = sorted(path.name.removesuffix(".lua") for path in (FOLDER / "lib").iterdir())

ALLOWED_GLOBALS = {
    *("redis", "KEYS", "ARGV", "error", "math", "string", "table", "tonumber", "tostring", "type", "unpack"),
}
ALLOWED_COMMANDS = {
    *("GET", "SET", "TIME", "HGET", "HMGET", "HGETALL", "HLEN", "HRANDFIELD", "HSET", "HDEL", "HINCRBY"),
    *("LLEN", "RPUSH", "XLEN", "XRANGE", "XADD", "XDEL", "ZCARD", "ZRANGE", "ZRANGEBYSCORE", "ZSCORE"),
    "UNLINK",
    *("ZADD", "ZREM", "DEL"),
    *("EXISTS", "XTRIM"),
    *(
        "HSCAN",
        "HEXISTS",
        "HSTRLEN",
        "INFO",
        "SCAN",
        "TYPE",
        "XREVRANGE",
        "ZSCAN",
    ),  # only read, and only by those of the doctor and of lists
}


@dataclass
class Header:
    """What a script's comment says of it."""

    purpose: str
    uses: list[str] = field(default_factory=list)
    keys: list[tuple[int, str, str]] = field(default_factory=list)  # number, name, shape
    args: list[tuple[int, str]] = field(default_factory=list)  # number, name
    any_keys: bool = False  # as many as there are, of any shape
    items: tuple[int, int] | None = None  # where the repeated items begin, and how many arguments each takes
    reply: bool = False
    errors: set[str] = field(default_factory=set)


def source_of(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text("utf-8")


def code_of(source: str) -> str:
    """The source without its comments."""
    return re.sub(r"--.*$", "", source, flags=re.MULTILINE)


def header_of(name: str) -> Header:
    lines = source_of(name).splitlines()
    purpose = re.fullmatch(rf"-- {name}: (.+)", lines[0])
    assert purpose, "the first line says what the script is for"
    header = Header(purpose[1])
    for line in lines[1:]:
        if not line.startswith("--"):
            break
        if found := re.fullmatch(r"-- USES (.+)", line):
            header.uses += found[1].split(", ")
        elif found := re.fullmatch(r"-- KEYS\[(\d+)\] +(\w+) +(\S+)", line):
            header.keys.append((int(found[1]), found[2], found[3]))
        elif re.fullmatch(r"-- KEYS\[1\+\] +key   +per \w+.*", line):
            header.any_keys = True
        elif found := re.fullmatch(r"-- ARGV\[(\d+)\] +(\w+) .*", line):
            header.args.append((int(found[1]), found[2]))
        elif found := re.fullmatch(r"-- ARGV\[(\d+)\+\] +(\w+(?:, \w+)*) +per \w+.*", line):
            header.items = int(found[1]), len(found[2].split(", "))
        elif re.fullmatch(r"-- REPLY +\S.*", line):
            header.reply = True
        elif found := re.fullmatch(r"-- ERROR +([A-Z_]+)  +\S.*", line):
            header.errors.add(found[1])
        else:
            assert re.fullmatch(r"--|--  {6,}\S.*", line), f"what is this line? {line}"
    return header


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_header_is_whole(name: str) -> None:
    header = header_of(name)
    assert header.reply
    assert [number for number, _, _ in header.keys] == list(range(1, len(header.keys) + 1))
    assert bool(header.keys) is (name != PERMITTED)
    assert header.any_keys is (name == PERMITTED)
    numbers = [number for number, _ in header.args] + ([header.items[0]] if header.items else [])
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("name", SCRIPTS)
def test_keys_have_the_shape_that_keys_py_spells(name: str) -> None:
    of_queue = partition_keys("{ns}", "orders")
    others = {"queues": queues_key("{ns}"), "apps": apps_key("{ns}"), "rate": rate_key("{ns}", "{app}")}
    for _, key, shape in header_of(name).keys:
        assert shape == (others.get(key) or getattr(of_queue, key))


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_body_names_the_keys_as_the_header_does(name: str) -> None:
    named: list[tuple[int, str]] = []
    for left, right in re.findall(r"^local ([\w, ]+) = (KEYS\[.+)$", code_of(source_of(name)), re.MULTILINE):
        numbers = [int(number) for number in re.findall(r"KEYS\[(\d+)\]", right)]
        named += zip(numbers, left.split(", "), strict=True)
    assert named == [(number, key) for number, key, _ in header_of(name).keys]
    assert len(re.findall(r"\bKEYS\b", code_of(source_of(name)))) == len(named)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_loader_reads_the_same_keys(name: str) -> None:
    assert scripts.load(name).keys == tuple(key for _, key, _ in header_of(name).keys)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_argument_is_documented_and_used(name: str) -> None:
    code, header = code_of(source_of(name)), header_of(name)
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", code)}
    assert used == {number for number, _ in header.args}
    loops = {(int(start), int(step or 1)) for start, step in re.findall(r"for i = (\d+), #ARGV(?:, (\d+))? do", code)}
    assert loops == ({header.items} if header.items else set())
    offsets = {int(offset) for offset in re.findall(r"ARGV\[i \+ (\d+)\]", code)}
    assert offsets == (set(range(1, header.items[1])) if header.items else set())


@pytest.mark.parametrize("name", SCRIPTS)
def test_refusals_are_documented_and_understood(name: str) -> None:
    code, errors = code_of(source_of(name)), header_of(name).errors
    assert set(re.findall(r"\{'([A-Z_]+)'", code)) == errors
    for word in errors:
        assert type(refusal([word.encode(), b"1"])) is not RedisQError


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_call_and_tests_go_with_it(name: str) -> None:
    nouns = [getattr(store, noun) for noun in store.__all__]
    assert name == PERMITTED or [noun for noun in nouns if callable(getattr(noun, name, None))]
    assert (TESTS / f"test_{name}.py").is_file()


# --- Shared functions ---


def functions_of(part: str) -> set[str]:
    """The functions that a file of `lib/` offers."""
    source = (FOLDER / "lib" / f"{part}.lua").read_text("utf-8")
    return set(re.findall(r"^local function (\w+)", source, re.MULTILINE))


def named_in(code: str) -> set[str]:
    return {part for part in LIB if functions_of(part) & set(re.findall(r"\w+(?=\()", code_of(code)))}


@pytest.mark.parametrize("part", LIB)
def test_a_shared_file_says_what_it_is_for_and_offers_functions_only(part: str) -> None:
    source = (FOLDER / "lib" / f"{part}.lua").read_text("utf-8")
    assert source.startswith(f"-- {part}: ")
    assert functions_of(part)
    outside = [
        line
        for line in code_of(source).splitlines()
        if line.strip() and not line.startswith((" ", "local function", "end"))
    ]
    assert outside == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_exactly_the_shared_functions_that_are_needed_are_used(name: str) -> None:
    """That each comes after what it needs itself, the check of globals below tells."""
    needed, waiting = set(), named_in(source_of(name))
    while waiting:
        part = waiting.pop()
        needed.add(part)
        waiting |= named_in((FOLDER / "lib" / f"{part}.lua").read_text("utf-8")) - needed
    assert sorted(header_of(name).uses) == sorted(needed)


def test_each_shared_file_is_used() -> None:
    assert {part for name in SCRIPTS for part in header_of(name).uses} == set(LIB)


# --- The language ---


@pytest.mark.parametrize("name", OPERATIONS)
def test_only_these_commands_are_run(name: str) -> None:
    script = scripts.load(name)
    text = script.text.decode()
    assert set(script.commands) == set(re.findall(r"redis\.call\('(\w+)'", text)) <= ALLOWED_COMMANDS
    # Never a command that is computed; no pcall but for the first write of an ordinary case, and for hints.
    tried = re.findall(r"redis\.pcall\('(\w+)'", text)
    assert tried == {"queue": ["HINCRBY"], "cancel": ["PUBLISH"], "delete": ["PUBLISH"]}.get(name, [])
    assert text.count("redis.") == text.count("redis.call('") + len(tried)
    assert not text.startswith("#!")


def test_the_script_that_asks_for_permission_runs_no_command() -> None:
    script = scripts.load(PERMITTED)
    assert script.commands == ()
    assert set(re.findall(rb"redis\.(\w+)", script.text)) == {b"acl_check_cmd"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_global_is_set_and_none_read_but_the_plain_ones(name: str) -> None:
    read, written = globals_of(scripts.load(name).text)
    assert written == set()
    assert read <= ALLOWED_GLOBALS


def test_the_check_of_globals_can_fail() -> None:
    text = b"local function f() if KEYS[9] then late = cjson.encode(1) end end return f()"
    assert globals_of(text) == ({"KEYS", "cjson"}, {"late"})


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_server_gets_no_comment_lines(name: str) -> None:
    script = scripts.load(name)
    assert not [line for line in script.text.splitlines() if line.startswith((b"--", b" ")) or not line]
    assert script.sha.decode() == hashlib.sha1(script.text, usedforsecurity=False).hexdigest()


def globals_of(text: bytes) -> tuple[set[str], set[str]]:
    """The globals that a Lua 5.1 chunk reads and those it sets, by its bytecode."""
    runtime = lua.LuaRuntime(encoding=None)
    dump = runtime.eval(b"function(text) return string.dump(assert(loadstring(text))) end")
    reader = _Chunk(dump(text))
    reader.function()
    return reader.read, reader.written


class _Chunk:
    """Lua 5.1 bytecode, of which only the instructions on globals matter."""

    GETGLOBAL, SETGLOBAL = 5, 7

    def __init__(self, data: bytes) -> None:
        self.data = data
        version, _format, _little, self.int, self.size, self.instruction, self.number, _ = data[4:12]
        assert data[:4] == b"\x1bLua"
        assert version == 0x51
        self.at = 12
        self.read: set[str] = set()
        self.written: set[str] = set()

    def bytes(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self, size: int) -> int:
        return int.from_bytes(self.bytes(size), "little")

    def count(self) -> int:
        return self.integer(self.int)

    def string(self) -> str:
        return self.bytes(self.integer(self.size)).rstrip(b"\0").decode("latin-1")

    def constant(self) -> str | None:
        match self.integer(1):
            case 1:
                self.bytes(1)
            case 3:
                self.bytes(self.number)
            case 4:
                return self.string()
        return None

    def function(self) -> None:
        self.string()  # its source
        self.bytes(2 * self.int + 4)  # its lines, numbers of upvalues, parameters and registers
        code = [struct.unpack("<I", self.bytes(self.instruction))[0] for _ in range(self.count())]
        constants = [self.constant() for _ in range(self.count())]
        for instruction in code:
            operation, name = instruction & 0x3F, instruction >> 14
            if operation in (self.GETGLOBAL, self.SETGLOBAL):
                found = constants[name]
                assert found is not None
                (self.read if operation == self.GETGLOBAL else self.written).add(found)
        for _ in range(self.count()):
            self.function()
        self.bytes(self.count() * self.int)  # lines of instructions
        for _ in range(self.count()):  # names of locals
            self.string()
            self.bytes(2 * self.int)
        for _ in range(self.count()):  # names of upvalues
            self.string()


# --- Size ---


ORDINARY = sorted(path.name.removesuffix(".lua") for path in (FOLDER / "ordinary").iterdir())
FILES = [
    *(f"{name}.lua" for name in SCRIPTS),
    *(f"lib/{name}.lua" for name in LIB),
    *(f"ordinary/{name}.lua" for name in ORDINARY),
]


@pytest.mark.parametrize("name", FILES)
def test_a_script_has_150_lines_at_most_and_a_function_40(name: str) -> None:
    lines = (FOLDER / name).read_text("utf-8").splitlines()
    assert len(lines) <= 150
    begins = [number for number, line in enumerate(lines) if line.startswith("local function ")]
    assert all(lines.index("end", begin) - begin < 40 for begin in begins)
