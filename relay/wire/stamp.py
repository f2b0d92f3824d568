"""Timestamps as platforms want them, and how far a platform's clock is from ours.

Signatures are refused when the timestamp is some minutes off (Taobao 10, JD 6, WeChat Pay 5). Every answer carries
the platform's own time in ``Date``; learning it costs nothing and outlasts a wrong clock on either side.
"""

import math
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from statistics import median
from typing import Final

from relay.wire.hints import answered_at

_SAMPLES: Final = 5  # a median of five: one odd answer moves nothing, three agree on a step of either clock
_SLOWEST_S: Final = 10.0  # an exchange longer than this tells the offset too badly to be counted
_FURTHEST_S: Final = 86400.0  # a Date a day off is a broken clock there, not an offset to follow
_FROM_S: Final = 5.0  # below this our own clock is as good: Date has whole seconds and the way back takes time


class Stamp:
    """Writes a wall time as ``s``, ``ms`` (since the epoch) or by a ``strftime`` pattern at an offset from UTC."""

    __slots__ = ("_format", "_zone")

    def __init__(self, format: str = "s", *, tz_s: float = 0.0) -> None:  # noqa: A002 - the key's name in SPEC 5
        if format not in ("s", "ms") and "%" not in format:
            raise ValueError(
                f'{format!r} is not a timestamp format; use s, ms or a pattern such as "%Y-%m-%d %H:%M:%S"'
            )
        self._format = format
        self._zone = timezone(timedelta(seconds=tz_s))

    @property
    def is_number(self) -> bool:
        """Whether the timestamp is a number (in a JSON value it then stands without quotes)."""
        return self._format in ("s", "ms")

    def write(self, wall: float) -> str:
        """Return ``wall`` (seconds since the epoch) in this form."""
        if self._format == "s":
            return str(int(wall))
        if self._format == "ms":
            return str(int(wall * 1000))
        return datetime.fromtimestamp(wall, self._zone).strftime(self._format)


class ClockOffset:
    """What a platform's clock shows beyond ours, in seconds, learnt from the ``Date`` of its answers (RFC 9110 6.6.1).

    ``Date`` is cut to whole seconds and was written somewhere between sending and answering: good to about a second.
    """

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_SAMPLES)

    @property
    def seconds(self) -> float:
        """The offset to add to our wall clock; 0.0 while it is too small to matter."""
        offset = median(self._samples) if self._samples else 0.0
        return offset if abs(offset) >= _FROM_S else 0.0

    def learn(self, headers: Mapping[str, str], *, sent_wall: float, answered_wall: float) -> None:
        """Take note of an answer; ``headers`` are looked up in any case.

        An answer out of a cache (``Age``), one that took long, and a clock a day off tell nothing.
        """
        told = answered_at(headers, math.nan)
        took_s = answered_wall - sent_wall
        if math.isnan(told) or "age" in headers or not 0.0 <= took_s <= _SLOWEST_S:
            return
        offset = told + 0.5 - (sent_wall + took_s / 2)
        if abs(offset) <= _FURTHEST_S:
            self._samples.append(offset)

    def adjusted(self, wall: float) -> float:
        """Return ``wall`` on the platform's clock."""
        return wall + self.seconds
