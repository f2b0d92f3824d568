"""How long a platform asks us to stay away: from the usual headers, or from where a rule says it stands.

Every result is in seconds from now, bounded to 0..cap; what is missing or makes no sense gives None. Absolute times
are compared with the answer's own ``Date`` where it has one, so that a skewed clock on either side moves nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, Protocol, cast

import jmespath
import jmespath.exceptions

from relay.wire.reading import Reading

Unit = Literal["s", "ms", "epoch_s", "epoch_ms", "date", "auto"]
_UNITS: Final = ("s", "ms", "epoch_s", "epoch_ms", "date", "auto")
_YEAR_S: Final = 366 * 86400.0
# A number of seconds this large is a point in time (September 2001), not a wait of 31 years.
_EPOCH_FROM_S: Final = 1e9
_EPOCH_FROM_MS: Final = 1e12
_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(\.\d{1,9})?")
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|min|h|d)")
_DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_ALIGN_S: Final = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
_TZ: Final = re.compile(r"([+-])(\d{2}):(\d{2})")

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


class Wait(Protocol):
    """Reads out of an answer how long to stay away."""

    def __call__(self, reading: Reading, *, wall: float, cap_s: float) -> float | None:
        """Return seconds from now; ``wall`` is seconds since the epoch, ``cap_s`` the bound if the wait has none."""
        ...


def duration_s(text: object) -> float:
    """Return the seconds in a duration such as ``500ms``, ``60s``, ``10m``, ``2h``, ``1d``. Raises ``ValueError``."""
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is not a duration; write a number with a unit, such as 60s, 10m, 2h or 1d")
    return float(found[1]) * _DURATION_UNITS[found[2]]


def retry_after_s(headers: Mapping[str, str], *, wall: float, cap_s: float) -> float | None:
    """Return what ``Retry-After`` asks for (RFC 9110 section 10.2.3: seconds or an HTTP date)."""
    return _seconds(headers.get("retry-after"), "auto", now=_now(headers, wall), cap_s=cap_s)


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
        return min(wait, cap_s)
    now = _now(headers, wall)
    for name, unit in _RESET_HEADERS:
        wait = _seconds(headers.get(name), unit, now=now, cap_s=cap_s)
        if wait is not None:
            return wait
    windows = [window for entry in _entries(headers.get("ratelimit-policy")) if (window := entry.get("w")) is not None]
    return min(min(windows), cap_s) if windows else None


def _now(headers: Mapping[str, str], wall: float) -> float:
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


def _seconds(text: str | None, unit: Unit, *, now: float, cap_s: float) -> float | None:
    """Return the wait that ``text`` means in ``unit``, bounded to 0..cap; None when it means nothing."""
    if text is None:
        return None
    text = text.strip()
    if len(text) > 64:
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
    """Tell a delay from a point in time by size; an absurd number stays a delay and meets the cap."""
    if number >= _EPOCH_FROM_MS and abs(number / 1000 - now) < _YEAR_S:
        return "epoch_ms"
    if number >= _EPOCH_FROM_S and abs(number - now) < _YEAR_S:
        return "epoch_s"
    return "s"


def _entries(text: str | None) -> list[dict[str, float]]:
    """Return the numeric parameters of each list member of a RateLimit field, in its newer and older forms."""
    entries = []
    for member in (text or "")[:1000].split(","):
        entry = {}
        for part in member.split(";"):
            name, _, value = part.strip().partition("=")
            if _NUMBER.fullmatch(value):
                entry[name.strip().lower()] = max(float(value), 0.0)
        if entry:
            entries.append(entry)
    return entries


def _rate_limit_s(text: str | None) -> float | None:
    """Return the wait of a ``RateLimit`` field: ``"name";r=0;t=30``, or the older ``remaining=0, reset=30``."""
    entries = _entries(text)
    # Of several quotas those with nothing left refuse us, until the last of them is free. Where none admits to it,
    # the nearest time is the better guess: a daily quota that is fine must not stop the platform for an hour.
    spent = [entry["t"] for entry in entries if "t" in entry and entry.get("r") == 0]
    if spent:
        return max(spent)
    waits = [entry["t"] for entry in entries if "t" in entry] or [e["reset"] for e in entries if "reset" in e]
    return min(waits, default=None)


@dataclass(frozen=True, slots=True)
class FixedWait:
    """Always the same; it is configured, so no cap applies."""

    wait_s: float

    def __call__(self, reading: Reading, *, wall: float, cap_s: float) -> float | None:
        """Return the configured wait."""
        return self.wait_s


@dataclass(frozen=True, slots=True)
class AlignedWait:
    """Until the next minute, hour or day begins at the platform: for limits that reset on the clock."""

    period_s: float
    utc_offset_s: float

    def __call__(self, reading: Reading, *, wall: float, cap_s: float) -> float | None:
        """Return the seconds to the next boundary; never 0."""
        return self.period_s - (wall + self.utc_offset_s) % self.period_s


@dataclass(frozen=True, slots=True)
class FoundWait:
    """A number or date found in a header or in the body."""

    header: str | None
    path: Any  # a compiled JMESPath; None means the header, or the body's text where there is no header either
    pattern: re.Pattern[str] | None
    unit: Unit
    cap_s: float | None

    def __call__(self, reading: Reading, *, wall: float, cap_s: float) -> float | None:
        """Return what was found there, or None."""
        text = self._subject(reading)
        if text is not None and self.pattern is not None:
            found = self.pattern.search(text)
            text = None if found is None else found[1] if self.pattern.groups else found[0]
        headers = reading.answer.headers
        bound_s = cap_s if self.cap_s is None else self.cap_s
        return _seconds(text, self.unit, now=_now(headers, wall), cap_s=bound_s)

    def _subject(self, reading: Reading) -> str | None:
        if self.header is not None:
            return reading.answer.headers.get(self.header)
        if self.path is None:
            return reading.text
        try:
            value = self.path.search(reading.document)
        except jmespath.exceptions.JMESPathError:
            return None  # a function met a type it does not take: nothing stands there
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def compile_wait(wait: object) -> Wait:
    """Compile a rule's ``wait``: a duration, or a mapping with ``header``, ``path`` or ``align``.

    Raises ``ValueError`` with what is wrong.
    """
    if not isinstance(wait, Mapping):
        return FixedWait(duration_s(wait))
    if "align" in wait:
        _only(wait, {"align", "tz"})
        if wait["align"] not in _ALIGN_S:
            raise ValueError(f"wait.align {wait['align']!r} is none of {', '.join(_ALIGN_S)}")
        return AlignedWait(_ALIGN_S[wait["align"]], _utc_offset_s(wait.get("tz", "+00:00")))
    _only(wait, {"header", "path", "regex", "unit", "cap"})
    header, path, regex = wait.get("header"), wait.get("path"), wait.get("regex")
    if header is not None and path is not None:
        raise ValueError("wait has both header and path; give one of them")
    if header is None and path is None and regex is None:
        raise ValueError("wait needs header, path, regex or align, or is a duration such as 60s")
    unit = wait.get("unit", "auto")
    if unit not in _UNITS:
        raise ValueError(f"wait.unit {unit!r} is none of {', '.join(_UNITS)}")
    return FoundWait(
        header=None if header is None else compile_header(header),
        path=None if path is None else compile_path(path),
        pattern=None if regex is None else compile_regex(regex),
        unit=cast(Unit, unit),
        cap_s=duration_s(wait["cap"]) if "cap" in wait else None,
    )


def compile_path(expression: object) -> Any:
    """Return a compiled JMESPath. Raises ``ValueError``."""
    if not isinstance(expression, str):
        raise ValueError(f"path {expression!r} is not a JMESPath text")
    try:
        return jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"path {expression!r} is not a JMESPath: {error}") from error


def compile_regex(pattern: object) -> re.Pattern[str]:
    """Return a compiled regular expression. Raises ``ValueError``."""
    if not isinstance(pattern, str):
        raise ValueError(f"regex {pattern!r} is not a text")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"regex {pattern!r} does not compile: {error}") from error


def compile_header(name: object) -> str:
    """Return a header's name in lower case. Raises ``ValueError``."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"header {name!r} is not a header's name")
    return name.strip().lower()


def _utc_offset_s(text: object) -> float:
    if text in ("Z", "UTC"):
        return 0.0
    found = _TZ.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"wait.tz {text!r} is not an offset such as +08:00")
    seconds = int(found[2]) * 3600.0 + int(found[3]) * 60.0
    return -seconds if found[1] == "-" else seconds


def _only(mapping: Mapping[Any, Any], allowed: set[str]) -> None:
    unknown = [str(name) for name in mapping if name not in allowed]
    if unknown:
        raise ValueError(f"wait has unknown {', '.join(unknown)}; it takes {', '.join(sorted(allowed))}")
