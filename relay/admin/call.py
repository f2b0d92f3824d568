"""One request on the admin listener as its handlers see it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.admin.access import Caller
from relay.admin.filters import did_you_mean, nothing_said
from relay.core.raw import JsonObject
from relay.web.refusal import Refusal

MOST_REASON = 500  # characters; whoever has more to say writes it down elsewhere and says where


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks what. Each key of ``query`` was given once; ``languages`` is the header Accept-Language."""

    who: Caller
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    languages: str = ""


def object_body(body: bytes, *, allowed: tuple[str, ...]) -> JsonObject:
    """Return the JSON object in ``body`` (none is an empty one) after checking its keys.

    A key that is null, empty or there twice is refused by name (400 ``invalid_request``): what many serialisers write
    for "nothing was said" must not be taken for "all of them". A ``reason``, which every change may give, is a text of
    bounded length.
    """
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
        json.loads(body, object_pairs_hook=_each_once)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Refusal("invalid_json", f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Refusal("invalid_request", "the body must be a JSON object")
    for key, given in value.items():
        if key not in allowed:
            raise Refusal("invalid_request", f"unknown key '{key[:80]}'{did_you_mean(key, allowed)}")
        if why := nothing_said(given):
            raise Refusal("invalid_request", f"'{key}' {why}", key=key)
    if "reason" in value:
        _check_reason(value["reason"])
    return value


def flag(body: JsonObject, key: str) -> bool:
    """Return a key that is true or false, false when it is not given."""
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise Refusal("invalid_request", f"'{key}' must be true or false", key=key)
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Refusal("invalid_request", f"the key '{twice[:80]}' stands twice", key=twice[:80])


def _check_reason(given: Any) -> None:
    if not isinstance(given, str):
        raise Refusal("invalid_request", "'reason' must be a string", key="reason")
    if len(given) > MOST_REASON:
        detail = f"'reason' has {len(given)} characters, more than {MOST_REASON}: it is shown in one line"
        raise Refusal("invalid_request", detail, key="reason")
