"""One request on the admin listener as its handlers see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.admin.access import Identity
from relay.admin.filters import did_you_mean
from relay.web.problem import Refusal


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks what. ``query`` holds the last value of a repeated key."""

    who: Identity
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


def object_body(body: bytes, *, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON object in ``body`` (none is an empty one) after checking its keys."""
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("invalid_json", f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Refusal("invalid_request", "the body must be a JSON object")
    for key in value:
        if key not in allowed:
            raise Refusal("invalid_request", f"unknown key '{key[:80]}'{did_you_mean(key, allowed)}")
    return value
