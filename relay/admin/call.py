"""One request on the admin listener as its handlers see it, and their answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from relay.admin.access import Identity
from relay.admin.filters import did_you_mean
from relay.web.problem import Problem


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks what. ``query`` holds the last value of a repeated key."""

    who: Identity
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON value, or bytes of another ``content_type``."""

    status: int
    body: Any
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def object_body(body: bytes, *, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON object in ``body`` (none is an empty one) after checking its keys."""
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Problem(400, "invalid_request", "the body must be a JSON object")
    for key in value:
        if key not in allowed:
            raise Problem(400, "invalid_request", f"unknown key '{key[:80]}'{did_you_mean(key, allowed)}")
    return value


def only_query(call: Call, *allowed: str) -> None:
    """Raise 400 ``invalid_filter`` for a query key that the route does not know."""
    for key in call.query:
        if key not in allowed:
            raise Problem(
                400, "invalid_filter", f"unknown query key '{key[:80]}'{did_you_mean(key, allowed)}", key=key[:80]
            )
