"""Counts callbacks by what they have in common, a bounded part of the table at a time, newest first."""

import apsw

from relay.store.survey import Kind
from relay.views.survey import ChannelCounts, ChannelStep

_STEP_ROWS = 50_000  # some 20 ms: other readers wait for no longer
_TOP = (1 << 63) - 1
_FLOOR = """
SELECT seq FROM callback WHERE seq < ?1 AND seq >= ?2 ORDER BY seq DESC LIMIT 1 OFFSET ?3
"""
# seq: the microsecond of acceptance, made unique, so it is never below it.
_CHANNELS = """
SELECT {channel}, count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),
  count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4),
  count(*) FILTER (WHERE held = 1), count(*) FILTER (WHERE state = 0 AND held = 0 AND expires_at - expires_s < ?4)
FROM callback WHERE seq < ?1 AND seq >= ?2 AND accepted_at >= ?3 GROUP BY 1
"""
_OF = {"platform": "(SELECT name FROM platform WHERE id = callback.platform)", "event": "event"}


class SurveyReader:
    """Reads on one connection. Not for several threads at once."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def channels(self, by: Kind, since: float, *, late_before: float, below: int | None) -> ChannelStep:
        """Count the next part of the callbacks accepted from ``since`` on."""
        top, bottom = below or _TOP, int(since * 1e6)
        with self._connection:
            floor = self._connection.execute(_FLOOR, (top, bottom, _STEP_ROWS - 1)).get
            found = {
                channel: ChannelCounts(
                    pending=pending,
                    delivered=delivered,
                    dead=dead,
                    expired=expired,
                    superseded=superseded,
                    held=held,
                    late=late,
                )
                for channel, pending, delivered, dead, expired, superseded, held, late in self._connection.execute(
                    _CHANNELS.format(channel=_OF[by]), (top, bottom if floor is None else floor, since, late_before)
                )
            }
        return ChannelStep(channels=found, below=floor, since=since if floor is None else floor / 1e6)
