"""Reads all callbacks of a platform, for comparing them with what the platform shows."""

from collections.abc import Iterator

import apsw

from relay.core.model import State
from relay.sealing.codec import Column
from relay.store.sent import SentCallback
from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.sealed_values import Seals

_PAGE_ROWS = 2000
_PAGE = """
SELECT c.seq, c.platform, p.sealed, c.key_text, c.event,
  c.state, c.held, coalesce(c.ended_at, c.due_at), coalesce(c.reason, ''), p.body
FROM callback AS c LEFT JOIN payload AS p ON p.seq = c.seq
WHERE c.seq > ? AND c.platform = (SELECT id FROM platform WHERE name = ?) ORDER BY c.seq LIMIT ?
"""


def sent_callbacks(
    connection: apsw.Connection, platform: str, *, ids: PublicIds, seals: Seals
) -> Iterator[SentCallback]:
    """Yield the callbacks of ``platform``, oldest first."""
    after = 0
    while rows := list(connection.execute(_PAGE, (after, platform, _PAGE_ROWS))):
        for seq, number, sealed, key, event, state, held, at, reason, body in rows:
            if sealed:
                body, key = seals.body(number, seq, body, sealed)
            else:
                key = seals.shown(Column.KEY, number, seq, key)
            yield SentCallback(
                seq, ids.callback(connection.execute, seq), key, event, State(state).word, bool(held), at, reason, body
            )
        after = rows[-1][0]
