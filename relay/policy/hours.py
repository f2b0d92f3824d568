"""Sending hours: a daily span in a zone of its own, outside of which nothing is sent."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo

_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class SendingHours:
    """Open from ``opens`` to before ``closes``, every day; over midnight where ``closes`` is the earlier one.

    Example: 08:00 to 22:00 in Asia/Shanghai is open at 08:00:00 and closed at 22:00:00 there.
    """

    opens: time
    closes: time
    zone: tzinfo

    def __str__(self) -> str:
        """Return them as people read them."""
        return f"{self.opens:%H:%M} to {self.closes:%H:%M} {self.zone}"

    @property
    def closed_a_day_s(self) -> float:
        """How long it is closed between two days."""
        between = timedelta(hours=self.opens.hour - self.closes.hour, minutes=self.opens.minute - self.closes.minute)
        return between.total_seconds() % _DAY_S

    def closed_s(self, wall: float) -> float:
        """Return in how many seconds it opens, at ``wall`` (seconds since the epoch); 0.0 while it is open."""
        local = datetime.fromtimestamp(wall, self.zone)
        clock = local.time()
        if self.opens < self.closes:
            is_open = self.opens <= clock < self.closes
        else:
            is_open = clock >= self.opens or clock < self.closes
        if is_open:
            return 0.0
        day = local.date() if clock < self.opens else local.date() + timedelta(days=1)
        # Where the clocks change just then, the time may be a little off: it is looked at again when it comes.
        return max(1.0, datetime.combine(day, self.opens, self.zone).timestamp() - wall)
