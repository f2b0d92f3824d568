"""``/openapi.json``: the routes of both listeners as OpenAPI 3.1, made from the tables that are served."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.core.raw import JsonObject
from relay.views.moments import schemas
from relay.web.refusal import CONTENT_TYPE, KINDS

_API_VERSION = "1"
_NAME = re.compile(r"{(\w+)}")
_SCHEMA = "#/components/schemas/{name}"
_STRING: JsonObject = {"type": "string"}
_PROBLEM_CONTENT = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ANY_PROBLEM: JsonObject = {
    "description": "What went wrong (RFC 9457); `code` is stable",
    "content": _PROBLEM_CONTENT,
}


class Answered(NamedTuple):
    """An answer that is no problem: what it means, the views it may be, and the headers that may come with it."""

    text: str
    views: tuple[type, ...] = ()
    headers: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A route as the document tells it."""

    listeners: tuple[str, ...]
    method: str
    path: str
    summary: str
    permission: str | None = None
    query: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)  # of the request, with what each means
    body: Mapping[str, JsonObject] = field(default_factory=dict)  # JSON Schema by content type
    answers: Mapping[int, Answered]
    problems: tuple[str, ...] = ()  # codes of ``web.refusal.KINDS`` it may end with, beside those of every route


def document(routes: Iterable[Described]) -> JsonObject:
    """Return the whole document. A route that both listeners serve stands there once, as the first one tells it."""
    routes = list(routes)
    views = {view: None for route in routes for answer in route.answers.values() for view in answer.views}
    paths: dict[str, dict[str, JsonObject]] = {}
    for route in routes:
        methods = paths.setdefault(route.path, {})
        told = methods.setdefault(route.method.lower(), _operation(route))
        told["tags"] = list(dict.fromkeys((*told["tags"], *route.listeners)))
    members = dict.fromkeys(("type", "title", "code", "detail"), _STRING)
    return {
        "openapi": "3.1.0",
        "info": {"title": "relay", "version": _API_VERSION},
        "tags": [
            {"name": "ingest", "description": "Served by the listener of `ingest.listen`, for order centers"},
            {"name": "admin", "description": "Served by the listener of `admin.listen`, for operators"},
        ],
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Problem": {"type": "object", "properties": {**members, "status": {"type": "integer"}}},
                **schemas(list(views), ref_template=_SCHEMA),
            },
        },
    }


def _operation(route: Described) -> JsonObject:
    parameters = [
        *({"name": name, "in": "path", "required": True, "schema": _STRING} for name in _NAME.findall(route.path)),
        *({"name": name, "in": "query", "schema": _STRING} for name in route.query),
        *(
            {"name": name, "in": "header", "description": text, "schema": _STRING}
            for name, text in route.headers.items()
        ),
    ]
    told: JsonObject = {
        "summary": route.summary,
        "tags": list(route.listeners),
        "responses": {
            **{str(status): _answer(answer) for status, answer in route.answers.items()},
            **_problems(route.problems),
            "default": _ANY_PROBLEM,
        },
    }
    if route.permission is not None:
        told["x-permission"] = route.permission
    if parameters:
        told["parameters"] = parameters
    if route.body:
        told["requestBody"] = {"content": {kind: {"schema": schema} for kind, schema in route.body.items()}}
    return told


def _answer(answer: Answered) -> JsonObject:
    told: JsonObject = {"description": answer.text}
    found = [{"$ref": _SCHEMA.format(name=view.__name__)} for view in answer.views]
    if found:
        told["content"] = {"application/json": {"schema": found[0] if len(found) == 1 else {"anyOf": found}}}
    if answer.headers:
        told["headers"] = {name: {"description": text, "schema": _STRING} for name, text in answer.headers.items()}
    return told


def _problems(codes: Iterable[str]) -> dict[str, JsonObject]:
    """Return the problems of a route by status, each with its codes and what they mean."""
    by_status: dict[str, list[str]] = {}
    waits: set[str] = set()
    for code in codes:
        kind = KINDS[code]
        by_status.setdefault(str(kind.status), []).append(f"`{code}`: {kind.title}")
        if kind.retry_after_s is not None:
            waits.add(str(kind.status))
    after = {"Retry-After": {"description": "seconds to wait before it is sent again", "schema": {"type": "integer"}}}
    return {
        status: {
            "description": ". ".join(texts),
            "content": _PROBLEM_CONTENT,
            **({"headers": after} if status in waits else {}),
        }
        for status, texts in by_status.items()
    }
