"""The test vectors for token makers in other languages hold for redisq itself, and for the one in JavaScript.

They were written by a second implementation, from the description of the format alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from redisq import tokens
from redisq.errors import InvalidToken
from redisq.tokens import Credentials
from redisq.tokens.applications import MasterKey

ROOT = Path(__file__).parents[2]
VECTORS: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "tokens.json").read_text("utf-8"))
SIGNER = ROOT / "deploy" / "example" / "token.mjs"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


def named(rows: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(row, id=row["name"]) for row in rows]


def credentials_of(row: dict[str, Any]) -> Credentials:
    return Credentials.parse(row["app_id"], row["app_secret"])


KEYS = {found.kid: found for found in map(credentials_of, VECTORS["tokens"])}


@pytest.mark.parametrize("row", VECTORS["secrets"], ids=lambda row: f"{row['app_id']} {row['kid']}")
def test_secrets_and_token_keys_are_derived_so(row: dict[str, Any]) -> None:
    made = MasterKey.parse(row["master_key"]).credentials(row["app_id"], row["kid"])
    assert made.secret() == row["app_secret"]
    assert made._token_key.hex() == row["token_key"]


@pytest.mark.parametrize("row", named(VECTORS["tokens"]))
def test_a_token_says_what_its_vector_does(row: dict[str, Any]) -> None:
    grant = tokens.verify(row["token"], KEYS, audience=VECTORS["audience"], now=VECTORS["now"])
    found = tokens.inspect(row["token"])
    assert (found["payload"], found["caveats"]) == (row["claims"], row["caveats"])
    for allowed, pairs in ((True, row["allows"]), (False, row["forbids"])):
        assert [grant.allows(*pair.split(":")) for pair in pairs] == [allowed] * len(pairs)


def test_redisq_makes_the_first_of_them() -> None:
    row = VECTORS["tokens"][0]
    claims = row["claims"]
    times = {"now": VECTORS["now"], "ttl": claims["exp"] - claims["iat"]}
    made = tokens.sign(
        credentials_of(row),
        audience=claims["aud"],
        ops=claims["ops"],
        queues=claims["q"],
        jti=claims["jti"],
        **times,
    )
    assert made == row["token"]


@pytest.mark.parametrize("row", named(VECTORS["refused"]))
def test_a_wrong_one_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken) as caught:
        tokens.verify(row["token"], KEYS, audience=VECTORS["audience"], now=VECTORS["now"])
    assert caught.value.reason == row["reason"]


def node(*arguments: str, input: str = "", **environment: str) -> str:
    assert NODE is not None
    around = {"PATH": os.environ.get("PATH", "")} | environment
    run = subprocess.run([NODE, *arguments], input=input, env=around, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


REPEAT = """
import { readFileSync } from "node:fs";
const { sign, narrow } = await import(process.argv[1]);
const rows = JSON.parse(readFileSync(0));
console.log(JSON.stringify(rows.map((row) => row.caveats.reduce(narrow, sign(row.app_secret, row.claims)))));
"""


@needs_node
def test_the_signer_in_javascript_makes_all_of_them() -> None:
    made = node("--input-type=module", "-e", REPEAT, SIGNER.as_uri(), input=json.dumps(VECTORS["tokens"]))
    assert json.loads(made) == [row["token"] for row in VECTORS["tokens"]]


@needs_node
def test_the_signer_in_javascript_makes_one_for_now() -> None:
    mine = Credentials.generate("shop")
    secret = {"REDISQ_APP_ID": mine.app, "REDISQ_APP_SECRET": mine.secret()}
    for space in ({}, {"REDISQ_NAMESPACE": "staging"}, {"REDISQ_AUDIENCE": "elsewhere", "REDISQ_NAMESPACE": "x"}):
        made = node(str(SIGNER), "queue,get", "orders,reports.*", "60", **secret, **space)
        audience = space.get("REDISQ_AUDIENCE", f"redisq:{space.get('REDISQ_NAMESPACE', 'redisq')}")
        grant = tokens.verify(made, {mine.kid: mine}, audience=audience, now=time.time())
        assert (grant.ops, grant.queues) == ({"queue", "get"}, ("orders", "reports.*"))
        assert grant.expires_at == grant.issued_at + 60


def test_the_signer_is_short() -> None:
    lines = [line for line in SIGNER.read_text("utf-8").splitlines() if line.strip() and not line.startswith("//")]
    assert len(lines) <= 30
