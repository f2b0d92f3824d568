"""Counts what a file holds of each platform, from its rows: one side of the comparison that ends a copy."""

from collections.abc import Callable
from typing import Any, Final

from relay.store.transfer.records import Tally

_TOTALS: Final = """
SELECT p.id, p.name, l.accepted, l.delivered, l.dead, l.expired, l.superseded FROM platform AS p
  JOIN ledger AS l ON l.platform = p.id
"""
_ROWS: Final = """
SELECT c.platform, count(*) FILTER (WHERE c.state = 0), count(*) FILTER (WHERE c.held = 1), count(*), count(p.seq),
  sum(c.bytes), count(*) FILTER (WHERE c.state = 0 AND c.batch IS NOT NULL)
FROM callback AS c LEFT JOIN payload AS p ON p.seq = c.seq GROUP BY 1
"""
_KEYS: Final = """
SELECT c.platform, count(*) FROM idempotency AS i JOIN callback AS c ON c.idem = i.hash
WHERE i.targets IS NULL GROUP BY 1
"""
_ATTEMPTS: Final = "SELECT platform, count(*), count(*) FILTER (WHERE ended_at IS NULL) FROM attempt GROUP BY 1"


def tally_of(execute: Callable[..., Any]) -> dict[str, Tally]:
    """Return what each platform that has anything has. Reads the whole table."""
    rows = {number: counts for number, *counts in execute(_ROWS)}
    keys = dict(execute(_KEYS))
    attempts = {number: counts for number, *counts in execute(_ATTEMPTS)}
    held = dict(execute("SELECT platform, count(*) FROM key_hold GROUP BY 1"))
    found: dict[str, Tally] = {}
    for number, name, accepted, delivered, dead, expired, superseded in list(execute(_TOTALS)):
        pending, kept_back, kept, payloads, size, frozen = rows.get(number, (0,) * 6)
        made, under_way = attempts.get(number, (0, 0))
        found[name] = Tally(
            accepted=accepted,
            pending=pending,
            held=kept_back,
            delivered=delivered,
            dead=dead,
            expired=expired,
            superseded=superseded,
            rows=kept,
            payloads=payloads,
            bytes=size,
            keys=keys.get(number, 0),
            attempts=made,
            under_way=under_way,
            frozen=frozen,
            keys_held=held.get(number, 0),
        )
    return {name: tally for name, tally in found.items() if tally != NOTHING}


NOTHING: Final = Tally(**dict.fromkeys(Tally.__struct_fields__, 0))
