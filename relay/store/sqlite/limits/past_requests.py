"""The recorded requests that the log of a quota is rebuilt from, after a start or a change of the limits."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from relay.core.errors import StoreDamaged
from relay.core.model import Weight
from relay.store.quota_lines import EVERY_SLOT, Recorded, Sent
from relay.store.sqlite.file.boot import StoreIdentity
from relay.store.sqlite.file.transaction import Transaction, Writes
from relay.store.sqlite.limits.lending import lent_slots
from relay.store.sqlite.read.ledger import SqliteReader
from relay.store.sqlite.read.own_thread import Reads

T = TypeVar("T")

_SENT = """
SELECT json_group_array(json_array(a.id, p.name, a.grp, started_at, ended_at, coalesce(duration_s, 0.0),
  coalesce(a.purpose, a.n > 1), coalesce(w.items, b.items, 0), coalesce(nullif(a.wire_bytes, 0), w.bytes, 0),
  coalesce(w.points, b.items, 0)))
FROM platform AS p JOIN attempt AS a INDEXED BY attempt_recent ON a.platform = p.id
  LEFT JOIN batch AS b ON b.number = a.batch LEFT JOIN weight AS w ON w.attempt = a.id
WHERE p.name IN (SELECT value FROM json_each(?1)) AND (a.ended_at > ?2 OR a.ended_at IS NULL)
"""


_Row = tuple[int, str, str, float, float | None, float, int, int, int, int]


class PastRequests:
    """The record of one file. Where a platform's lies on a damaged page, every slot of its limits counts as used."""

    def __init__(self, identity: StoreIdentity) -> None:
        self._identity = identity
        self._asked: dict[str, float] = {}  # platform -> since when its requests were asked for
        self._lost: frozenset[str] = frozenset()

    def of(self, transaction: Transaction) -> Recorded:
        """Return what asks the file for them."""
        return lambda platforms, since: self._sent(transaction, platforms, since)

    async def around_damage(self, run: Callable[[Transaction], T], *, write: Writes, read: Reads) -> T:
        """Commit what asks for past requests; where some cannot be read, once more with their slots as used.

        Raises ``StoreDamaged`` where something else of the file is damaged.
        """
        try:
            return await write(run)
        except StoreDamaged:
            asked = dict(self._asked)
            lost = await read(lambda reader: {name for name, since in asked.items() if _is_lost(reader, name, since)})
            if lost <= self._lost:
                raise
            self._lost |= lost
        return await write(run)

    def _sent(self, transaction: Transaction, platforms: frozenset[str], since: float) -> Iterable[Sent]:
        self._asked.update(dict.fromkeys(platforms, since))
        now = transaction.now
        yield from (Sent(EVERY_SLOT, name, "", now, now, 0.0) for name in platforms & self._lost)
        yield from past_requests(transaction, self._identity, platforms - self._lost, since)


def _is_lost(reader: SqliteReader, platform: str, since: float) -> bool:
    return reader.meets_damage(_SENT, (_names([platform]), since))


def _names(platforms: Iterable[str]) -> str:
    return msgspec.json.encode(sorted(platforms)).decode()


def past_requests(
    transaction: Transaction, identity: StoreIdentity, platforms: frozenset[str], since: float
) -> Iterable[Sent]:
    """Return the recorded attempts of ``platforms`` that were answered after ``since``, or not yet; and lent slots.

    When the clock could not be continued over a reboot, what was recorded before counts as answered at the start.
    """
    started_at = identity.opened_at
    shifted = not identity.continuous and started_at > since
    window_s = transaction.now - since
    found = transaction.execute(
        _SENT,
        (_names(platforms), min(since, started_at - window_s) if shifted else since),
    ).get
    for sent in msgspec.json.decode(found, type=list[_Row]):
        row = Sent(*sent[:7], weight=Weight(1, *sent[7:]))
        if shifted and row.ended_at is not None and row.ended_at <= started_at:
            row = row._replace(ended_at=started_at)
        yield row
    yield from lent_slots(transaction, since, started_at=started_at if shifted else None)
