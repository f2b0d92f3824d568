"""What a client asks for beside the payload: in a request's ``Relay-*`` headers, or in the members of an envelope line.

Pure: strings and bytes in, ``Wishes`` or a ``Refusal`` out. Nothing of a payload is repeated in a refusal (I15).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from relay.core.errors import RelayError
from relay.core.model import Lane
from relay.web.refusal import Refusal
from relay.wire.payload.extract import InvalidJson, as_written, readable

_LANES = {"high": Lane.HIGH, "normal": Lane.NORMAL, "low": Lane.LOW}
MAX_TEXT = 255
MAX_KEY_BYTES = 1024
_TRACEPARENT_CHARS = 55
_SURELY_FITS = MAX_KEY_BYTES // 4  # a character has at most 4 bytes (RFC 3629)


class Wishes(NamedTuple):
    """What a client asks for one callback, or by headers for all of its request."""

    idempotency_key: str | None
    key: str | None
    event: str | None
    lane: int
    expires_s: float
    traceparent: str | None


class PostDefaults(Protocol):
    """What holds where a client does not say."""

    @property
    def lane(self) -> Lane:
        """Without ``Relay-Priority``."""
        ...

    @property
    def expires_s(self) -> float:
        """Without ``Relay-Expires``."""
        ...


def read_wishes(headers: Mapping[str, str], unsaid: PostDefaults, duration: Callable[[str], float]) -> Wishes:
    """Read the ``Relay-*`` headers; raises ``Refusal`` (``invalid_header``) naming the bad one."""
    priority = headers.get("Relay-Priority")
    expires = headers.get("Relay-Expires")
    return Wishes(
        idempotency_key=text("Idempotency-Key", headers.get("Idempotency-Key"), MAX_TEXT),
        key=_key("Relay-Key", headers.get("Relay-Key")),
        event=text("Relay-Event", headers.get("Relay-Event"), MAX_TEXT),
        lane=unsaid.lane if priority is None else _lane("Relay-Priority", priority),
        expires_s=unsaid.expires_s if expires is None else _expires("Relay-Expires", expires, duration),
        traceparent=_traceparent(headers.get("traceparent")),
    )


class _EnvelopeLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    payload: msgspec.Raw
    key: str | int | None = None
    event: str | None = None
    idempotency_key: str | None = None
    priority: str | None = None
    expires: str | None = None


_LINE = msgspec.json.Decoder(_EnvelopeLine)


Opened = tuple[bytes, str | None, str | None, str | None, int, float]
"""Payload, then idempotency key, key, event, lane and expiry as in ``Wishes``; plain, for there are many."""


def open_envelope(line: bytes, number: int, wishes: Wishes, duration: Callable[[str], float]) -> Opened:
    """Read ``{"payload": …, "key": …, …}``, which is line ``number`` of its request.

    What the line does not say is as ``wishes`` say. The payload is cut out unparsed. Raises ``Refusal``.
    """
    try:
        if not line.isascii():
            line.decode()  # msgspec does not check the text it skips
        said, payload = _said(line)
    except UnicodeDecodeError:
        raise Refusal("invalid_json", "not UTF-8") from None
    except InvalidJson as error:
        raise Refusal("invalid_json", error.problem) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal("invalid_json", _envelope_problem(error)) from None
    return (
        payload,
        repeat_key(wishes, number) if said.idempotency_key is None else text("idempotency_key", said.idempotency_key),
        wishes.key if said.key is None else _key("key", str(said.key)),
        wishes.event if said.event is None else text("event", said.event),
        wishes.lane if said.priority is None else _lane("priority", said.priority),
        wishes.expires_s if said.expires is None else _expires("expires", said.expires, duration),
    )


def _said(line: bytes) -> tuple[_EnvelopeLine, bytes]:
    """Return what a line says, and its payload as it stands there."""
    try:
        said = _LINE.decode(line)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        twin = readable(line)
        if twin is line:
            raise
        said = _LINE.decode(twin)
        return said, as_written(bytes(said.payload), twin, line)
    return said, bytes(said.payload)


def repeat_key(wishes: Wishes, number: int) -> str | None:
    """Return the idempotency key of line ``number`` where only the request has one."""
    return None if wishes.idempotency_key is None else f"{wishes.idempotency_key}#{number}"


def _envelope_problem(error: Exception) -> str:
    # A line that is no envelope may be a bare payload sent by mistake: its member names are not repeated (I15).
    told = str(error)
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if "unknown field" in told:
        return "unknown member; an envelope has payload, key, event, idempotency_key, priority and expires"
    if isinstance(error, msgspec.ValidationError):
        return f"not an envelope: {told}"
    return "not valid JSON"


def text(name: str, value: str | None, longest: int = MAX_TEXT) -> str | None:
    """Return a text that may be stored and shown; raises ``Refusal`` naming the header or member."""
    if value is None or (0 < len(value) <= longest and value.isprintable()):
        return value
    raise Refusal("invalid_header", f"{name} must be 1 to {longest} printable characters", header=name)


def key_fits(key: str) -> bool:
    """Tell whether an ordering key is short enough to be kept, shown and listed."""
    return len(key) <= _SURELY_FITS or len(key.encode("utf-8", "surrogatepass")) <= MAX_KEY_BYTES


def _key(name: str, key: str | None) -> str | None:
    if key is not None and not key_fits(key):
        raise Refusal("invalid_header", f"{name} must be 1 to {MAX_KEY_BYTES} bytes", header=name)
    return text(name, key, MAX_KEY_BYTES)


def _lane(name: str, value: str) -> int:
    lane = _LANES.get(value.strip().lower())
    if lane is None:
        raise Refusal("invalid_header", f"{name} must be high, normal or low", header=name)
    return lane


def _expires(name: str, value: str, duration: Callable[[str], float]) -> float:
    try:
        seconds = duration(value.strip())
    except (RelayError, ValueError):
        seconds = 0.0
    if seconds <= 0:
        raise Refusal("invalid_header", f"{name} must be a duration such as 30m, longer than nothing", header=name)
    return seconds


def _traceparent(value: str | None) -> str | None:
    # W3C Trace Context section 3.2.2.5: what cannot be parsed is ignored. A broken tracer must not cost a callback.
    if value is None or len(value) < _TRACEPARENT_CHARS or len(value) > MAX_TEXT or not value.isascii():
        return None
    return value if value.isprintable() else None
