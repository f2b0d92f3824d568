"""Turns a request's headers and body into the rows to accept: one callback, or one for each NDJSON line.

Pure: bytes and strings in, ``NewCallback`` rows or a ``Refusal`` out. Payload bytes stay as they came; the payload of
an envelope line is cut out unparsed. The loop over lines is the hottest of the intake, so nothing in it awaits.
Instead ``turns`` cuts the lines into short parts, and the event loop runs other work between two parts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from relay.core.errors import Unfit
from relay.core.model import Lane, NewCallback
from relay.ingest.post_options import MAX_KEY_BYTES, PostOptions, fits, open_envelope, text
from relay.web.refusal import Refusal
from relay.wire.payload.extract import InvalidJson, check_json

NDJSON = "application/x-ndjson"
_SHORT_KEY = MAX_KEY_BYTES // 4  # characters: it fits, whatever they are
_MAX_GROUP = 255  # characters: shop and account ids are short, so a longer one is the wrong field
# Lines and bytes read before other requests get their turn: 1 to 2 ms.
_LINES_PER_TURN = 500
_BYTES_PER_TURN = 256 * 1024
# A request is one transaction, and so many rows take a second, in which all other commits wait. Without a bound, 32 MiB
# of two-byte lines would also become gigabytes of rows.
MAX_LINES = 100_000
# What a row takes in memory beside its payload, until it is committed (measured: 440 bytes with a key).
ROW_BYTES = 450
# The longest line is a payload of `max_body` and this much around it: the names and the other values of an envelope.
_AROUND_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformIntake:
    """What intake must know of a platform, compiled from its configuration."""

    name: str
    needs_json: bool  # its envelope splices payloads into JSON
    expires_s: float
    max_bytes: int  # of a request to the platform: a payload that alone exceeds it could never be sent
    frame_bytes: int = 0  # what its envelope takes without items
    item_bytes: int = 0  # what its envelope adds for each item
    lane: Lane = Lane.NORMAL
    # Returns the bytes that a callback (payload, key, event) takes in a request body; None: the length of its payload.
    # Raises InvalidJson, Unfit.
    measure: Callable[[bytes, str | None, str | None], int] | None = None
    key: Callable[[bytes], str | None] | None = None  # raises InvalidJson
    group: Callable[[bytes], str | None] | None = None  # raises InvalidJson
    group_path: str = ""  # where ``group`` looks, for messages
    # Adds what the callback costs; raises ``Refusal`` where it alone is more than a window holds. None: not counted.
    weigh: "Callable[[NewCallback], NewCallback] | None" = None
    searches: bool = False  # its key or group is searched in pure Python, which is slow in a large payload


def one_row(body: bytes, platform: PlatformIntake, options: PostOptions, content_type: str | None) -> NewCallback:
    """Return the row of a request whose body is one callback. Raises ``Refusal``."""
    if platform.measure is None:
        _check_fits(len(body), platform)
    try:
        key, group, dead_reason = look_inside(body, platform, options.key)
        size = _measured(body, platform, key, options.event)
    except InvalidJson as error:
        raise Refusal("invalid_json", str(error)) from None
    row = NewCallback(
        platform.name,
        body,
        key,
        options.event,
        options.lane,
        options.expires_s,
        options.idempotency_key,
        text("Content-Type", content_type),
        options.traceparent,
        group,
        size,
        dead_reason,
        options.reference,
        options.delay_s,
    )
    return row if platform.weigh is None else platform.weigh(row)


def _measured(payload: bytes, platform: PlatformIntake, key: str | None, event: str | None) -> int | None:
    """Return the bytes that the callback takes in a request body; None: the length of its payload.

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

    Raises ``InvalidJson`` if JSON is needed and the payload is none, and ``Refusal`` for a key that is too long or
    takes too long to find. A payload without its group cannot be sent, for nobody knows in whose name; refusing it
    would lose it. So it is accepted as a dead letter.
    """
    looked = False
    group, dead_reason = "", None
    try:
        if key is None and platform.key is not None:
            key = fitting(platform.key(payload), platform.name)
            looked = True
        if platform.group is not None:
            group = platform.group(payload) or ""
            looked = True
    except Unfit as error:
        raise Refusal("unfit_payload", f"{platform.name} cannot take this payload: {error}") from None
    if platform.group is not None:
        if not group:
            dead_reason = f"no group: {platform.group_path} is missing in the payload"
        elif len(group) > _MAX_GROUP:
            group, dead_reason = "", f"no group: {platform.group_path} is longer than {_MAX_GROUP} characters"
    if platform.needs_json and not looked:
        check_json(payload)
    return key, group, dead_reason


def fitting(key: str | None, platform: str) -> str | None:
    """Return a key out of a payload. Raises ``Refusal`` for one longer than ``Relay-Key`` may be."""
    if key is not None and not fits(key, MAX_KEY_BYTES):
        raise Refusal("unfit_payload", f"the key that {platform} takes from it is longer than {MAX_KEY_BYTES} bytes")
    return key


class Turn(NamedTuple):
    """Some lines of a request that are read without a pause."""

    first: int  # number of its first line, from 1
    lines: Sequence[bytes]
    size: int  # in bytes


class Lines:
    """The lines of an NDJSON body, without line ends. Empty lines count, so that line numbers are right."""

    __slots__ = ("_empty", "_lines", "_returns", "count")

    def __init__(self, parts: list[bytes], max_body: int) -> None:
        """Take the body in pieces and empty ``parts`` meanwhile: the body is never in memory twice.

        Raises ``Refusal`` (``too_large``) for more than ``MAX_LINES``, and for a line in which no payload of
        ``max_body`` bytes or fewer can be. Such a line is not even put together: it may be the whole body.
        """
        longest = max_body + _AROUND_BYTES
        lines = [b""]
        self._returns = any(b"\r" in part for part in parts)  # mostly none: then no line is looked at for one
        parts.reverse()
        while parts:
            part = parts.pop()
            if len(lines) + part.count(b"\n") > MAX_LINES + 1:
                raise Refusal(
                    "too_large", f"the body has more than {MAX_LINES} lines; send it in parts", limit=MAX_LINES
                )
            begun = [lines.pop()]
            size = len(begun[0])
            while b"\n" not in part and parts:  # a line of many pieces is joined once
                begun.append(part)
                size += len(part)
                if size > longest:
                    raise _line_too_large(len(lines) + 1, max_body)
                part = parts.pop()
            found = part.split(b"\n")
            begun.append(found[0])
            found[0] = b"".join(begun)
            lines += found
        self._lines = lines
        self._empty: list[int] = []  # numbers of the empty lines among those yielded
        self.count = len(lines)

    def turns(self) -> Iterator[Turn]:
        """Yield the lines once, in parts of at most ``_LINES_PER_TURN`` lines and ``_BYTES_PER_TURN`` bytes.

        A longer line is a part alone. What was yielded is not kept.
        """
        lines = self._lines
        for start in range(0, len(lines), _LINES_PER_TURN):
            part = lines[start : start + _LINES_PER_TURN]
            if self._returns:
                part = [line[:-1] if line.endswith(b"\r") else line for line in part]
            lines[start : start + len(part)] = [b""] * len(part)
            self._empty += [number for number, line in enumerate(part, start + 1) if not line or line.isspace()]
            begin = size = 0
            if sum(map(len, part)) > _BYTES_PER_TURN:
                for place, line in enumerate(part):
                    if size and size + len(line) > _BYTES_PER_TURN:
                        yield Turn(start + begin + 1, part[begin:place], size)
                        begin, size = place, 0
                    size += len(line)
            rest = part[begin:]
            yield Turn(start + begin + 1, rest, sum(map(len, rest)))

    def number(self, index: int) -> int:
        """Return the number (from 1) of the line that row ``index`` (from 0) came from, once it was yielded."""
        number = index + 1
        for empty in self._empty:
            if empty > number:
                break
            number += 1
        return number


def plain_rows(turn: Turn, platform: PlatformIntake, options: PostOptions, max_body: int) -> list[NewCallback]:
    """Return the rows of lines that are payloads. Raises ``Refusal`` that names the line."""
    name, lane, expires_s, event = platform.name, options.lane, options.expires_s, options.event
    trace, request_key, header_key, told = options.traceparent, options.idempotency_key, options.key, options.reference
    delay_s = options.delay_s
    longest = _longest(platform, max_body)
    measured = platform.measure is not None
    weigh = platform.weigh
    size: int | None = None
    look = _reader(platform, header_key)
    rows: list[NewCallback] = []
    add = rows.append
    for number, line in enumerate(turn.lines, turn.first):
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
        row = NewCallback(name, line, key, event, lane, expires_s, repeat, None, trace, group, size, dead_reason, told)
        if weigh is not None:
            try:
                row = weigh(row)
            except Refusal as refusal:
                raise _on_line(refusal, number) from None
        add(row._replace(delay_s=delay_s) if delay_s else row)
    return rows


def _reader(platform: PlatformIntake, header_key: str | None) -> Callable[[bytes], _Inside]:
    """Return the cheapest function that does for this request what ``look_inside`` does."""
    extract = platform.key
    if platform.group is None and extract is not None and header_key is None and not platform.searches:

        def take(line: bytes) -> _Inside:
            key = extract(line)
            if key is not None and len(key) > _SHORT_KEY:
                fitting(key, platform.name)
            return key, "", None

        return take
    if platform.group is None and extract is None and platform.needs_json:

        def check(line: bytes) -> _Inside:
            check_json(line)
            return header_key, "", None

        return check
    return lambda line: look_inside(line, platform, header_key)


def envelope_rows(turn: Turn, platform: PlatformIntake, options: PostOptions, max_body: int) -> list[NewCallback]:
    """Return rows as ``plain_rows`` does, of lines like ``{"payload": …, "key": …}`` (``Relay-Envelope: 1``).

    The request's headers hold for what a line leaves out.
    """
    longest = _longest(platform, max_body)
    rows: list[NewCallback] = []
    for number, line in enumerate(turn.lines, turn.first):
        if not line or line.isspace():
            continue
        try:
            rows.append(_envelope_row(line, number, platform, options, longest))
        except Refusal as refusal:
            raise _on_line(refusal, number) from None
    return rows


def _on_line(refusal: Refusal, number: int) -> Refusal:
    return Refusal(refusal.code, f"line {number}: {refusal.detail}", line=number, **refusal.extra)


def _longest(platform: PlatformIntake, max_body: int) -> int:
    """Return the length of the longest payload that can be accepted, in bytes."""
    if platform.measure is not None:
        return max_body
    return min(max_body, platform.max_bytes - platform.frame_bytes - platform.item_bytes)


def _envelope_row(
    line: bytes,
    number: int,
    platform: PlatformIntake,
    options: PostOptions,
    longest: int,
) -> NewCallback:
    payload, repeat, key, event, lane, expires_s = open_envelope(line, number, options)
    if len(payload) > longest:
        raise Refusal("too_large", f"its payload exceeds {longest} bytes", limit=longest)
    try:
        key, group, dead_reason = look_inside(payload, platform, key)
        size = _measured(payload, platform, key, event)
    except InvalidJson as error:
        raise Refusal("invalid_json", str(error)) from None
    row = NewCallback(
        platform.name,
        payload,
        key,
        event,
        lane,
        expires_s,
        repeat,
        None,
        options.traceparent,
        group,
        size,
        dead_reason,
        options.reference,
        options.delay_s,
    )
    return row if platform.weigh is None else platform.weigh(row)


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
