"""What the store shows of the past: the totals now, and what happened in each minute."""

from collections.abc import Sequence

import apsw
from msgspec.structs import replace

from relay.store.history import MINUTE_S
from relay.views.past.history import QueueLevel, RequestCounts, Sampled, change

_LEVELS = """
SELECT p.id, p.name, l.accepted, l.delivered, l.dead, l.expired, l.superseded
FROM platform AS p JOIN ledger AS l ON l.platform = p.id WHERE l.accepted > 0
"""
_MINUTES = """
SELECT minute, accepted, delivered, dead, expired, superseded, requests, refused, failed, raw_bytes, wire_bytes,
  late, oldest_due_s FROM sample WHERE platform = ?1 AND minute BETWEEN ?2 AND ?3 ORDER BY minute
"""
_NOW = """
SELECT coalesce(sum(accepted), 0), coalesce(sum(delivered), 0), coalesce(sum(dead), 0), coalesce(sum(expired), 0),
  coalesce(sum(superseded), 0) FROM ledger WHERE ?1 = 0 OR platform = ?1
"""
_EVERYBODY = 0
_NOBODY = -1
# Since when the oldest could have been sent. Of those never sent: hops from one (group, lane) to the next over the
# index of heads, reading one entry of each; what was put back is there too, with the later time of its retry.
# (The next lane is asked for by >= of a row value: for > SQLite reads all that equals it.)
_HOPS = 200  # groups and lanes looked at for the oldest due time; more belong to a platform that is never idle
OLDEST_DUE = f"""
WITH RECURSIVE hop(grp, prio, due_at, n) AS (
  SELECT * FROM (SELECT grp, prio, due_at, 1 FROM callback INDEXED BY callback_ready
                 WHERE platform = ?1 AND head = 1 ORDER BY grp, prio, due_at LIMIT 1)
  UNION ALL
  SELECT next.grp, next.prio, next.due_at, hop.n + 1 FROM hop JOIN callback AS next ON next.seq = (
    SELECT seq FROM callback INDEXED BY callback_ready
    WHERE platform = ?1 AND head = 1 AND (grp, prio) >= (hop.grp, hop.prio + 1) ORDER BY grp, prio, due_at LIMIT 1)
  WHERE hop.n < {_HOPS})
SELECT min(at) FROM (
  SELECT min(due_at) AS at FROM hop
  UNION ALL
  SELECT * FROM (SELECT expires_at - expires_s FROM callback INDEXED BY callback_put_back
                 WHERE platform = ?1 AND first_sent_at > 0.0 AND batch IS NULL AND held = 0 AND state = 0
                 ORDER BY expires_at - expires_s LIMIT 1)
  UNION ALL
  SELECT min(waiting_since) FROM batch INDEXED BY batch_open WHERE platform = ?1 AND state < 2)
"""  # noqa: S608 - a constant of this file


class HistoryReader:
    """Reads samples on one connection. Not for several threads at once."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def levels(self) -> dict[str, QueueLevel]:
        """Return the totals of each platform that accepted anything."""
        found: dict[str, QueueLevel] = {}
        with self._connection:
            for number, name, *totals in list(self._connection.execute(_LEVELS)):
                oldest = self._connection.execute(OLDEST_DUE, (number,)).get
                found[name] = replace(_level(totals), oldest_due_at=oldest)
        return found

    def minutes(self, platform: str | None, since: float, now: float) -> list[Sampled]:
        """Return each minute kept from ``since`` on, the running one last."""
        first, running = int(since // MINUTE_S), int(now // MINUTE_S)
        with self._connection:
            number = _EVERYBODY
            if platform is not None:
                found = self._connection.execute("SELECT id FROM platform WHERE name = ?", (platform,)).get
                number = _NOBODY if found is None else found
            kept = [row[0] for row in self._connection.execute(_MINUTES, (_EVERYBODY, first, running))]
            rows = {row[0]: row[1:] for row in self._connection.execute(_MINUTES, (number, first, running))}
            latest = _level(self._connection.execute(_NOW, (number,)).get)
        spans = []
        for place, minute in enumerate(kept):
            row = rows.get(minute)
            follows = place + 1 < len(kept)
            after = _level(rows[kept[place + 1]][:5] if kept[place + 1] in rows else None) if follows else latest
            span = change(minute * MINUTE_S, _level(None if row is None else row[:5]), after)
            spans.append(span if row is None else _counted(span, row[5:]))
        if not kept or kept[-1] != running:
            spans.append(Sampled(at=running * MINUTE_S, pending=latest.pending))
        return spans


def _level(totals: Sequence[int] | None) -> QueueLevel:
    """Return a row's totals; of a platform that has no row, none."""
    if totals is None:
        return QueueLevel()
    accepted, delivered, dead, expired, superseded = totals
    return QueueLevel(accepted=accepted, delivered=delivered, dead=dead, expired=expired, superseded=superseded)


def _counted(span: Sampled, row: tuple[int, int, int, int, int, int, float | None]) -> Sampled:
    requests, refused, failed, raw_bytes, wire_bytes, late, oldest_due_s = row
    counts = RequestCounts(
        requests=requests, refused=refused, failed=failed, raw_bytes=raw_bytes, wire_bytes=wire_bytes, late=late
    )
    return replace(span, oldest_due_s=oldest_due_s, counts=counts)
