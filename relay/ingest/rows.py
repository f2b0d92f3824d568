"""From a request's headers and body to the rows to accept: one callback, or one per NDJSON line.

Pure: bytes and strings in, ``NewCallback`` rows or a ``Refusal`` out. Payload bytes are kept as they came; of an
envelope line the payload is cut out unparsed. The loop over lines is the hottest of the intake: nothing in it awaits.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from relay.core.errors import RelayError
from relay.core.model import Lane, NewCallback
from relay.web.problem import Refusal
from relay.wire.extract import InvalidJson, check_json

NDJSON = "application/x-ndjson"
_LANES = {"high": Lane.HIGH, "normal": Lane.NORMAL, "low": Lane.LOW}
_MAX_TEXT = 255
_MAX_KEY = 1024
_MAX_GROUP = 255  # shop and account ids are short; what is longer is the wrong field
# Lines parsed before other requests get their turn: about 5 ms.
LINES_PER_TURN = 2000
_TRACEPARENT_CHARS = 55
# 32 MiB of two-byte lines would become 4 GB of rows; real callbacks of 134 bytes on average fill it with this many.
MAX_LINES = 250_000
# What a row takes in memory beside its payload (measured: 249 bytes with key and idempotency key).
ROW_BYTES = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformIntake:
    """What intake must know of a platform, compiled from its configuration."""

    name: str
    needs_json: bool  # its envelope splices payloads into JSON
    expires_s: float
    max_bytes: int  # of one request's body: a payload that alone exceeds it could never be sent
    frame_bytes: int = 0  # of its envelope with no items
    item_bytes: int = 0  # its envelope adds per item
    lane: Lane = Lane.NORMAL
    key: Callable[[bytes], str | None] | None = None  # raises InvalidJson
    group: Callable[[bytes], str | None] | None = None  # raises InvalidJson
    group_path: str = ""  # where ``group`` looks, for people


class Wishes(NamedTuple):
    """What the request's headers say for all its callbacks."""

    idempotency_key: str | None
    key: str | None
    event: str | None
    lane: int
    expires_s: float
    traceparent: str | None


def read_wishes(headers: Mapping[str, str], platform: PlatformIntake, duration: Callable[[str], float]) -> Wishes:
    """Read the ``Relay-*`` headers; raises ``Refusal`` (``invalid_header``) naming the bad one."""
    priority = headers.get("Relay-Priority")
    expires = headers.get("Relay-Expires")
    return Wishes(
        idempotency_key=_text("Idempotency-Key", headers.get("Idempotency-Key"), _MAX_TEXT),
        key=_text("Relay-Key", headers.get("Relay-Key"), _MAX_KEY),
        event=_text("Relay-Event", headers.get("Relay-Event"), _MAX_TEXT),
        lane=platform.lane if priority is None else _lane("Relay-Priority", priority),
        expires_s=platform.expires_s if expires is None else _expires("Relay-Expires", expires, duration),
        traceparent=_traceparent(headers.get("traceparent")),
    )


def one_row(body: bytes, platform: PlatformIntake, wishes: Wishes, content_type: str | None) -> NewCallback:
    """Return the row of a request whose body is one callback. Raises ``Refusal``."""
    _check_fits(len(body), platform)
    try:
        key, group, dead_reason = _look_inside(body, platform, wishes.key)
    except InvalidJson as error:
        raise Refusal("invalid_json", str(error)) from None
    return NewCallback(
        platform.name,
        body,
        key,
        wishes.event,
        wishes.lane,
        wishes.expires_s,
        wishes.idempotency_key,
        _text("Content-Type", content_type, _MAX_TEXT),
        wishes.traceparent,
        group,
        dead_reason,
    )


_Inside = tuple[str | None, str, str | None]


def _look_inside(payload: bytes, platform: PlatformIntake, key: str | None) -> _Inside:
    """Return ordering key, group, and why the callback is dead from the start.

    Raises ``InvalidJson`` where JSON is needed and the payload is none. A payload without its group could only be sent
    in the name of nobody, and refusing it would lose it: it is accepted as a dead letter.
    """
    looked = False
    if key is None and platform.key is not None:
        key = platform.key(payload)
        looked = True
    group, dead_reason = "", None
    if platform.group is not None:
        group = platform.group(payload) or ""
        looked = True
        if not group:
            dead_reason = f"no group: {platform.group_path} is missing in the payload"
        elif len(group) > _MAX_GROUP:
            group, dead_reason = "", f"no group: {platform.group_path} is longer than {_MAX_GROUP} characters"
    if platform.needs_json and not looked:
        check_json(payload)
    return key, group, dead_reason


def lines_of(body: bytes) -> list[bytes]:
    """Return the lines of an NDJSON body, without line ends; empty ones are still in it, so that numbers are right.

    Raises ``Refusal`` (``too_large``) for more than ``MAX_LINES``.
    """
    if body.count(b"\n") > MAX_LINES:
        raise Refusal("too_large", f"the body has more than {MAX_LINES} lines; send it in parts", limit=MAX_LINES)
    lines = body.split(b"\n")
    if b"\r" in body:
        lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
    return lines


def plain_rows(
    lines: list[bytes], platform: PlatformIntake, wishes: Wishes, max_body: int
) -> Iterator[list[NewCallback]]:
    """Yield rows in parts of ``LINES_PER_TURN`` lines, each line being a payload. Raises ``Refusal`` with the line."""
    name, lane, expires_s, event = platform.name, wishes.lane, wishes.expires_s, wishes.event
    traceparent, request_key, header_key = wishes.traceparent, wishes.idempotency_key, wishes.key
    longest = min(max_body, platform.max_bytes - platform.frame_bytes - platform.item_bytes)
    look = _reader(platform, header_key)
    for start in range(0, len(lines), LINES_PER_TURN):
        rows: list[NewCallback] = []
        add = rows.append
        for number, line in enumerate(lines[start : start + LINES_PER_TURN], start + 1):
            if not line or line.isspace():
                continue
            if len(line) > longest:
                raise _line_too_large(number, longest)
            try:
                key, group, dead_reason = look(line)
            except InvalidJson as error:
                raise Refusal("invalid_json", f"line {number}: {error}", line=number) from None
            repeat = None if request_key is None else f"{request_key}#{number}"
            add(NewCallback(name, line, key, event, lane, expires_s, repeat, None, traceparent, group, dead_reason))
        yield rows


def _reader(platform: PlatformIntake, header_key: str | None) -> Callable[[bytes], _Inside]:
    """Return the cheapest function that does what ``_look_inside`` does for this request."""
    extract = platform.key
    if platform.group is None and extract is not None and header_key is None:
        return lambda line: (extract(line), "", None)
    if platform.group is None and platform.needs_json:

        def check(line: bytes) -> _Inside:
            check_json(line)
            return header_key, "", None

        return check
    return lambda line: _look_inside(line, platform, header_key)


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    payload: msgspec.Raw
    key: str | int | None = None
    event: str | None = None
    idempotency_key: str | None = None
    priority: str | None = None
    expires: str | None = None


_LINE = msgspec.json.Decoder(_Line)


def envelope_rows(
    lines: list[bytes], platform: PlatformIntake, wishes: Wishes, max_body: int, duration: Callable[[str], float]
) -> Iterator[list[NewCallback]]:
    """Yield rows as ``plain_rows`` does, each line being ``{"payload": …, "key": …, …}`` (``Relay-Envelope: 1``).

    What a line does not say is as the request's headers say.
    """
    longest = min(max_body, platform.max_bytes - platform.frame_bytes - platform.item_bytes)
    for start in range(0, len(lines), LINES_PER_TURN):
        rows: list[NewCallback] = []
        for number, line in enumerate(lines[start : start + LINES_PER_TURN], start + 1):
            if not line or line.isspace():
                continue
            try:
                rows.append(_envelope_row(line, number, platform, wishes, longest, duration))
            except Refusal as refusal:
                raise Refusal(refusal.code, f"line {number}: {refusal.detail}", line=number, **refusal.extra) from None
        yield rows


def _envelope_row(
    line: bytes,
    number: int,
    platform: PlatformIntake,
    wishes: Wishes,
    longest: int,
    duration: Callable[[str], float],
) -> NewCallback:
    try:
        if not line.isascii():
            line.decode()  # msgspec does not check the text it skips
        said = _LINE.decode(line)
    except UnicodeDecodeError:
        raise Refusal("invalid_json", "not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal("invalid_json", _envelope_problem(error)) from None
    payload = bytes(said.payload)
    if len(payload) > longest:
        raise Refusal("too_large", f"its payload exceeds {longest} bytes", limit=longest)
    key = wishes.key if said.key is None else _text("key", str(said.key), _MAX_KEY)
    try:
        key, group, dead_reason = _look_inside(payload, platform, key)
    except InvalidJson as error:
        raise Refusal("invalid_json", str(error)) from None
    repeat = _text("idempotency_key", said.idempotency_key, _MAX_TEXT)
    if repeat is None and wishes.idempotency_key is not None:
        repeat = f"{wishes.idempotency_key}#{number}"
    return NewCallback(
        platform.name,
        payload,
        key,
        wishes.event if said.event is None else _text("event", said.event, _MAX_TEXT),
        wishes.lane if said.priority is None else _lane("priority", said.priority),
        wishes.expires_s if said.expires is None else _expires("expires", said.expires, duration),
        repeat,
        None,
        wishes.traceparent,
        group,
        dead_reason,
    )


def _envelope_problem(error: Exception) -> str:
    # A line that is no envelope may be a bare payload sent by mistake: its member names are not repeated (I15).
    text = str(error)
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if "unknown field" in text:
        return "unknown member; an envelope has payload, key, event, idempotency_key, priority and expires"
    if isinstance(error, msgspec.ValidationError):
        return f"not an envelope: {text}"
    return "not valid JSON"


def line_number(lines: list[bytes], index: int) -> int:
    """Return the line (from 1) that row ``index`` (from 0) came from."""
    numbers = (number for number, line in enumerate(lines, 1) if line and not line.isspace())
    return next(number for place, number in enumerate(numbers) if place == index)


def _check_fits(size: int, platform: PlatformIntake) -> None:
    longest = platform.max_bytes - platform.frame_bytes - platform.item_bytes
    if size > longest:
        raise Refusal(
            "too_large",
            f"alone in its envelope this payload exceeds batch.max_bytes of {platform.name}; {longest} bytes fit",
            limit=longest,
        )


def _line_too_large(number: int, limit: int) -> Refusal:
    return Refusal("too_large", f"line {number}: its payload exceeds {limit} bytes", line=number, limit=limit)


def _text(name: str, value: str | None, longest: int) -> str | None:
    if value is None or (0 < len(value) <= longest and value.isprintable()):
        return value
    raise Refusal("invalid_header", f"{name} must be 1 to {longest} printable characters", header=name)


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
    if value is None or len(value) < _TRACEPARENT_CHARS or len(value) > _MAX_TEXT or not value.isascii():
        return None
    return value if value.isprintable() else None
