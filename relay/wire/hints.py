"""How long an answer's headers ask us to stay away: ``Retry-After``, ``RateLimit``, ``X-RateLimit-Reset`` and the like.

Every result is in seconds from now, bounded to 0..cap; what is missing or makes no sense gives None. Absolute times
are compared with the answer's own ``Date`` where it has one, so that a skewed clock on either side moves nothing.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from relay.wire.listfield import members

Unit = Literal["s", "ms", "epoch_s", "epoch_ms", "date", "auto"]
UNITS: Final = ("s", "ms", "epoch_s", "epoch_ms", "date", "auto")
_YEAR_S: Final = 366 * 86400.0
# A number of seconds this large is a point in time (September 2001), not a wait of 31 years.
_EPOCH_FROM_S: Final = 1e9
_EPOCH_FROM_MS: Final = 1e12
_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(\.\d{1,9})?", re.ASCII)
_ZERO: Final = re.compile(r"0{1,9}(\.0{1,9})?", re.ASCII)  # not -1: some mean "no limit" by it
_LONGEST_CHARS: Final = 64

# Headers that tell when a used-up limit is free again, beside Retry-After and RateLimit. Surveyed: GitHub, Etsy,
# Discord, BigCommerce, Walmart. A plain number may be a delay or a time since the epoch: its size tells.
_RESET_HEADERS: Final[tuple[tuple[str, Unit], ...]] = (
    ("ratelimit-reset", "auto"),
    ("x-ratelimit-reset-after", "auto"),
    ("x-ratelimit-reset", "auto"),
    ("x-rate-limit-reset", "auto"),
    ("x-rate-limit-time-reset-ms", "ms"),
    ("x-next-replenishment-time", "auto"),
)
# The same platforms' headers for what is left, each with those that tell when there is more.
_LEFT_HEADERS: Final[tuple[tuple[str, tuple[tuple[str, Unit], ...]], ...]] = (
    ("ratelimit-remaining", (("ratelimit-reset", "auto"),)),
    ("x-ratelimit-remaining", (("x-ratelimit-reset-after", "auto"), ("x-ratelimit-reset", "auto"))),
    ("x-rate-limit-remaining", (("x-rate-limit-reset", "auto"),)),
    ("x-rate-limit-requests-left", (("x-rate-limit-time-reset-ms", "ms"),)),
    ("x-current-token-count", (("x-next-replenishment-time", "auto"),)),
)


def retry_after_s(headers: Mapping[str, str], *, wall: float, cap_s: float) -> float | None:
    """Return what ``Retry-After`` asks for (RFC 9110 section 10.2.3: seconds or an HTTP date)."""
    return wait_in_s(headers.get("retry-after"), "auto", now=answered_at(headers, wall), cap_s=cap_s)


def hinted_s(headers: Mapping[str, str], *, wall: float, cap_s: float) -> float | None:
    """Return the wait that the headers of a throttling answer ask for.

    The most explicit wins: ``Retry-After``, then ``RateLimit`` (draft-ietf-httpapi-ratelimit-headers), then
    ``X-RateLimit-Reset`` and its like, then the window of ``RateLimit-Policy``.
    """
    wait = retry_after_s(headers, wall=wall, cap_s=cap_s)
    if wait is not None:
        return wait
    wait = _rate_limit_s(headers.get("ratelimit"))
    if wait is not None:
        return min(max(wait, 0.0), cap_s)
    now = answered_at(headers, wall)
    for name, unit in _RESET_HEADERS:
        wait = wait_in_s(headers.get(name), unit, now=now, cap_s=cap_s)
        if wait is not None:
            return wait
    windows = [window for entry in _entries(headers.get("ratelimit-policy")) if (window := entry.get("w")) is not None]
    return min(max(min(windows), 0.0), cap_s) if windows else None


def exhausted_s(headers: Mapping[str, str], *, wall: float, cap_s: float) -> float | None:
    """Return for how long nothing is left, as the headers of an accepted answer say: the next request is refused.

    None unless what remains is stated to be 0 and a time to come stands beside it; never 0. Of several limits with
    nothing left the longest counts. A point in time must lie ahead by the answer's own ``Date`` and by ``wall``, and
    the shorter wait counts: an answer out of a cache, or a time in another zone, must not stop what works.
    """
    waits = []
    text = headers.get("ratelimit")
    if text is not None:
        waits += _spent_s(_entries(text))
    for left, resets in _LEFT_HEADERS:
        text = headers.get(left)
        if text is not None and _ZERO.fullmatch(text.strip()):
            waits.append(_soonest_s(headers, resets, wall=wall, cap_s=cap_s))
    longest = max(waits, default=0.0)
    return min(longest, cap_s) if longest > 0.0 else None


def _soonest_s(headers: Mapping[str, str], resets: tuple[tuple[str, Unit], ...], *, wall: float, cap_s: float) -> float:
    """Return the wait that the first of ``resets`` asks for, the shorter by the answer's clock and ours; 0 for none."""
    for name, unit in resets:
        text = headers.get(name)
        waits = [wait_in_s(text, unit, now=now, cap_s=cap_s) for now in (answered_at(headers, wall), wall)]
        found = [wait for wait in waits if wait is not None]
        if found:
            return min(found)
    return 0.0


def answered_at(headers: Mapping[str, str], wall: float) -> float:
    """Return the time of an answer on the clock it was written by: its ``Date``, else ``wall``."""
    date = headers.get("date")
    at = None if date is None else _date(date)
    return wall if at is None else at


def _date(text: str) -> float | None:
    """Return an HTTP date or ISO 8601 time as seconds since the epoch."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            at = parse(text)
            return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, TypeError, IndexError):
            continue  # neither parser promises more than these for text of a stranger
    return None


def wait_in_s(text: str | None, unit: Unit, *, now: float, cap_s: float) -> float | None:
    """Return the wait that ``text`` means in ``unit``, bounded to 0..cap; None when it means nothing."""
    if text is None:
        return None
    text = text.strip()
    if len(text) > _LONGEST_CHARS:
        return None
    if unit == "date" or (unit == "auto" and _NUMBER.fullmatch(text) is None):
        at = _date(text)
        return None if at is None else min(max(at - now, 0.0), cap_s)
    if _NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    if unit == "auto":
        unit = _unit_of(number, now)
    wait = {"s": number, "ms": number / 1000, "epoch_s": number - now, "epoch_ms": number / 1000 - now}[unit]
    return min(max(wait, 0.0), cap_s)


def _unit_of(number: float, now: float) -> Unit:
    """Tell a delay from a point in time by size: nobody asks for a wait of 31 years, but clocks stand years behind.

    An absurd number, more than a year ahead as a time, stays a delay and meets the cap.
    """
    if _EPOCH_FROM_MS <= number < (now + _YEAR_S) * 1000:
        return "epoch_ms"
    if _EPOCH_FROM_S <= number < now + _YEAR_S:
        return "epoch_s"
    return "s"


def _entries(text: str | None) -> list[dict[str, float]]:
    """Return the numeric parameters of each list member of a RateLimit field, in its newer and older forms."""
    entries = []
    for member in members(text) if text else ():
        entry = {}
        for part in member:
            name, _, value = part.partition("=")
            if _NUMBER.fullmatch(value):
                entry[name.strip().lower()] = float(value)
        if entry:
            entries.append(entry)
    return entries


def _rate_limit_s(text: str | None) -> float | None:
    """Return the wait of a ``RateLimit`` field: ``"name";r=0;t=30``, or the older ``remaining=0, reset=30``."""
    entries = _entries(text)
    # Of several quotas those with nothing left refuse us, until the last of them is free. Where none admits to it,
    # the nearest time is the better guess: a daily quota that is fine must not stop the platform for an hour.
    spent = _spent_s(entries)
    if spent:
        return max(spent)
    waits = [entry["t"] for entry in entries if "t" in entry] or [e["reset"] for e in entries if "reset" in e]
    return min(waits, default=None)


def _spent_s(entries: list[dict[str, float]]) -> list[float]:
    """Return the waits of those quotas of a ``RateLimit`` field that have nothing left."""
    waits = [entry["t"] for entry in entries if "t" in entry and entry.get("r") == 0]
    if any(entry.get("remaining") == 0 for entry in entries):  # the older form: one quota, a member per number
        waits += [entry["reset"] for entry in entries if "reset" in entry]
    return waits
