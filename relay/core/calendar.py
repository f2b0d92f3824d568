"""Windows that begin at a fixed time: an hour, a day or a month by the clock of some place, such as ``day@+08:00``."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final, NamedTuple

PERIODS: Final = {"hour": 3600.0, "day": 86400.0, "month": 31 * 86400.0}
"""What may repeat, with the most seconds it lasts."""


class Calendar(NamedTuple):
    """One of ``PERIODS``, by a clock that is ``offset_s`` ahead of UTC."""

    period: str
    offset_s: int

    def __str__(self) -> str:
        """Return it as the configuration writes it: ``day@+08:00``."""
        minutes = abs(self.offset_s) // 60
        return f"{self.period}@{'-' if self.offset_s < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"

    def end(self, wall: float) -> float:
        """Return when the period that holds ``wall`` (seconds since the epoch) ends, as such a time."""
        zone = timezone(timedelta(seconds=self.offset_s))
        at = datetime.fromtimestamp(wall, UTC).astimezone(zone)
        if self.period == "hour":
            begins = at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        elif self.period == "day":
            begins = at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        else:
            first = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            begins = (first + timedelta(days=32)).replace(day=1)
        return begins.timestamp()
