"""Reads quantities as people write them: ``100/min``, ``10s``, ``2MiB``, ``2s..10m``.

A bare number is always an error, because 60 read as seconds by one and as milliseconds by another has cost people
orders. Every function raises ``BadValue`` with what to write instead.
"""

import re
from typing import NamedTuple

from relay.config.problems import BadValue, quoted
from relay.config.reading.wide_characters import plain
from relay.core.model import Rate

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "y": 365 * 86400.0}
_DURATION_WORDS = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "hr": "h", "hour": "h", "hours": "h", "day": "d", "days": "d", "year": "y", "years": "y",
    "msec": "ms", "millis": "ms", "milliseconds": "ms",
    "毫秒": "ms", "秒": "s", "分": "m", "分钟": "m", "小时": "h", "天": "d", "日": "d", "年": "y",
}  # fmt: skip
_SIZE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_RATE_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0}
_RATE_WORDS = {
    "sec": "s", "second": "s", "seconds": "s", "m": "min", "minute": "min", "mins": "min", "minutes": "min",
    "hr": "h", "hour": "h", "hours": "h", "d": "day", "days": "day",
    "秒": "s", "分": "min", "分钟": "min", "小时": "h", "天": "day", "日": "day",
}  # fmt: skip

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
DURATION_PATTERN = rf"{_NUMBER}(?:ms|s|m|h|d|y)"
SIZE_PATTERN = rf"{_NUMBER}(?:B|KB|MB|GB|KiB|MiB|GiB)"
RATE_PATTERN = rf"[0-9]{{1,9}}/(?:s|min|h|day|{DURATION_PATTERN})"
SHARE_PATTERN = r"[0-9]{1,3}(?:\.[0-9]{1,9})?%"
RANGE_PATTERN = rf"{DURATION_PATTERN}\.\.{DURATION_PATTERN}"

_LETTERS = r"[A-Za-z\u4e00-\u9fff]"
_QUANTITY = re.compile(rf"({_NUMBER})({_LETTERS}*)")
_LOOSE_QUANTITY = re.compile(rf"({_NUMBER})\s*({_LETTERS}*)")
_RATE = re.compile(r"([0-9]{1,9})/(\S+)")
_LOOSE_RATE = re.compile(rf"([0-9]{{1,9}})\s*次?\s*(?:/|per|p|每)\s*({_LETTERS}+)")
_MANY = re.compile(r"[0-9]{10,}/\S+")
_PART = re.compile(r"0?\.[0-9]+/\S+")

_RATES = "write requests/window: 10/s, 100/min, 5000/h, 100000/day or 20/90s"

_LONGEST_S = 3660 * 86400.0  # ten years: anything longer is a slip of the pen
_LONGEST_WINDOW_S = 31 * 86400.0  # attempts are kept for the longest window, so it bounds what the store keeps
_LARGEST_BYTES = 2**50
_MILLISECONDS_FROM = 10_000  # nobody means hours by such a bare number
_BYTES_FROM = 10_000


class Backoff(NamedTuple):
    """Exponential waiting: the n-th wait is at most ``min(cap, base * 2**(n-1))`` seconds."""

    base: float
    cap: float


def parse_duration(value: object) -> float:
    """Return seconds of a duration such as ``500ms``, ``10s``, ``5m``, ``24h``, ``7d``."""
    number, unit = _quantity("E021", "duration", value, units=_DURATION_UNITS)
    if unit not in _DURATION_UNITS:
        meant = _closest(unit, _DURATION_UNITS, _DURATION_WORDS)
        hint = f"did you mean {number}{meant}?" if meant else "units are ms, s, m, h, d and y"
        raise BadValue("E021", f"duration {quoted(value)} has the unknown unit {unit!r}", hint)
    seconds = float(number) * _DURATION_UNITS[unit]
    if seconds > _LONGEST_S:
        raise BadValue("E021", f"duration {quoted(value)} is longer than ten years")
    return seconds


def parse_size(value: object) -> int:
    """Return bytes of a size such as ``64KiB``, ``2MiB`` (powers of 1024) or ``5MB`` (powers of 1000)."""
    number, unit = _quantity("E022", "size", value, units=_SIZE_UNITS)
    if unit not in _SIZE_UNITS:
        meant = _closest(unit, _SIZE_UNITS, {"K": "KiB", "M": "MiB", "G": "GiB"})
        hint = f"did you mean {number}{meant}?" if meant else "units are B, KiB, MiB, GiB, KB, MB and GB"
        raise BadValue("E022", f"size {quoted(value)} has the unknown unit {unit!r}", hint)
    size = float(number) * _SIZE_UNITS[unit]
    if size != int(size):
        raise BadValue("E022", f"size {quoted(value)} is not a whole number of bytes")
    if size > _LARGEST_BYTES:
        raise BadValue("E022", f"size {quoted(value)} is larger than any disk the relay will see")
    return int(size)


def parse_rate(value: object) -> Rate:
    """Return the limit of ``N/s``, ``N/min``, ``N/h``, ``N/day`` or of N in any duration, ``N/90s``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = value if isinstance(value, int) else 100
        raise BadValue("E020", f"rate {quoted(value)} has no window", f"write {number}/s or {number}/min")
    if not isinstance(value, str):
        raise BadValue("E020", f"{quoted(value)} is not a rate", _RATES)
    match = _RATE.fullmatch(value)
    if match is None:
        raise BadValue("E020", f"{quoted(value)} is not a rate", _rate_hint(value))
    limit, window = int(match[1]), match[2]
    if limit == 0:
        raise BadValue(
            "E020", f"rate {quoted(value)} would never send anything", "use `relay pause` to stop a platform"
        )
    if window in _RATE_UNITS:
        return Rate(limit, _RATE_UNITS[window])
    if window[0].isdigit():
        try:
            window_s = parse_duration(window)
        except BadValue as bad:
            raise BadValue("E020", f"rate {quoted(value)}: {bad.message}", bad.hint) from None
        if not 0 < window_s <= _LONGEST_WINDOW_S:
            raise BadValue("E020", f"the window of rate {quoted(value)} must lie between 1ms and 31d")
        return Rate(limit, window_s)
    meant = _closest(window, _RATE_UNITS, _RATE_WORDS)
    hint = f"did you mean {limit}/{meant}?" if meant else "windows are s, min, h, day or a duration such as 90s"
    raise BadValue("E020", f"rate {quoted(value)} has the unknown window {window!r}", hint)


def parse_backoff(value: object) -> Backoff:
    """Return both ends of a range of durations, ``2s..10m``."""
    low, dots, high = value.partition("..") if isinstance(value, str) else ("", "", "")
    if not dots:
        raise BadValue("E023", f"{quoted(value)} is not a range of durations", "write first..longest wait: 2s..10m")
    try:
        base, cap = parse_duration(low), parse_duration(high)
    except BadValue as bad:
        raise BadValue("E023", f"range {quoted(value)}: {bad.message}", bad.hint) from None
    if base <= 0:
        raise BadValue("E023", f"range {quoted(value)} starts at no wait at all", "the first wait must be above 0")
    if base > cap:
        raise BadValue("E023", f"range {quoted(value)} starts above its end", f"did you mean {high}..{low}?")
    return Backoff(base, cap)


def parse_share(value: object) -> float:
    """Return ``50%`` as 0.5. Raises ``BadValue`` for anything but 0% to 100%."""
    if not isinstance(value, str) or re.fullmatch(SHARE_PATTERN, value) is None or float(value[:-1]) > 100:
        percent = isinstance(value, int | float) and not isinstance(value, bool) and 1 < value <= 100
        meant = f"did you mean {value}%?" if percent else "write a number from 0 to 100 with a percent sign: 50%"
        raise BadValue("E016", f"{quoted(value)} is no share", meant)
    return float(value[:-1]) / 100


def _quantity(code: str, kind: str, value: object, *, units: dict[str, float] | dict[str, int]) -> tuple[str, str]:
    """Split a number from its unit; refuse what is no number with a unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise BadValue(code, f"{kind} {quoted(value)} has no unit", _with_unit(kind, value))
    if not isinstance(value, str):
        raise BadValue(code, f"{quoted(value)} is not a {kind}", f"write a number and a unit: {', '.join(units)}")
    match = _QUANTITY.fullmatch(value)
    if match is not None and match[2]:
        return match[1], match[2]
    if match is not None:
        raise BadValue(code, f"{kind} {quoted(value)} has no unit", _with_unit(kind, float(value)))
    loose = _LOOSE_QUANTITY.fullmatch(plain(value).strip())
    if loose is not None and loose[2] in units:
        what = "has a space in it" if plain(value) == value else "has full-width characters in it"
        raise BadValue(code, f"{kind} {quoted(value)} {what}", f"write {loose[1]}{loose[2]}")
    if re.fullmatch(r"[0-9]{16,}[A-Za-z]+", value):
        raise BadValue(code, f"{kind} {quoted(value)} is far too large")
    raise BadValue(code, f"{quoted(value)} is not a {kind}", f"write one number and a unit: {', '.join(units)}")


def _with_unit(kind: str, value: float) -> str:
    """Return what a bare number may have meant: bytes written shorter, or seconds and milliseconds.

    ``2000000000`` is 2GB, ``1048576`` is 1MiB, ``10`` may be 10KiB or 10MiB; ``30`` may be 30s or 30m, ``30000`` 30s.
    """
    shown = f"{value:g}" if value < 10**6 else f"{value:.0f}"
    if kind != "size":
        if value >= _MILLISECONDS_FROM and value % 1000 == 0:
            return f"write {shown}ms if milliseconds are meant, which is {value / 1000:g}s"
        return f"write {shown}s or {shown}m"
    for unit, factor in sorted(_SIZE_UNITS.items(), key=lambda known: -known[1]):
        if factor > 1 and value >= factor and value % factor == 0:
            return f"write {value / factor:g}{unit} if bytes are meant"
    return f"write {shown}KiB or {shown}MiB" if value < _BYTES_FROM else f"write {shown}B if bytes are meant"


def _rate_hint(value: str) -> str:
    if _MANY.fullmatch(value):
        return "at most 999999999 requests in a window; leave the rate out for no limit"
    if _PART.fullmatch(value):
        return "only whole requests are counted: 1 in two seconds is 1/2s"
    loose = _LOOSE_RATE.fullmatch(plain(value).replace(",", "").strip())
    meant = loose and _closest(loose[2], _RATE_UNITS, _RATE_WORDS)
    if loose and meant:
        return f"write {loose[1]}/{meant}"
    if value.isdigit():
        return f"write {value}/s or {value}/min"
    return _RATES


def _closest(unit: str, units: dict[str, float] | dict[str, int], words: dict[str, str]) -> str:
    """Return the unit meant by another spelling of it, or nothing."""
    lowered = unit.lower()
    for name in units:
        if name.lower() == lowered:
            return name
    return words.get(unit) or words.get(lowered) or words.get(unit.upper()) or ""
