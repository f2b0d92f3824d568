"""One request on the admin listener as its handlers see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.admin.access import Identity
from relay.admin.filters import did_you_mean
from relay.web.problem import Refusal

MOST_REASON = 500  # characters; whoever has more to say writes it down elsewhere and says where


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks what. ``query`` holds the last value of a repeated key."""

    who: Identity
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


def object_body(body: bytes, *, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON object in ``body`` (none is an empty one) after checking its keys.

    A ``reason`` in it, which every change may give, is a text of bounded length, "" for null.
    """
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
    if "reason" in value:
        value["reason"] = _reason(value["reason"])
    return value


def _reason(given: Any) -> str:
    if given is None:
        return ""
    if not isinstance(given, str):
        raise Refusal("invalid_request", "'reason' must be a string", key="reason")
    if len(given) > MOST_REASON:
        detail = f"'reason' has {len(given)} characters, more than {MOST_REASON}: it is shown in one line"
        raise Refusal("invalid_request", detail, key="reason")
    return given
