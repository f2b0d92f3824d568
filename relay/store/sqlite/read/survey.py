"""Counts callbacks by what they have in common, a bounded part of the table at a time, newest first."""

from collections.abc import Sequence
from dataclasses import replace

import apsw

from relay.core.model import Filter, State
from relay.sealing.codec import Column
from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.file.transaction import numbers
from relay.store.sqlite.read.filters import STATE_SQL, named_rows, where
from relay.store.survey import Kind
from relay.views.past.survey import ChannelCounts, ChannelStep, GroupCounts, GroupStep

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
_EDGE = """
SELECT seq FROM callback INDEXED BY {index} WHERE platform = ?1 AND {stands} AND seq < ?2
ORDER BY seq DESC LIMIT 1 OFFSET ?3
"""
# Of the columns beside max(seq), SQLite takes those of the row that has it: the newest.
_GROUPS = """
SELECT coalesce(reason, ''), code, count(*), min(at), max(at), max(seq), coalesce(message, '') FROM (
  SELECT seq, reason, code, message, coalesce(ended_at, nullif(first_sent_at, 0.0), accepted_at) AS at
  FROM callback INDEXED BY {index} WHERE platform = ?1 AND {stands} AND seq < ?2 AND seq >= ?3 AND ({wanted}))
GROUP BY 1, 2
"""
_TRACEPARENTS = """
SELECT DISTINCT traceparent FROM callback
WHERE seq IN (SELECT value FROM carray(?1)) AND traceparent IS NOT NULL LIMIT 1000
"""
_HELD = ("callback_held", "held = 1")
_SHELF_STEP_ROWS = 20_000  # each row is looked up: some 20 ms
_OF = {"platform": "(SELECT name FROM platform WHERE id = callback.platform)", "event": "event"}


class SurveyReader:
    """Reads on one connection. Not for several threads at once."""

    def __init__(self, connection: apsw.Connection, ids: PublicIds, seals: Seals) -> None:
        self._seals = seals
        self._connection = connection
        self._ids = ids

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

    def groups(self, platform: str, wanted: Filter, *, held: bool, below: int | None) -> GroupStep:
        """Group the next part of a platform's dead, expired or held callbacks that match."""
        with self._connection:
            platforms = dict(self._connection.execute("SELECT name, id FROM platform WHERE name = ?", (platform,)))
            if platform not in platforms:
                return GroupStep(groups=[], below=None)
            condition = where(
                replace(wanted, platform=platform),
                named_rows(wanted, self._ids, self._connection.execute),
                platforms=platforms,
                seals=self._seals,
            )
            state = State.EXPIRED if wanted.state == State.EXPIRED.word else State.DEAD
            index, stands = _HELD if held else ("callback_shelf", STATE_SQL[state])
            number, top = platforms[platform], below or _TOP
            edge = _EDGE.format(index=index, stands=stands)
            floor = self._connection.execute(edge, (number, top, _SHELF_STEP_ROWS - 1)).get
            # The condition comes from ``where`` and its values are bound: as ?4 and on, in their order.
            sql = _GROUPS.format(index=index, stands=stands, wanted=condition.sql)
            rows = list(self._connection.execute(sql, (number, top, floor or 0, *condition.values)))
        found = [
            GroupCounts(
                reason=reason,
                code=code,
                count=count,
                first_at=first_at,
                last_at=last_at,
                sample=self._ids.callback(self._connection.execute, newest),
                message=self._seals.shown(Column.MESSAGE, number, newest, message),
            )
            for reason, code, count, first_at, last_at, newest, message in rows
        ]
        return GroupStep(groups=found, below=floor)

    def traceparents(self, seqs: Sequence[int]) -> list[str]:
        """Return the trace contexts that these callbacks carry, each once."""
        return [traceparent for (traceparent,) in self._connection.execute(_TRACEPARENTS, (numbers(seqs),))]
