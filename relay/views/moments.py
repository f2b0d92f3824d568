"""Times in views, and views as JSON: inside the relay a time is a number, in an answer it is ISO 8601 text in UTC.

A view holds its times as ``Instant``. ``plain`` writes them as people know them and ``read`` takes them back, so that
one type serves the store (relay clock), the API (text) and a command that reads the answer (wall clock).
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from relay.core.raw import JsonObject

_T = TypeVar("_T")


class Instant(float):
    """A time in seconds: on the relay clock inside the daemon, since the epoch where an answer was read."""

    __slots__ = ()


def told(text: str) -> msgspec.Meta:
    """Return what a field of a view means, with its unit: for whoever reads the code or ``/openapi.json``."""
    return msgspec.Meta(description=text)


def instant_text(at: float | None, shift_s: float = 0.0) -> str | None:
    """Return ``at`` as ``2026-11-22T10:02:11.123Z``; None for no time (None, zero or infinite)."""
    if at is None or at <= 0 or not math.isfinite(at):
        return None
    moment = datetime.fromtimestamp(round((at + shift_s) * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(view: object, *, shift_s: float = 0.0) -> Any:
    """Return a view (or a list of them) as what JSON knows; ``shift_s``: how far wall time is ahead of its times."""

    return msgspec.to_builtins(view, enc_hook=_writer(shift_s))


def to_json(view: object, *, shift_s: float = 0.0) -> bytes:
    """Return a view, or what else JSON has a form for, as JSON; ``shift_s`` as for ``plain``."""
    return msgspec.json.encode(view, enc_hook=_writer(shift_s))


def read(kind: type[_T], given: Any) -> _T:
    """Return what ``plain`` made of a view as one again. Raises ``msgspec.ValidationError`` when it is none."""
    return msgspec.convert(given, kind, dec_hook=_instant)


def moment(at: float | None) -> Instant | None:
    """Return a time, None for none."""
    return None if at is None else Instant(at)


def schemas(kinds: list[type], *, ref_template: str) -> JsonObject:
    """Return the JSON Schemas of views and of all they hold, by name."""
    return msgspec.json.schema_components(kinds, schema_hook=_schema, ref_template=ref_template)[1]


def _writer(shift_s: float) -> Callable[[object], str | None]:
    def text(value: object) -> str | None:
        if isinstance(value, Instant):
            return instant_text(value, shift_s)
        raise NotImplementedError(f"a view holds a {type(value).__name__}")

    return text


def _instant(kind: type, value: object) -> object:
    if kind is Instant and isinstance(value, str):
        return Instant(datetime.fromisoformat(value).timestamp())
    if kind is Instant and isinstance(value, int | float):
        return Instant(value)
    raise NotImplementedError(f"no time: {value!r}")


def _schema(kind: type) -> dict[str, str]:
    if kind is Instant:
        return {"type": "string", "format": "date-time"}
    raise NotImplementedError(f"no schema for {kind.__name__}")
