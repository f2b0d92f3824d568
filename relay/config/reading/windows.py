"""Reads limits that count more than requests in any window: ``100000/day@+08:00``, ``50MiB/min``."""

import re
from dataclasses import replace

from relay.config.problems import BadValue, quoted
from relay.config.reading.units import RATE_PATTERN, SIZE_PATTERN, parse_rate, parse_size
from relay.core.calendar import PERIODS, Calendar
from relay.core.model import Rate

_OFFSET = r"[+-](?:0[0-9]|1[0-4]):[0-5][0-9]"
CALENDAR_PATTERN = rf"[0-9]{{1,9}}/(?:hour|h|day|month)@{_OFFSET}"
WINDOW_PATTERN = rf"(?:{RATE_PATTERN}|{CALENDAR_PATTERN})"
BYTES_PATTERN = rf"{SIZE_PATTERN}/(?:s|min|h|day|(?:hour|h|day|month)@{_OFFSET})"

_CALENDAR = re.compile(r"([0-9]{1,9})/([a-z]+)@(.*)")
_NAMES = {"h": "hour"}


def parse_window(value: object) -> Rate:
    """Return the limit of ``100/min``, or of ``100000/day@+08:00``, which counts from midnight there."""
    match = _CALENDAR.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return parse_rate(value)
    period = _NAMES.get(match[2], match[2])
    if period not in PERIODS:
        hint = "write hour, day or month: 100000/day@+08:00"
        raise BadValue("E020", f"rate {quoted(value)}: no {match[2]} begins at a fixed time", hint)
    if re.fullmatch(_OFFSET, match[3]) is None:
        hint = "write hours and minutes ahead of UTC, from -14:00 to +14:00: 100000/day@+08:00"
        raise BadValue("E020", f"rate {quoted(value)}: {match[3]!r} is no time zone", hint)
    limit = parse_rate(f"{match[1]}/day").limit
    hours, minutes = match[3][1:].split(":")
    offset_s = (int(hours) * 60 + int(minutes)) * 60 * (-1 if match[3][0] == "-" else 1)
    return Rate(limit, PERIODS[period], calendar=Calendar(period, offset_s))


def parse_items(value: object) -> Rate:
    """Return a limit of callbacks: ``6000/min``."""
    return replace(parse_window(value), unit="items")


def parse_points(value: object) -> Rate:
    """Return a limit of points: ``1000/min``."""
    return replace(parse_window(value), unit="points")


def parse_bytes(value: object) -> Rate:
    """Return a limit of body bytes: ``50MiB/min``."""
    size, slash, window = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash:
        raise BadValue("E020", f"{quoted(value)} is no limit of bytes", "write a size and a window: 50MiB/min")
    return replace(parse_window(f"1/{window}"), limit=parse_size(size), unit="bytes")
