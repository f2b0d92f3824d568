"""The recorded requests that the log of a quota is rebuilt from, after a start or a change of the limits."""

from collections.abc import Iterable

import msgspec

from relay.core.model import Weight
from relay.store.quota_lines import Sent
from relay.store.sqlite.file.boot import StoreIdentity
from relay.store.sqlite.file.transaction import Transaction
from relay.store.sqlite.limits.lending import lent_slots

_SENT = """
SELECT json_group_array(json_array(a.id, p.name, a.grp, started_at, ended_at, coalesce(duration_s, 0.0),
  coalesce(a.purpose, a.n > 1), coalesce(w.items, b.items, 0), coalesce(nullif(a.wire_bytes, 0), w.bytes, 0),
  coalesce(w.points, b.items, 0)))
FROM platform AS p JOIN attempt AS a INDEXED BY attempt_recent ON a.platform = p.id
  LEFT JOIN batch AS b ON b.number = a.batch LEFT JOIN weight AS w ON w.attempt = a.id
WHERE p.name IN (SELECT value FROM json_each(?1)) AND (a.ended_at > ?2 OR a.ended_at IS NULL)
"""


_Row = tuple[int, str, str, float, float | None, float, int, int, int, int]


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
        (msgspec.json.encode(sorted(platforms)).decode(), min(since, started_at - window_s) if shifted else since),
    ).get
    for sent in msgspec.json.decode(found, type=list[_Row]):
        row = Sent(*sent[:7], weight=Weight(1, *sent[7:]))
        if shifted and row.ended_at is not None and row.ended_at <= started_at:
            row = row._replace(ended_at=started_at)
        yield row
    yield from lent_slots(transaction, since, started_at=started_at if shifted else None)
