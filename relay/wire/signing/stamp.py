"""Timestamps as platforms want them, and how far a platform's clock is from ours.

Signatures are refused when the timestamp is some minutes off (Taobao 10, JD 6, WeChat Pay 5). An answer carries the
platform's own time in ``Date``, which outlasts a wrong clock on either side. But a front end may write local time there
and call it GMT: so it is followed only where a signature was refused, and only while that helps.
"""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Final

from relay.wire.answers.hints import answered_at

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
    """What a platform's clock shows beyond ours, in seconds, by the ``Date`` of its answers (RFC 9110 section 6.6.1).

    0 until a signature is refused. Then the refusal's own ``Date`` is tried at once, and stays when a signature made
    with it is accepted; refused too, it is dropped, for then the clock was not the trouble.
    """

    __slots__ = ("seconds", "tried")

    def __init__(self) -> None:
        self.seconds = 0.0  # to add to our wall clock
        self.tried = False  # nothing was accepted with it yet

    def accepted(self, signed_s: float) -> None:
        """A signature made with the offset ``signed_s`` was accepted: that clock is right."""
        self.seconds, self.tried = signed_s, False

    def refused(self, headers: Mapping[str, str], signed_s: float, *, sent_wall: float, answered_wall: float) -> bool:
        """A signature made with the offset ``signed_s`` was refused; return whether there is another one to try."""
        if signed_s != self.seconds:
            return True  # it was under way when that changed
        if self.tried:
            self.seconds, self.tried = 0.0, False
            return False
        stated_s = _stated_offset_s(headers, sent_wall=sent_wall, answered_wall=answered_wall)
        if stated_s is None or abs(stated_s - signed_s) < _FROM_S:
            return False
        self.seconds, self.tried = stated_s, True
        return True


def _stated_offset_s(headers: Mapping[str, str], *, sent_wall: float, answered_wall: float) -> float | None:
    """Return the offset that an answer states, good to about a second; 0 for one too small to matter.

    An answer out of a cache (``Age``), one that took long, and a clock a day off state nothing: None. ``Date`` is cut
    to whole seconds and was written somewhere between sending and answering.
    """
    stated = answered_at(headers, math.nan).stated
    took_s = answered_wall - sent_wall
    if math.isnan(stated) or "age" in headers or not 0.0 <= took_s <= _SLOWEST_S:
        return None
    offset = stated + 0.5 - (sent_wall + took_s / 2)
    if abs(offset) > _FURTHEST_S:
        return None
    return offset if abs(offset) >= _FROM_S else 0.0
