"""A rule's ``wait``: how long to stay away after an answer. ``config`` compiles it and has checked it.

``wait: 60s`` is a ``FixedWait``, ``wait: {header: X-Wait}`` and ``{path: retry_in}`` a ``FoundWait``,
``wait: {align: minute}`` an ``AlignedWait``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from relay.core.errors import Unfit
from relay.wire.answers.hints import Unit, answered_at, wait_in_s
from relay.wire.answers.json_path import JsonPath
from relay.wire.answers.reading import Reading
from relay.wire.regex import Pattern

# A platform's counter begins anew so long after the boundary at most: 30 s; of a minute 6 s.
_LATE_S: Final = 30.0
_LATE_PART: Final = 0.1


class Wait(Protocol):
    """Reads out of an answer how long to stay away."""

    def __call__(self, reading: Reading, *, wall: float) -> float | None:
        """Return seconds from now; ``wall`` is seconds since the epoch. None: the answer does not say."""
        ...


@dataclass(frozen=True, slots=True)
class FixedWait:
    """Always the same; it is configured, so no cap applies."""

    wait_s: float

    def __call__(self, reading: Reading, *, wall: float) -> float | None:
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

    def __call__(self, reading: Reading, *, wall: float) -> float | None:
        """Return the seconds to the next boundary, or a few just after one; never 0."""
        return min(map(self._wait_s, answered_at(reading.answer.headers, wall).clocks))

    def _wait_s(self, now: float) -> float:
        begun_s = (now + self.utc_offset_s) % self.period_s
        if begun_s < min(_LATE_S, self.period_s * _LATE_PART):
            return begun_s + 1.0
        return self.period_s - begun_s


@dataclass(frozen=True, slots=True)
class FoundWait:
    """A number or date found in a header or in the body, never longer than ``cap_s``."""

    source: str | JsonPath  # a header's name, or a path into the JSON body
    pattern: Pattern | None
    unit: Unit
    cap_s: float

    def __call__(self, reading: Reading, *, wall: float) -> float | None:
        """Return what was found there, the longest of several in one header, or None."""
        text = self._text(reading)
        if text is None:
            return None
        when = answered_at(reading.answer.headers, wall)
        waits = (wait_in_s(value, self.unit, when=when, cap_s=self.cap_s) for value in self._found(text))
        return max((wait for wait in waits if wait is not None), default=None)

    def _found(self, text: str) -> Iterator[str | None]:
        """Yield what the pattern finds first: in the text as a whole, and in each value of a repeated header."""
        if self.pattern is None:
            yield text
            return
        for value in (text, *(text.split(",") if isinstance(self.source, str) else ())):
            yield self.pattern.search(value)

    def _text(self, reading: Reading) -> str | None:
        if isinstance(self.source, str):
            return reading.answer.headers.get(self.source.lower())
        try:
            value = reading.find(self.source)
        except Unfit:
            return None  # what cannot be read counts as absent
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
