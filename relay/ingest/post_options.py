"""What a client asks for beside the payload: in a request's ``Relay-*`` headers, or in the members of an envelope line.

Pure: strings and bytes in, ``PostOptions`` or a ``Refusal`` out. A refusal never repeats anything of a payload (I15).
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from relay.config.problems import BadValue
from relay.config.reading.units import DURATION_PATTERN, parse_duration
from relay.core.clock import wall_s
from relay.core.model import Lane
from relay.ingest.traced import TRACEPARENT
from relay.web.refusal import Refusal
from relay.wire.payload.extract import InvalidJson, as_written, readable

_LANES = {"high": Lane.HIGH, "normal": Lane.NORMAL, "low": Lane.LOW}
MAX_TEXT = 255
MAX_KEY_BYTES = 1024
MAX_REFERENCE_BYTES = 200
_TRACEPARENT_CHARS = 55
_OURS = ("relay-", "idempotency-key")
_LONGEST_DELAY_S = 366 * 86400.0
_DURATION = re.compile(DURATION_PATTERN)


class PostOptions(NamedTuple):
    """What a client asks for: for one callback, or in its headers for all callbacks of the request."""

    idempotency_key: str | None
    key: str | None
    event: str | None
    lane: int
    expires_s: float
    traceparent: str | None
    reference: str | None = None
    delay_s: float = 0.0  # from now on; it must not go earlier


class PostDefaults(Protocol):
    """What holds if a client does not say."""

    @property
    def lane(self) -> Lane:
        """Without ``Relay-Priority``."""
        ...

    @property
    def expires_s(self) -> float:
        """Without ``Relay-Expires``."""
        ...


def read_post_options(headers: Mapping[str, str], defaults: PostDefaults) -> PostOptions:
    """Read the ``Relay-*`` headers. Raises ``Refusal`` (``invalid_header``) that names the bad one.

    One that stands twice is bad: of two ordering keys or two idempotency keys nobody knows which is meant.
    """
    _check_repeated(headers)
    get = headers.get
    idempotency_key, key, event = get("Idempotency-Key"), get("Relay-Key"), get("Relay-Event")
    priority, expires = get("Relay-Priority"), get("Relay-Expires")
    not_before, reference = get("Relay-Not-Before"), get("Relay-Reference")
    trace = TRACEPARENT.get() or get("traceparent")
    return PostOptions(  # most requests have one of these or none, so a call is made for those alone
        None if idempotency_key is None else text("Idempotency-Key", idempotency_key, MAX_TEXT),
        None if key is None else _bounded("Relay-Key", key, MAX_KEY_BYTES),
        None if event is None else text("Relay-Event", event, MAX_TEXT),
        defaults.lane if priority is None else _lane("Relay-Priority", priority),
        defaults.expires_s if expires is None else _expires("Relay-Expires", expires),
        None if trace is None else _traceparent(trace),
        None if reference is None else _bounded("Relay-Reference", reference, MAX_REFERENCE_BYTES),
        0.0 if not_before is None else _delay_s(not_before),
    )


def _check_repeated(headers: Mapping[str, str]) -> None:
    seen: set[str] = set()
    for name, _ in headers.items():  # aiohttp's mapping holds a name as often as it came
        lowered = name.lower()
        if lowered in seen and lowered.startswith(_OURS):
            raise Refusal("invalid_header", f"{name} stands twice; send one", header=str(name))
        seen.add(lowered)


class _EnvelopeLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    payload: msgspec.Raw
    key: str | int | None = None
    event: str | None = None
    idempotency_key: str | None = None
    priority: str | None = None
    expires: str | None = None


_LINE = msgspec.json.Decoder(_EnvelopeLine)


Opened = tuple[bytes, str | None, str | None, str | None, int, float]
"""Payload, idempotency key, key, event, lane and expiry, as in ``PostOptions``. A plain tuple: there are many."""


def open_envelope(line: bytes, number: int, options: PostOptions) -> Opened:
    """Read ``{"payload": …, "key": …, …}``, which is line ``number`` of its request.

    ``options`` hold for what the line leaves out. The payload is cut out unparsed. Raises ``Refusal``.
    """
    try:
        if not line.isascii():
            line.decode()  # msgspec does not check the text it skips
        members, payload = _members(line)
    except UnicodeDecodeError:
        raise Refusal("invalid_json", "not UTF-8") from None
    except InvalidJson as error:
        raise Refusal("invalid_json", error.problem) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal("invalid_json", _envelope_problem(error)) from None
    return (
        payload,
        repeat_key(options, number)
        if members.idempotency_key is None
        else text("idempotency_key", members.idempotency_key),
        options.key if members.key is None else _bounded("key", str(members.key), MAX_KEY_BYTES),
        options.event if members.event is None else text("event", members.event),
        options.lane if members.priority is None else _lane("priority", members.priority),
        options.expires_s if members.expires is None else _expires("expires", members.expires),
    )


def _members(line: bytes) -> tuple[_EnvelopeLine, bytes]:
    """Return the members of an envelope line, and its payload byte for byte."""
    try:
        members = _LINE.decode(line)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        twin = readable(line)
        if twin is line:
            raise
        members = _LINE.decode(twin)
        return members, as_written(bytes(members.payload), twin, line)
    return members, bytes(members.payload)


def repeat_key(options: PostOptions, number: int) -> str | None:
    """Return the idempotency key of a line without its own: ``key#3`` for line 3 of a request with ``key``."""
    return None if options.idempotency_key is None else f"{options.idempotency_key}#{number}"


def _envelope_problem(error: Exception) -> str:
    # Such a line may be a bare payload sent by mistake: the answer must not repeat its member names (I15).
    problem = str(error)
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if "unknown field" in problem:
        return "unknown member; an envelope has payload, key, event, idempotency_key, priority and expires"
    if isinstance(error, msgspec.ValidationError):
        return f"not an envelope: {problem}"
    return "not valid JSON"


def text(name: str, value: str | None, longest: int = MAX_TEXT) -> str | None:
    """Return a text that may be stored and shown. Raises ``Refusal`` that names the header or member."""
    if value is None or (0 < len(value) <= longest and value.isprintable()):
        return value
    raise Refusal("invalid_header", f"{name} must be 1 to {longest} printable characters", header=name)


def fits(value: str, most_bytes: int) -> bool:
    """Return whether a text has at most so many bytes as UTF-8, in which a character has at most 4 (RFC 3629)."""
    return len(value) * 4 <= most_bytes or len(value.encode("utf-8", "surrogatepass")) <= most_bytes


def _bounded(name: str, value: str | None, most_bytes: int) -> str | None:
    if value is not None and not fits(value, most_bytes):
        raise Refusal("invalid_header", f"{name} must be 1 to {most_bytes} bytes", header=name)
    return text(name, value, most_bytes)


def _lane(name: str, value: str) -> int:
    lane = _LANES.get(value.strip().lower())
    if lane is None:
        raise Refusal("invalid_header", f"{name} must be high, normal or low", header=name)
    return lane


def _expires(name: str, value: str) -> float:
    try:
        seconds = parse_duration(value.strip())
    except BadValue:
        seconds = 0.0
    if seconds <= 0:
        raise Refusal("invalid_header", f"{name} must be a duration such as 30m, longer than nothing", header=name)
    return seconds


def _delay_s(value: str) -> float:
    """Return in how many seconds a callback may go: ``30m`` from now, or at a time (ISO 8601, with its zone)."""
    written = value.strip()
    try:
        if _DURATION.fullmatch(written):
            seconds = parse_duration(written)
        else:
            moment = datetime.fromisoformat(written)
            if moment.tzinfo is None:
                raise ValueError("without a zone it would be another time on another machine")
            seconds = moment.timestamp() - wall_s()
    except (BadValue, ValueError, OverflowError):
        seconds = math.inf
    if seconds > _LONGEST_DELAY_S:
        what = "a duration such as 30m, or a time with its zone such as 2026-11-30T08:00:00+08:00, within a year"
        raise Refusal("invalid_header", f"Relay-Not-Before must be {what}", header="Relay-Not-Before")
    return max(0.0, seconds)


def _traceparent(value: str) -> str | None:
    # W3C Trace Context section 3.2.2.5: what cannot be parsed is ignored. A broken tracer must not cost a callback.
    if len(value) < _TRACEPARENT_CHARS or len(value) > MAX_TEXT or not value.isascii():
        return None
    return value if value.isprintable() else None
