"""Keeps the totals of each minute in the transaction of that minute's first change, and what is counted beside them."""

from collections.abc import Mapping, Sequence

import apsw

from relay.store.history import MINUTE_S
from relay.store.sqlite.file.checksums import as_damaged
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.transaction import Transaction, Writes
from relay.store.sqlite.read.own_thread import Reads
from relay.views.past.history import MinuteCounts, QueueLevel, Sampled, summed

_KEEP_TOTALS = """
INSERT OR IGNORE INTO sample (platform, minute, accepted, delivered, dead, expired, superseded)
SELECT platform, ?1, accepted, delivered, dead, expired, superseded FROM ledger WHERE accepted > 0
UNION ALL
SELECT 0, ?1, coalesce(sum(accepted), 0), coalesce(sum(delivered), 0), coalesce(sum(dead), 0),
  coalesce(sum(expired), 0), coalesce(sum(superseded), 0) FROM ledger
"""
# Without the row of all platforms the minute is not kept: then a row made here would have no totals of its own.
_ADD = """
INSERT INTO sample (platform, minute, requests, refused, failed, raw_bytes, wire_bytes, late, oldest_due_s)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE EXISTS (SELECT 1 FROM sample WHERE platform = 0 AND minute = ?2)
ON CONFLICT DO UPDATE SET requests = requests + ?3, refused = refused + ?4, failed = failed + ?5,
  raw_bytes = raw_bytes + ?6, wire_bytes = wire_bytes + ?7, late = late + ?8, oldest_due_s = ?9
"""
_EVERYBODY = 0


class SqliteHistory:
    """Implements ``relay.store.history.MinuteHistory``; only ``write_totals`` runs on the writing thread."""

    def __init__(self, *, names: Names, last_minute: int, write: Writes, read: Reads) -> None:
        """Continue after ``last_minute``, the last one kept."""
        self._names = names
        self._last_minute = last_minute
        self._write = write
        self._read = read

    def write_totals(self, transaction: Transaction) -> None:
        """Write what a group changes of the totals, after what they were when its minute began."""
        minute = int(transaction.now // MINUTE_S)
        if minute > self._last_minute:
            try:
                transaction.execute(_KEEP_TOTALS, (minute,))
            except apsw.Error as error:
                if as_damaged(error) is not None:
                    self._last_minute = minute  # a gap in the history, where else nothing could be committed
                raise
            transaction.on_commit.append(lambda: setattr(self, "_last_minute", minute))
        transaction.write_totals()

    async def levels(self) -> Mapping[str, QueueLevel]:
        """Return the totals of each platform that accepted anything."""
        found: Mapping[str, QueueLevel] = await self._read(lambda reader: reader.history.levels())
        return found

    async def keep_minute(self, minute: int, counted: Mapping[str, MinuteCounts]) -> None:
        """Add what was counted per platform to a minute, if that minute is kept."""
        rows = [_row(self._names.number(name), minute, each) for name, each in counted.items()]
        total = MinuteCounts(
            counts=summed(each.counts for each in counted.values()),
            oldest_due_s=max((each.oldest_due_s for each in counted.values()), default=0.0),
        )
        rows.append(_row(_EVERYBODY, minute, total))

        def add(transaction: Transaction) -> None:
            self._names.save(transaction)
            for row in rows:
                transaction.execute(_ADD, row)

        await self._write(add)

    async def minutes(self, platform: str | None, since: float, now: float) -> Sequence[Sampled]:
        """Return each minute kept from ``since`` on, the running one last."""
        found: Sequence[Sampled] = await self._read(lambda reader: reader.history.minutes(platform, since, now))
        return found


def _row(number: int, minute: int, each: MinuteCounts) -> tuple[float, ...]:
    counts = each.counts
    sizes = (counts.raw_bytes, counts.wire_bytes)
    return (number, minute, counts.requests, counts.refused, counts.failed, *sizes, counts.late, each.oldest_due_s)
