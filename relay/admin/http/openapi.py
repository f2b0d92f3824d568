"""``/openapi.json``: the table of routes as OpenAPI 3.1, made from the table itself, so that it cannot drift."""

import re
from collections.abc import Iterable
from typing import Any

from relay.admin.http.endpoint import AdminRoute
from relay.views.moments import schemas

_API_VERSION = "1"
_NAME = re.compile(r"{(\w+)}")
_SCHEMA = "#/components/schemas/{name}"
_PROBLEM = {
    "description": "What went wrong (RFC 9457); `code` is stable",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def document(endpoints: Iterable[AdminRoute]) -> dict[str, Any]:
    """Return the whole document."""
    paths: dict[str, dict[str, Any]] = {}
    routes = list(endpoints)
    shown = list({each.shows: None for each in routes if each.shows is not None})
    for endpoint in routes:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    members = {name: {"type": "string"} for name in ("type", "title", "code", "detail")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "relay admin", "version": _API_VERSION},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Problem": {"type": "object", "properties": {**members, "status": {"type": "integer"}}},
                **schemas(shown, ref_template=_SCHEMA),
            },
        },
    }


def _operation(endpoint: AdminRoute) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _NAME.findall(endpoint.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": {"type": "string"}} for name in endpoint.query]
    done = "202" if (endpoint.method, endpoint.path) == ("POST", "/v1/operations") else "200"
    answer: dict[str, Any] = {"description": "Done" if done == "200" else "Started"}
    if endpoint.shows is not None:
        view = {"$ref": _SCHEMA.format(name=endpoint.shows.__name__)}
        answer["content"] = {"application/json": {"schema": view}}
    told: dict[str, Any] = {
        "summary": endpoint.summary,
        "x-permission": str(endpoint.needs),
        "responses": {done: answer, "default": _PROBLEM},
    }
    if parameters:
        told["parameters"] = parameters
    if endpoint.body is not None:
        schema = {"type": "object", "properties": dict(endpoint.body), "additionalProperties": False}
        told["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return told
