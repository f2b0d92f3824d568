"""The limits that a platform's answers declare to be in force: so many requests in so many seconds.

``RateLimit-Policy`` of draft-ietf-httpapi-ratelimit-headers (-11: ``"burst";q=100;w=60``), its older forms
(``100;w=60``) there and in ``RateLimit-Limit``, ``X-RateLimit-Limit`` where it is written like these, and the headers
of gateways that name the window, ``X-RateLimit-Limit-Minute: 100``. A count without a window declares nothing: when it
is free again (``-Reset``) is a moment, not a window.
"""

import re
from collections.abc import Mapping
from typing import Final

from relay.core.model import Rate
from relay.wire.answers.list_field import members

# The first that declares anything holds: what was written for a standard is meant, an X- header is often left over.
_SOURCES: Final = ("ratelimit-policy", "ratelimit-limit", "x-ratelimit-limit", "x-rate-limit-limit")
_NAMED: Final = {
    "x-ratelimit-limit-second": 1,
    "x-ratelimit-limit-minute": 60,
    "x-ratelimit-limit-hour": 3600,
    "x-ratelimit-limit-day": 86400,
}
_READ: Final = (*_SOURCES, *_NAMED)
_NUMBER: Final = re.compile(r"[0-9]{1,8}", re.ASCII)
_MOST_REQUESTS: Final = 10_000_000
_LONGEST_S: Final = 31 * 86400
_MOST_RATES: Final = 4
_SILENT: Final = 200


def declared_limits(headers: Mapping[str, str]) -> tuple[Rate, ...]:
    """Return the limits that ``headers`` declare, shortest window first, at most four; raises nothing.

    A member that makes no sense, or counts bytes or concurrency rather than requests, is skipped. Of two counts for
    one window the lower holds.
    """
    for name in _SOURCES:
        text = headers.get(name)
        rates = _rates(text) if text else ()
        if rates:
            return rates
    named = ((_lowest(headers.get(name)), window_s) for name, window_s in _NAMED.items())
    return tuple(Rate(count, float(window_s)) for count, window_s in named if count)


def _lowest(text: str | None) -> int:
    """Return the lowest count of a header, which may stand there twice; 0 for none."""
    counts = (_whole(value, _MOST_REQUESTS) for value, *_ in members(text or ""))
    return min((count for count in counts if count), default=0)


class DeclaredLimits:
    """Remembers what one platform declared last, so that headers are parsed only when they changed."""

    __slots__ = ("_declaring", "_rates", "_silent", "_texts")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: what the next answers declare is told again."""
        self._texts: tuple[str | None, ...] = ()
        self._rates: tuple[Rate, ...] | None = None  # not known: a restart may have kept some
        self._declaring = False
        self._silent = 0

    def read(self, headers: Mapping[str, str]) -> tuple[Rate, ...] | None:
        """Return the limits now declared if they are others than before, else None; raises nothing.

        Headers that declare nothing change nothing: an error page of a proxy has none, and a broken one is no
        permission. Only when 200 answers in a row declared nothing there is no declared limit any more: ``()``, once.
        """
        texts = tuple(map(headers.get, _READ))
        if texts != self._texts:
            self._texts = texts
            rates = declared_limits(headers)
            self._declaring = bool(rates)
            if rates:
                self._silent = 0
                if rates != self._rates:
                    self._rates = rates
                    return rates
        if self._declaring or self._rates == ():
            return None
        self._silent += 1
        if self._silent < _SILENT:
            return None
        self._rates, self._silent = (), 0
        return ()


def _rates(text: str) -> tuple[Rate, ...]:
    lowest: dict[int, int] = {}
    for value, *parameters in members(text):
        stated = {
            name.strip().lower(): number.strip() for name, _, number in (part.partition("=") for part in parameters)
        }
        if stated.get("qu", "requests").strip('"').lower() != "requests":
            continue
        count = _whole(stated.get("q", value), _MOST_REQUESTS)
        window_s = _whole(stated.get("w", ""), _LONGEST_S)
        if count and window_s:
            lowest[window_s] = min(count, lowest.get(window_s, count))
    # Of too many those are kept that allow least in the long run: to run into these costs most.
    tightest = sorted(lowest.items(), key=lambda rate: (rate[1] / rate[0], -rate[0]))[:_MOST_RATES]
    return tuple(Rate(count, float(window_s)) for window_s, count in sorted(tightest))


def _whole(text: str, most: int) -> int:
    """Return a whole number from 1 to ``most``, else 0."""
    number = int(text) if _NUMBER.fullmatch(text) else 0
    return number if number <= most else 0
