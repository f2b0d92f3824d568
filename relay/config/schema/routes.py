"""The schema of what decides which platform a callback is for: ``routes:``, and a platform's own ``accept`` path."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainValidator, WithJsonSchema, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.reading.texts import parse_jmespath
from relay.config.schema.values import Names, OrText, Section, as_tuple, reading, required, setting
from relay.core.model import UNROUTED
from relay.core.raw import JsonObject

EVENT = "event"
_WORDS = {"dead_letter": (UNROUTED,), "reject": ()}
_OWN_PATHS = ("/livez", "/readyz")
_OWN_PREFIX = "/v1/"

Scalar = str | int | float | bool | None
_SCALARS = {"type": ["string", "number", "boolean", "null"]}
_MATCH_SCHEMA = {
    "type": "object",
    "minProperties": 1,
    "properties": {
        EVENT: {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "description": "Pattern of the event's name: a star is any text.",
        }
    },
    "additionalProperties": {"anyOf": [_SCALARS, {"type": "array", "items": _SCALARS, "minItems": 1}]},
}


def _parse_match(value: Any) -> dict[str, tuple[Scalar, ...]]:
    if not isinstance(value, dict):
        raise BadValue("E013", f"`match` must be a mapping, not {quoted(value)}", "write {event: order.*}")
    if not value:
        hint = "name a field, or write `- {otherwise: {to: [...]}}` as the last route"
        raise BadValue("E060", "the route has no condition, so it would match everything", hint)
    return {_condition(name): _values(name, wanted) for name, wanted in value.items()}


def _condition(name: Any) -> str:
    try:
        return EVENT if name == EVENT else parse_jmespath(name)
    except BadValue as bad:  # its offset counts from the key, the problem stands at the mapping
        raise BadValue(bad.code, bad.message, bad.hint) from None


def _values(name: str, wanted: Any) -> tuple[Scalar, ...]:
    values: tuple[Scalar, ...] = as_tuple(wanted)
    if not values:
        raise BadValue("E060", f"the list of {quoted(name)} is empty, so the route would never match")
    if any(isinstance(value, dict | list) for value in values):
        raise BadValue("E060", f"{quoted(name)} needs a plain value or a list of them", "write [paid, shipped]")
    if name == EVENT and not all(isinstance(value, str) and value for value in values):
        raise BadValue("E060", "event names are texts", 'write event: "order.*"; a field called event is "@.event"')
    return values


def _otherwise_word(value: Any) -> Any:
    if isinstance(value, str):
        if value not in _WORDS:
            raise BadValue("E015", f"{quoted(value)} is not a choice", "choices are dead_letter, reject, {to: [...]}")
        return Otherwise.model_construct(to=_WORDS[value])
    return value


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise BadValue("E060", "`to` names no platform", "write to: [shop-a]")
    repeated = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if repeated is not None:
        raise BadValue("E060", f"`to` names {quoted(repeated)} twice", "name it once")
    return names


def _parse_path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise BadValue("E061", f"{quoted(value)} is not a path", "write /wx/notify")
    if not re.fullmatch(r"[!-~]+", value) or re.search(r"[?#{}]", value):
        hint = "it is compared as it stands in the request, without its query; percent-encode other characters"
        raise BadValue("E061", f"{quoted(value)} cannot stand in a request as it is", hint)
    if value in _OWN_PATHS or f"{value}/".startswith(_OWN_PREFIX):
        raise BadValue("E063", f"the relay itself answers at {value}", "choose a path that does not start with /v1/")
    return value


def _parse_status(value: Any) -> int:
    known = {status.value for status in HTTPStatus if 200 <= status.value < 300}
    if isinstance(value, bool) or value not in known:
        raise BadValue("E016", f"{quoted(value)} is not a status of success", "write 200, 202 or 204")
    return int(value)


def _parse_content_type(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.+-]+)*", value, re.ASCII):
        raise BadValue("E029", f"{quoted(value)} is not a content type", "write application/json")
    return value


Match = Annotated[JsonObject, PlainValidator(reading(_parse_match)), WithJsonSchema(_MATCH_SCHEMA)]
Targets = Annotated[Names, AfterValidator(reading(_some))]
RequestPath = Annotated[
    str, PlainValidator(reading(_parse_path)), WithJsonSchema({"type": "string", "pattern": "^/[!-~]*$"})
]
ReplyStatus = Annotated[
    int, PlainValidator(reading(_parse_status)), WithJsonSchema({"type": "integer", "minimum": 200, "maximum": 299})
]
ContentType = Annotated[str, PlainValidator(reading(_parse_content_type)), WithJsonSchema({"type": "string"})]


class Otherwise(Section):
    """Where a post goes that no route matches."""

    to: Targets = required("Names of the platforms that get it.")


class RouteSettings(Section):
    """One route, or as the last entry what happens to posts that none matches."""

    match: Match | None = setting(
        None,
        "Conditions that must all hold: `event` is a pattern of the event's name, every other key a JMESPath into the "
        "payload; each has a value or a list of values to be one of.",
    )
    to: Targets | None = setting(None, "Names of the platforms that get it, all in one commit.")
    otherwise: Annotated[
        Otherwise | None, BeforeValidator(reading(_otherwise_word)), OrText("(?:dead_letter|reject)")
    ] = setting(
        None,
        "dead_letter keeps the post as a dead letter of the platform _unrouted, reject answers 404 no_route (which is "
        "what happens without this entry), {to: [...]} sends it on.",
    )

    @model_validator(mode="after")
    @reading
    def _one_of_both(self) -> "RouteSettings":
        """Require a route to be whole, or to be the last word."""
        if self.otherwise is not None:
            if self.match is not None or self.to is not None:
                raise BadValue("E060", "`otherwise` stands alone", "make it an entry of its own, the last one")
        elif self.match is None or self.to is None:
            missing = "match" if self.match is None else "to"
            raise BadValue("E060", f"the route has no `{missing}`", "write {match: {event: order.*}, to: [shop-a]}")
        return self

    def takes_all_of(self, later: "RouteSettings") -> bool:
        """Tell whether every post that ``later`` matches is one that this route matches, as far as words show it."""
        own, other = self.match or {}, later.match or {}
        return all(name in other and _covers(name, own[name], other[name]) for name in own)


def _covers(name: str, own: Iterable[Scalar], other: Iterable[Scalar]) -> bool:
    taken = {(type(value), value) for value in own}
    if name == EVENT and (str, "*") in taken:
        return True
    return all((type(value), value) in taken for value in other)


class Reply(Section):
    """What existing code expects as the platform's own answer."""

    status: ReplyStatus = setting(200, "The status, of success: it is given once the callback is on disk.")
    body: str = setting("", "The body, as it is.")
    content_type: ContentType | None = setting(
        None, "Content-Type of the body. Not set: application/json where it is JSON, else text/plain."
    )


class DropInSettings(Section):
    """A path that lets existing code change only the host."""

    path: RequestPath = required(
        "Path of the ingest listener, such as /wx/notify. POST, PUT and PATCH are taken, each body is one callback."
    )
    reply: Reply = setting({}, "Answer once the callback is on disk; until then and otherwise it is an error.")
