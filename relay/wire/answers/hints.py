"""How long an answer's headers ask us to stay away: ``Retry-After``, ``RateLimit``, ``X-RateLimit-Reset`` and the like.

Hints are claims: doubled, contradictory, wrong or seconds early. Every result is in seconds from now, bounded to
0..cap; of several values of one header the longest counts, and what is missing or makes no sense gives None. Absolute
times are compared with the answer's own ``Date`` where it has one, so that a skewed clock on either side moves nothing.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

from relay.wire.answers.list_field import members

Unit = Literal["s", "ms", "epoch_s", "epoch_ms", "date", "auto"]
_YEAR_S: Final = 366 * 86400.0
# A number of seconds this large is a point in time (September 2001), not a wait of 31 years.
_EPOCH_FROM_S: Final = 1e9
_EPOCH_FROM_MS: Final = 1e12
_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(\.\d{1,9})?", re.ASCII)
_ZERO: Final = re.compile(r"0{1,9}(\.0{1,9})?", re.ASCII)  # not -1: some mean "no limit" by it
_LONGEST_CHARS: Final = 64
_MOST_VALUES: Final = 16
_WEEKDAY: Final = re.compile(r"(mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}", re.ASCII | re.IGNORECASE)
# A time without a zone, or with the name of one (CST is China, Chicago or Cuba), says nothing. The exception is the C
# library's form, which RFC 9110 section 5.6.7 calls UTC: "Sun Nov  6 08:49:37 1994".
_ZONED: Final = re.compile(r".+(GMT|UTC?|Z|[+-]\d\d:?\d\d)", re.ASCII | re.IGNORECASE)
_ASCTIME: Final = re.compile(r"[a-z]{3} [a-z]{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", re.ASCII | re.IGNORECASE)
# Two clocks that are this far apart have not drifted: one has the wrong zone, or was never set.
_ZONE_STEP_S: Final = 900.0
_DATES_AGREE_S: Final = 5.0

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


class AnswerDate(NamedTuple):
    """When an answer was written: by its own ``Date`` (``wall`` where it has none), and by our wall clock."""

    stated: float
    wall: float

    @property
    def clocks(self) -> tuple[float, ...]:
        """The clocks to go by: the answer's own; or both, where they are so far apart that one of them is wrong."""
        return (self.stated,) if abs(self.stated - self.wall) < _ZONE_STEP_S else (self.stated, self.wall)

    def until_s(self, at: float) -> float:
        """Return the seconds until ``at``, 0 when it is over; of two clocks the one by which it is ahead, but sooner.

        A ``Date`` that is local time called GMT would make of "in 20 s" eight hours, or the past.
        """
        return min((at - now for now in self.clocks if at > now), default=0.0)


def retry_after_s(headers: Mapping[str, str], *, wall: float, cap_s: float) -> float | None:
    """Return what ``Retry-After`` asks for (RFC 9110 section 10.2.3: seconds or an HTTP date)."""
    text = headers.get("retry-after")
    return None if text is None else wait_in_s(text, "auto", when=answered_at(headers, wall), cap_s=cap_s)


def throttled_s(headers: Mapping[str, str], *, wall: float, cap_s: float) -> float | None:
    """Return the wait that the headers of a throttling answer ask for.

    The most explicit wins: ``Retry-After``, then ``RateLimit`` (draft-ietf-httpapi-ratelimit-headers-10 section 6:
    Retry-After takes precedence), then ``X-RateLimit-Reset`` and its like, then the window of ``RateLimit-Policy``. One
    that asks for no time at all leaves it to the next.
    """
    when = answered_at(headers, wall)
    asked = [retry_after_s(headers, wall=wall, cap_s=cap_s), _bounded(_rate_limit_s(headers.get("ratelimit")), cap_s)]
    resets = (wait_in_s(headers.get(name), unit, when=when, cap_s=cap_s) for name, unit in _RESET_HEADERS)
    asked.append(max((wait for wait in resets if wait is not None), default=None))
    windows = [entry["w"] for entry in _entries(headers.get("ratelimit-policy")) if entry.get("w", 0.0) > 0.0]
    asked.append(_bounded(min(windows, default=None), cap_s))
    found = [wait for wait in asked if wait is not None]
    return next((wait for wait in found if wait > 0.0), 0.0 if found else None)


def _bounded(wait_s: float | None, cap_s: float) -> float | None:
    return None if wait_s is None else min(max(wait_s, 0.0), cap_s)


def exhausted_s(headers: Mapping[str, str], *, wall: float, cap_s: float) -> float | None:
    """Return for how long nothing is left, as the headers of an accepted answer say: the next request is refused.

    None unless what remains is stated to be 0 and a time to come stands beside it; never 0. Of several limits with
    nothing left the longest counts. A point in time must lie ahead by the answer's own ``Date`` and by ``wall``, and
    the shorter wait counts: an answer out of a cache, or a time in another zone, must not stop what works.
    """
    waits = []
    text = headers.get("ratelimit")
    if text is not None:
        waits += _exhausted_waits_s(_entries(text))
    for left, resets in _LEFT_HEADERS:
        text = headers.get(left)
        if text is not None and any(map(_ZERO.fullmatch, _values(text))):
            waits.append(_until_reset_s(headers, resets, wall=wall, cap_s=cap_s))
    longest = max(waits, default=0.0)
    return min(longest, cap_s) if longest > 0.0 else None


def _until_reset_s(
    headers: Mapping[str, str], resets: tuple[tuple[str, Unit], ...], *, wall: float, cap_s: float
) -> float:
    """Return the wait that the first of ``resets`` asks for, the shorter by the answer's clock and ours; 0 for none."""
    stated = answered_at(headers, wall).stated
    for name, unit in resets:
        text = headers.get(name)
        waits = [wait_in_s(text, unit, when=AnswerDate(now, now), cap_s=cap_s) for now in (stated, wall)]
        found = [wait for wait in waits if wait is not None]
        if found:
            return min(found)
    return 0.0


def answered_at(headers: Mapping[str, str], wall: float) -> AnswerDate:
    """Return when an answer was written; several ``Date`` lines that disagree tell nothing."""
    text = headers.get("date")
    dates = [at for value in _values(text) if (at := _date(value)) is not None] if text else []
    agreed = dates and max(dates) - min(dates) <= _DATES_AGREE_S
    return AnswerDate(dates[0] if agreed else wall, wall)


def _values(text: str) -> Iterator[str]:
    """Yield the values of a header that stood there more than once, or lists some; a date keeps its own comma."""
    day = ""
    for part in text.split(",", _MOST_VALUES)[:_MOST_VALUES]:
        value = part.strip()
        if _WEEKDAY.fullmatch(value):
            day = f"{value}, "
            continue
        yield day + value
        day = ""


def _date(text: str) -> float | None:
    """Return an HTTP date or ISO 8601 time as seconds since the epoch, where it says in which zone it is."""
    if len(text) > _LONGEST_CHARS:
        return None
    if _ASCTIME.fullmatch(text) is not None:
        text += " GMT"
    if _ZONED.fullmatch(text) is None:
        return None
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            at = parse(text)
            if at.tzinfo is not None:
                return at.timestamp()
        except (ValueError, OverflowError, TypeError, IndexError):
            continue  # neither parser promises more than these for text of a stranger
    return None


def wait_in_s(text: str | None, unit: Unit, *, when: AnswerDate, cap_s: float) -> float | None:
    """Return the wait that ``text`` means in ``unit``, bounded to 0..cap; None when it means nothing.

    Of several values, with commas between them, the longest counts.
    """
    if text is None:
        return None
    waits = (_one_wait_s(value, unit, when) for value in _values(text))
    return _bounded(max((wait for wait in waits if wait is not None), default=None), cap_s)


def _one_wait_s(text: str, unit: Unit, when: AnswerDate) -> float | None:
    if len(text) > _LONGEST_CHARS:
        return None
    if unit == "date" or (unit == "auto" and _NUMBER.fullmatch(text) is None):
        at = _date(text)
        return None if at is None else when.until_s(at)
    if _NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    match _unit_of(number, when) if unit == "auto" else unit:
        case "ms":
            return number / 1000
        case "epoch_s":
            return when.until_s(number)
        case "epoch_ms":
            return when.until_s(number / 1000)
        case _:
            return number


def _unit_of(number: float, when: AnswerDate) -> Unit:
    """Tell a delay from a point in time by size: nobody asks for a wait of 31 years, but clocks stand years behind.

    An absurd number, more than a year ahead as a time, stays a delay and meets the cap.
    """
    now = max(when)
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
    exhausted = _exhausted_waits_s(entries)
    if exhausted:
        return max(exhausted)
    waits = [entry["t"] for entry in entries if "t" in entry] or [e["reset"] for e in entries if "reset" in e]
    return min(waits, default=None)


def _exhausted_waits_s(entries: list[dict[str, float]]) -> list[float]:
    """Return the waits of those quotas of a ``RateLimit`` field that have nothing left."""
    waits = [entry["t"] for entry in entries if "t" in entry and entry.get("r") == 0]
    if any(entry.get("remaining") == 0 for entry in entries):  # the older form: one quota, a member per number
        waits += [entry["reset"] for entry in entries if "reset" in entry]
    return waits
