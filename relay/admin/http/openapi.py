"""``/openapi.json``: the table of routes as OpenAPI 3.1, made from the table itself, so that it cannot drift."""

import re
from collections.abc import Iterable
from typing import Any

from relay.admin.http.endpoint import AdminRoute

_API_VERSION = "1"
_NAME = re.compile(r"{(\w+)}")
_PROBLEM = {
    "description": "What went wrong (RFC 9457); `code` is stable",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def document(endpoints: Iterable[AdminRoute]) -> dict[str, Any]:
    """Return the whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    members = {name: {"type": "string"} for name in ("type", "title", "code", "detail")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "relay admin", "version": _API_VERSION},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": {"type": "object", "properties": {**members, "status": {"type": "integer"}}}},
        },
    }


def _operation(endpoint: AdminRoute) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _NAME.findall(endpoint.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": {"type": "string"}} for name in endpoint.query]
    done = "202" if (endpoint.method, endpoint.path) == ("POST", "/v1/operations") else "200"
    told: dict[str, Any] = {
        "summary": endpoint.summary,
        "x-permission": str(endpoint.needs),
        "responses": {done: {"description": "Done" if done == "200" else "Started"}, "default": _PROBLEM},
    }
    if parameters:
        told["parameters"] = parameters
    if endpoint.body is not None:
        schema = {"type": "object", "properties": dict(endpoint.body), "additionalProperties": False}
        told["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return told
