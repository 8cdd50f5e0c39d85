"""The API's description: whole, true to the routes, and what the page makes of it."""

from __future__ import annotations

import json
import uuid
from html.parser import HTMLParser
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from redisq import guide
from redisq.gateway.table import document
from tests.gateway.conftest import QUEUE, Gateway

OPERATIONS = [
    (method, path, operation) for path, methods in document()["paths"].items() for method, operation in methods.items()
]
operations = pytest.mark.parametrize(
    ("method", "path", "operation"), OPERATIONS, ids=[f"{method} {path}" for method, path, _ in OPERATIONS]
)


def routes(gateway: Gateway) -> set[tuple[str, str]]:
    """The routes of the app, but for those of the page and the guide, which are for people."""
    return {
        (method.lower(), route.path_format)
        for route in gateway.app.routes
        for method in (route.methods or ()) - {"HEAD"}
        if not route.path.startswith(("/_ui", "/_docs/guide"))
    }


def validator(schema: Any) -> Any:
    return jsonschema_rs.validator_for({**schema, "components": document()["components"]})


def test_it_has_the_routes_of_the_app_and_no_others(gateway: Gateway) -> None:
    assert {(method, path) for method, path, _ in OPERATIONS} == routes(gateway)


@operations
def test_an_operation_is_described(method: str, path: str, operation: Any) -> None:
    assert operation["summary"]
    names = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
    assert names == [part[1:-1] for part in path.split("/") if part.startswith("{")]
    assert min(operation["responses"]) < "300"
    for status, response in operation["responses"].items():
        assert response["description"]
        if status < "300":
            continue
        for content in response["content"].values():
            assert content["examples"], "an error without an example"
            for example in content["examples"].values():
                validator(content["schema"]).validate(example["value"])


@operations
def test_its_examples_fit_its_schemas(method: str, path: str, operation: Any) -> None:
    bodies = operation.get("requestBody", {}).get("content", {})
    answers = [response.get("content", {}) for response in operation["responses"].values()]
    for content in [*bodies.values(), *(content for answer in answers for content in answer.values())]:
        if "example" in content:
            validator(content["schema"]).validate(content["example"])


def test_it_is_an_openapi_document() -> None:
    found = document()
    assert found["openapi"] == "3.1.0"
    # OpenAPI's own schema of documents. It wants a whole URL where the specification allows a relative one, as here.
    flow = found["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]
    flow["tokenUrl"] = f"http://gateway{flow['tokenUrl']}"
    schemathesis.openapi.from_dict(found).validate()
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    references = json.dumps(found).split('"$ref": "#/')[1:]
    for reference in references:
        node = found
        for part in reference.partition('"')[0].split("/"):
            node = node[part]
    for schema in found["components"]["schemas"].values():
        validator(schema)


def test_what_is_answered_fits_it(gateway: Gateway) -> None:
    id, missing = gateway.mq.queue_message(QUEUE, {"a": 1}), uuid.uuid4()
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("post", "/{queue}", {"message": 1}),
        ("get", "/{queue}", {}),
        ("get", "/{queue}/{id}", {}),
        ("put", "/{queue}/{id}", {"message": 5}),
        ("get", "/_queues", {}),
        ("get", "/{queue}/_config", {}),
        ("put", "/{queue}/_config", {"message": {"lease": 5}}),
        ("patch", "/{queue}/_config", {"message": {"lease": -5}}),
        ("post", "/{queue}/_pause", {}),
        ("post", "/{queue}/_resume", {}),
        ("get", "/{queue}/_dead", {}),
        ("post", "/{queue}/_redrive", {}),
        ("get", "/_health", {}),
        ("get", "/_ready", {}),
        ("post", "/_token", {"data": {"grant_type": "x"}}),
        ("post", "/{queue}/_purge", {}),
    ]
    described = {(method, path): operation for method, path, operation in OPERATIONS}
    for method, path, how in calls:
        for name in (id, missing):
            for token in ("", None):
                url = path.replace("{queue}", QUEUE).replace("{id}", str(name))
                answer = gateway.call(method.upper(), url, token=token, **how)
                response = described[method, path]["responses"][str(answer.status_code)]
                if "content" in response:
                    (content,) = response["content"].values()
                    validator(content["schema"]).validate(answer.json())


class Page(HTMLParser):
    """What a page holds that could bring something in from elsewhere, and its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {found["id"] or ""} if "id" in found else set()
        if tag in ("script", "link", "img", "iframe") or found.keys() & {"src", "style", "onclick"}:
            self.outside.append(tag)
        if tag == "a":
            self.links.append(found["href"] or "")


@pytest.mark.parametrize("chapter", guide.CHAPTERS)
def test_a_chapter_of_the_guide_is_shown_and_needs_nothing_from_outside(gateway: Gateway, chapter: str) -> None:
    shown = gateway.call("GET", f"/_docs/guide/{chapter}", token=None)
    assert (shown.status_code, shown.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'; style-src 'sha256-" in shown.headers["Content-Security-Policy"]
    page = Page(shown.text)
    assert page.outside == []
    assert f"<h1>{guide.title_of(chapter)}</h1>" in shown.text
    inside = [link for link in page.links if link.startswith("/")]
    assert len(inside) > len(guide.CHAPTERS)
    assert {gateway.call("GET", link, token=None).status_code for link in inside} == {200}


def test_a_chapter_that_there_is_not_is_404(gateway: Gateway) -> None:
    assert gateway.call("GET", "/_docs/guide/nope", token=None).status_code == 404
    first = gateway.call("GET", "/_docs/guide", token=None)
    assert f"<h1>{guide.title_of(guide.CHAPTERS[0])}</h1>" in first.text


def test_the_page_shows_all_of_it_and_needs_nothing_from_outside(gateway: Gateway) -> None:
    shown = gateway.call("GET", "/_docs", token=None)
    assert shown.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'; style-src 'sha256-" in shown.headers["Content-Security-Policy"]
    page = Page(shown.text)
    assert page.outside == []
    assert {operation["operationId"] for _, _, operation in OPERATIONS} <= page.ids
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    for _, path, operation in OPERATIONS:
        assert path in shown.text
        for response in operation["responses"].values():
            assert response["description"]


def test_anybody_may_read_it(gateway: Gateway) -> None:
    assert gateway.call("GET", "/_openapi.json", token=None).json() == json.loads(json.dumps(document()))
