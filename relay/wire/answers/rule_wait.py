"""A rule's ``wait``: where it says that an answer tells how long to stay away, compiled from the configuration."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import jmespath
import jmespath.exceptions

from relay.core.errors import Unfit
from relay.wire.answers.hints import UNITS, Unit, answered_at, wait_in_s
from relay.wire.answers.reading import Reading
from relay.wire.regex import Pattern, compile_regex

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)", re.ASCII)
_DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# A platform's counter begins anew so long after the boundary at most: 30 s; of a minute 6 s.
_LATE_S: Final = 30.0
_LATE_PART: Final = 0.1
_ALIGN_S: Final = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
_WAYS: Final = ("for", "header", "path", "align")
_KEYS: Final = (*_WAYS, "regex", "unit", "cap", "tz")
_TZ: Final = re.compile(r"([+-])(\d{2}):(\d{2})", re.ASCII)


class Wait(Protocol):
    """Reads out of an answer how long to stay away."""

    def __call__(self, reading: Reading, *, wall: float, cap_s: float) -> float | None:
        """Return seconds from now; ``wall`` is seconds since the epoch, ``cap_s`` the bound if the wait has none."""
        ...


@dataclass(frozen=True, slots=True)
class FixedWait:
    """Always the same; it is configured, so no cap applies."""

    wait_s: float

    def __call__(self, reading: Reading, *, wall: float, cap_s: float) -> float | None:
        """Return the configured wait."""
        return self.wait_s


@dataclass(frozen=True, slots=True)
class AlignedWait:
    """Until the next minute, hour or day begins at the platform: for limits that reset on the clock.

    Its clock is told by the answer's ``Date``, to about a second, and what counts behind it may be seconds late again.
    So a refusal just after a boundary is taken for the period before: 2 s after it the wait is 3 s, then 6, then 12 s.
    """

    period_s: float
    utc_offset_s: float

    def __call__(self, reading: Reading, *, wall: float, cap_s: float) -> float | None:
        """Return the seconds to the next boundary, or a few just after one; never 0."""
        return min(map(self._wait_s, answered_at(reading.answer.headers, wall).clocks))

    def _wait_s(self, now: float) -> float:
        begun_s = (now + self.utc_offset_s) % self.period_s
        if begun_s < min(_LATE_S, self.period_s * _LATE_PART):
            return begun_s + 1.0
        return self.period_s - begun_s


@dataclass(frozen=True, slots=True)
class FoundWait:
    """A number or date found in a header or in the body."""

    header: str | None
    path: Any  # a compiled JMESPath, where there is no header
    pattern: Pattern | None
    unit: Unit
    cap_s: float | None

    def __call__(self, reading: Reading, *, wall: float, cap_s: float) -> float | None:
        """Return what was found there, the longest of several in one header, or None."""
        text = self._subject(reading)
        if text is None:
            return None
        when = answered_at(reading.answer.headers, wall)
        bound_s = cap_s if self.cap_s is None else self.cap_s
        waits = (wait_in_s(value, self.unit, when=when, cap_s=bound_s) for value in self._found(text))
        return max((wait for wait in waits if wait is not None), default=None)

    def _found(self, text: str) -> Iterator[str | None]:
        """Yield what the pattern finds first: in the text as a whole, and in each value of a repeated header."""
        if self.pattern is None:
            yield text
            return
        for value in (text, *(text.split(",") if self.header is not None else ())):
            yield self.pattern.search(value)

    def _subject(self, reading: Reading) -> str | None:
        if self.header is not None:
            return reading.answer.headers.get(self.header)
        try:
            value = reading.find(self.path)
        except Unfit:
            return None  # what cannot be read counts as absent
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def compile_wait(wait: object) -> Wait:
    """Compile a rule's ``wait``: a duration, or a mapping with ``for``, ``header``, ``path`` or ``align``.

    Keys with the value None count as absent. Raises ``ValueError`` with what is wrong.
    """
    if not isinstance(wait, Mapping):
        return FixedWait(duration_s(wait))
    given = {name: value for name, value in wait.items() if value is not None}
    unknown = [str(name) for name in given if name not in _KEYS]
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)} in a wait; it takes {', '.join(_KEYS)}")
    ways = [name for name in _WAYS if name in given]
    if len(ways) != 1:
        raise ValueError(f"a wait has exactly one of {', '.join(_WAYS)}, or is a duration such as 60s")
    if ways == ["for"]:
        return FixedWait(duration_s(given["for"]))
    if ways == ["align"]:
        if given["align"] not in _ALIGN_S:
            raise ValueError(f"a wait's align is one of {', '.join(_ALIGN_S)}, not {given['align']!r}")
        return AlignedWait(_ALIGN_S[given["align"]], _utc_offset_s(given.get("tz", "Z")))
    unit = given.get("unit", "auto")
    if unit not in UNITS:
        raise ValueError(f"a wait's unit is one of {', '.join(UNITS)}, not {unit!r}")
    return FoundWait(
        header=compile_header(given["header"]) if "header" in given else None,
        path=compile_path(given["path"]) if "path" in given else None,
        pattern=compile_regex(given["regex"]) if "regex" in given else None,
        unit=cast(Unit, unit),
        cap_s=duration_s(given["cap"]) if "cap" in given else None,
    )


def duration_s(text: object) -> float:
    """Return the seconds in a duration such as ``500ms``, ``60s``, ``10m``, ``2h``, ``1d``. Raises ``ValueError``.

    A number is taken as seconds: the configuration refuses one without a unit and hands over durations as numbers.
    """
    if isinstance(text, int | float) and not isinstance(text, bool) and text >= 0:
        return float(text)
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is not a duration; write a number with a unit, such as 60s, 10m, 2h or 1d")
    return float(found[1]) * _DURATION_UNITS[found[2]]


def compile_path(expression: object) -> Any:
    """Return a compiled JMESPath. Raises ``ValueError``."""
    if not isinstance(expression, str):
        raise ValueError(f"path {expression!r} is not a JMESPath text")
    try:
        return jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"path {expression!r} is not a JMESPath: {error}") from error


def compile_header(name: object) -> str:
    """Return a header's name in lower case. Raises ``ValueError``."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"header {name!r} is not a header's name")
    return name.strip().lower()


def _utc_offset_s(text: object) -> float:
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    if text in ("Z", "UTC"):
        return 0.0
    found = _TZ.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"a wait's tz is an offset such as +08:00, not {text!r}")
    seconds = int(found[2]) * 3600.0 + int(found[3]) * 60.0
    return -seconds if found[1] == "-" else seconds
