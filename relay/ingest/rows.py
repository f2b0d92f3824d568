"""From a request's headers and body to the rows to accept: one callback, or one per NDJSON line.

Pure: bytes and strings in, ``NewCallback`` rows or a ``Refusal`` out. Payload bytes are kept as they came; of an
envelope line the payload is cut out unparsed. The loop over lines is the hottest of the intake: nothing in it awaits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from relay.core.errors import Unfit
from relay.core.model import Lane, NewCallback
from relay.ingest.wishes import Wishes, open_envelope, text
from relay.web.problem import Refusal
from relay.wire.extract import InvalidJson, check_json

NDJSON = "application/x-ndjson"
_MAX_GROUP = 255  # shop and account ids are short; what is longer is the wrong field
# Lines parsed before other requests get their turn: about 5 ms.
LINES_PER_TURN = 2000
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
    # Of payload, key and event: the bytes it takes in a body, where that is not its length. Raises InvalidJson, Unfit.
    measure: Callable[[bytes, str | None, str | None], int] | None = None
    key: Callable[[bytes], str | None] | None = None  # raises InvalidJson
    group: Callable[[bytes], str | None] | None = None  # raises InvalidJson
    group_path: str = ""  # where ``group`` looks, for people


def one_row(body: bytes, platform: PlatformIntake, wishes: Wishes, content_type: str | None) -> NewCallback:
    """Return the row of a request whose body is one callback. Raises ``Refusal``."""
    if platform.measure is None:
        _check_fits(len(body), platform)
    try:
        key, group, dead_reason = look_inside(body, platform, wishes.key)
        size = _measured(body, platform, key, wishes.event)
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
        text("Content-Type", content_type),
        wishes.traceparent,
        group,
        size,
        dead_reason,
    )


def _measured(payload: bytes, platform: PlatformIntake, key: str | None, event: str | None) -> int | None:
    """Return what the callback takes in a body, None where that is its length.

    Raises ``InvalidJson``, and ``Refusal`` for a payload that could never be sent.
    """
    if platform.measure is None:
        return None
    try:
        size = platform.measure(payload, key, event)
    except Unfit as error:
        raise Refusal("unfit_payload", f"{platform.name} cannot be sent this payload: {error}") from None
    _check_fits(size, platform)
    return size


_Inside = tuple[str | None, str, str | None]


def look_inside(payload: bytes, platform: PlatformIntake, key: str | None) -> _Inside:
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
    longest = _longest(platform, max_body)
    measured = platform.measure is not None
    size: int | None = None
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
                if measured:
                    size = _measured(line, platform, key, event)
            except InvalidJson as error:
                raise Refusal("invalid_json", f"line {number}: {error}", line=number) from None
            except Refusal as refusal:
                raise _on_line(refusal, number) from None
            repeat = None if request_key is None else f"{request_key}#{number}"
            add(
                NewCallback(
                    name, line, key, event, lane, expires_s, repeat, None, traceparent, group, size, dead_reason
                )
            )
        yield rows


def _reader(platform: PlatformIntake, header_key: str | None) -> Callable[[bytes], _Inside]:
    """Return the cheapest function that does what ``look_inside`` does for this request."""
    extract = platform.key
    if platform.group is None and extract is not None and header_key is None:
        return lambda line: (extract(line), "", None)
    if platform.group is None and platform.needs_json:

        def check(line: bytes) -> _Inside:
            check_json(line)
            return header_key, "", None

        return check
    return lambda line: look_inside(line, platform, header_key)


def envelope_rows(
    lines: list[bytes], platform: PlatformIntake, wishes: Wishes, max_body: int, duration: Callable[[str], float]
) -> Iterator[list[NewCallback]]:
    """Yield rows as ``plain_rows`` does, each line being ``{"payload": …, "key": …, …}`` (``Relay-Envelope: 1``).

    What a line does not say is as the request's headers say.
    """
    longest = _longest(platform, max_body)
    for start in range(0, len(lines), LINES_PER_TURN):
        rows: list[NewCallback] = []
        for number, line in enumerate(lines[start : start + LINES_PER_TURN], start + 1):
            if not line or line.isspace():
                continue
            try:
                rows.append(_envelope_row(line, number, platform, wishes, longest, duration))
            except Refusal as refusal:
                raise _on_line(refusal, number) from None
        yield rows


def _on_line(refusal: Refusal, number: int) -> Refusal:
    return Refusal(refusal.code, f"line {number}: {refusal.detail}", line=number, **refusal.extra)


def _longest(platform: PlatformIntake, max_body: int) -> int:
    """Return the longest payload worth looking at."""
    if platform.measure is not None:
        return max_body
    return min(max_body, platform.max_bytes - platform.frame_bytes - platform.item_bytes)


def _envelope_row(
    line: bytes,
    number: int,
    platform: PlatformIntake,
    wishes: Wishes,
    longest: int,
    duration: Callable[[str], float],
) -> NewCallback:
    payload, repeat, key, event, lane, expires_s = open_envelope(line, number, wishes, duration)
    if len(payload) > longest:
        raise Refusal("too_large", f"its payload exceeds {longest} bytes", limit=longest)
    try:
        key, group, dead_reason = look_inside(payload, platform, key)
        size = _measured(payload, platform, key, event)
    except InvalidJson as error:
        raise Refusal("invalid_json", str(error)) from None
    return NewCallback(
        platform.name,
        payload,
        key,
        event,
        lane,
        expires_s,
        repeat,
        None,
        wishes.traceparent,
        group,
        size,
        dead_reason,
    )


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
