"""Clients that generators make of the document: whole, of sound types, and each operation used on a live gateway."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from redisq.gateway.table import document
from tests.gateway.conftest import Served
from tests.system.test_packaging import Environment, environment, folder, good, index, run

__all__ = ["environment", "folder", "index"]  # fixtures

pytestmark = pytest.mark.packaging

OPERATIONS = [operation for methods in document()["paths"].values() for operation in methods.values()]
NAMES = {operation["operationId"] for operation in OPERATIONS}

#: Uses each operation of the client that openapi-python-client made, and prints what was answered.
PYTHON = """
import importlib, os, pkgutil, uuid
from made import AuthenticatedClient, Client, api, models

client = AuthenticatedClient(os.environ["GATEWAY"], os.environ["TOKEN"])
found = {}
for tag in pkgutil.iter_modules(api.__path__):
    package = importlib.import_module(f"made.api.{tag.name}")
    for module in pkgutil.iter_modules(package.__path__):
        found[module.name] = importlib.import_module(f"made.api.{tag.name}.{module.name}")

def use(name, *args, **how):
    answer = found[name].sync_detailed(*args, **{"client": client, **how})
    print(name, int(answer.status_code))
    return answer.parsed

def claim():
    (delivery,) = use("claim", "q", body=models.Claim(max_=1, wait=0)).deliveries
    return delivery.id, delivery.receipt

use("replace_definition", "q", body=models.Settings(lease=60, max_attempts=3))
queued = use("queue_message", "q", body={"sku": ["A-1", None, 1.5]}, priority=1)
assert use("get_message", "q", queued.id).request == {"sku": ["A-1", None, 1.5]}
id, receipt = claim()
assert id == queued.id
use("renew", "q", id, body=models.Renewal(receipt, progress={"done": 0.5}))
use("release", "q", id, body=models.Release(receipt))
id, receipt = claim()
use("complete", "q", id, body=models.Completion(receipt, result=[1, "two"]))
message = use("get_message", "q", id)
assert (message.status, message.result) == (models.MessageStatus.COMPLETE, [1, "two"]), message
put = uuid.uuid4()
assert use("put_message", "q", put, body="text").id == put
id, receipt = claim()
error = models.FailureError(type_="Timeout", message="no answer")
use("fail", "q", id, body=models.Failure(receipt, error, final=True))
(dead,) = use("list_dead_letters", "q", limit=10).messages
assert (dead.id, dead.error.type_) == (put, "Timeout")
assert use("redrive", "q").redriven == 1
assert use("cancel_message", "q", put).cancelled is True
use("delete_message", "q", put)
assert use("pause", "q").paused
use("resume", "q")
use("change_definition", "q", body=models.Settings(lease=30))
assert use("get_definition", "q").lease == 30
assert use("get_stats", "q").queue == "q"
assert use("list_queues").queues == ["q"]
use("purge", "q")
use("get_metrics")
for name in ("get_health", "get_readiness", "get_document", "get_page"):
    use(name)
asked = models.TokenRequest("client_credentials", client_id="x", client_secret="y")
use("get_token", client=Client(os.environ["GATEWAY"]), body=asked)
print(*found)
"""

#: The same with openapi-fetch and the types that openapi-typescript made.
TYPESCRIPT = """
import createClient from "openapi-fetch";
import type { components, paths } from "./made.js";

const [baseUrl, token] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

function use<T>(name: string, answer: { data?: T; error?: unknown; response: Response }): T {
  console.log(name, answer.response.status);
  return answer.data as T;
}

async function claim() {
  const body = { max: 1, wait: 0 };
  const claimed = use("claim", await client.POST("/{queue}/_claim", { params: { path: { queue: "q" } }, body }));
  const { id, receipt } = claimed.deliveries[0]!;
  return { id, receipt };
}

const q = { path: { queue: "q" } };
const of = (id: string) => ({ path: { queue: "q", id } });
const settings: components["schemas"]["Settings"] = { lease: 60, max_attempts: 3 };
use("replaceDefinition", await client.PUT("/{queue}/_config", { params: q, body: settings }));
const request = { sku: ["A-1", null, 1.5] };
const urgent = { ...q, query: { priority: 1 } };
const queued = use("queueMessage", await client.POST("/{queue}", { params: urgent, body: request }));
if (!("id" in queued)) throw new Error("it was no stream");
const one = of(queued.id);
const seen = use("getMessage", await client.GET("/{queue}/{id}", { params: one }));
if (JSON.stringify(seen.request) !== JSON.stringify(request)) throw new Error(JSON.stringify(seen));
const lines = await client.POST("/{queue}", {
  params: q, body: [1, "two"], headers: { "Content-Type": "application/x-ndjson" }, parseAs: "text",
  bodySerializer: (body) => (body as unknown[]).map((line) => JSON.stringify(line)).join("\\n"),
});
if (String(lines.data).trim().split("\\n").length !== 2) throw new Error(String(lines.data));
let { receipt } = await claim();
use("renew", await client.POST("/{queue}/{id}/_renew", { params: one, body: { receipt, progress: { done: 0.5 } } }));
use("release", await client.POST("/{queue}/{id}/_release", { params: one, body: { receipt } }));
({ receipt } = await claim());
use("complete", await client.POST("/{queue}/{id}/_complete", { params: one, body: { receipt, result: [1, "two"] } }));
const held = await claim();
const error = { type: "Timeout", message: "no answer" };
const failure = { receipt: held.receipt, error, final: true };
use("fail", await client.POST("/{queue}/{id}/_fail", { params: of(held.id), body: failure }));
const letters = use("listDeadLetters", await client.GET("/{queue}/_dead", { params: { ...q, query: { limit: 10 } } }));
if (letters.messages[0]?.error?.type !== "Timeout") throw new Error(JSON.stringify(letters));
const counted = use("redrive", await client.POST("/{queue}/_redrive", { params: q }));
if (counted.redriven !== 1) throw new Error(JSON.stringify(counted));
const put = of(crypto.randomUUID());
use("putMessage", await client.PUT("/{queue}/{id}", { params: put, body: "text" }));
const ended = use("cancelMessage", await client.POST("/{queue}/{id}/_cancel", { params: put }));
if (ended.cancelled !== true) throw new Error(JSON.stringify(ended));
use("deleteMessage", await client.DELETE("/{queue}/{id}", { params: put }));
use("pause", await client.POST("/{queue}/_pause", { params: q }));
use("resume", await client.POST("/{queue}/_resume", { params: q }));
use("changeDefinition", await client.PATCH("/{queue}/_config", { params: q, body: { lease: 30 } }));
use("getDefinition", await client.GET("/{queue}/_config", { params: q }));
use("getStats", await client.GET("/{queue}", { params: q }));
use("listQueues", await client.GET("/_queues"));
use("purge", await client.POST("/{queue}/_purge", { params: q }));
use("getMetrics", await client.GET("/_metrics", { parseAs: "text" }));
use("getHealth", await client.GET("/_health"));
use("getReadiness", await client.GET("/_ready"));
use("getDocument", await client.GET("/_openapi.json"));
use("getPage", await client.GET("/_docs", { parseAs: "text" }));
use("getToken", await createClient<paths>({ baseUrl }).POST("/_token", {
  body: { grant_type: "client_credentials", client_id: "x", client_secret: "y" },
  headers: { "Content-Type": "application/x-www-form-urlencoded" },
  bodySerializer: (body) => new URLSearchParams(body as Record<string, string>).toString(),
}));
"""
TOOLS = ("openapi-typescript@7", "typescript@5", "openapi-fetch@0.17", "@types/node@20")


def answered(told: str) -> dict[str, set[int]]:
    """The statuses of each operation, by its name as the document spells it."""
    found: dict[str, set[int]] = {}
    for name, status in re.findall(r"^(\w+) (\d+)$", told, re.MULTILINE):
        found.setdefault(re.sub(r"_(\w)", lambda part: part[1].upper(), name), set()).add(int(status))
    return found


def assert_all_succeeded(told: str) -> None:
    found = answered(told)
    assert found.keys() == NAMES
    assert found.pop("getToken") == {401}  # nobody has registered such an application
    assert {status for statuses in found.values() for status in statuses} <= {200, 201, 204}


def test_openapi_python_client_makes_a_client_that_works(
    index: None, environment: Environment, folder: Path, served: Served
) -> None:
    environment.install("openapi-python-client>=0.29,<0.30")
    (folder / "document.json").write_text(json.dumps(document()))
    path = {"PATH": f"{environment.bin}{os.pathsep}{os.environ['PATH']}"}
    made = ("generate", "--path", "document.json", "--output-path", "made", "--meta", "none")
    told = good(environment.bin / "openapi-python-client", *made, cwd=folder, env=path)
    assert "will not be generated" not in told
    assert "Unable to" not in told
    (folder / "use.py").write_text(PYTHON)
    there = {"GATEWAY": served.url, "TOKEN": served.gateway.token()}
    used = good(environment.bin / "python", "use.py", cwd=folder, env=there)
    assert_all_succeeded(used)
    assert len(used.splitlines()[-1].split()) == len(OPERATIONS)


def test_openapi_typescript_makes_types_that_compile_and_work(folder: Path, served: Served) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    installed = run("npm", "install", "--no-audit", "--no-fund", "--silent", *TOOLS, cwd=folder)
    if installed.returncode and not os.environ.get("CI"):
        pytest.skip("npm cannot install: the package index cannot be reached")
    assert installed.returncode == 0, installed.stderr
    tools = folder / "node_modules" / ".bin"
    (folder / "document.json").write_text(json.dumps(document()))
    good(tools / "openapi-typescript", "document.json", "-o", "made.d.ts", cwd=folder)
    (folder / "use.ts").write_text(TYPESCRIPT)
    strict = ("--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom,dom.iterable")
    good(tools / "tsc", *strict, "use.ts", "made.d.ts", cwd=folder)
    assert_all_succeeded(good("node", "use.js", served.url, served.gateway.token(), cwd=folder))
