"""Lists audit records and operations, newest first, by their numbers."""

from typing import Any

import apsw
import msgspec

from relay.store.journal import shown_record
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.read.operations import COLUMNS, shown
from relay.views.moments import moment
from relay.views.operation_view import OperationPage
from relay.views.past.journal import AuditHead, AuditPage, ChainLink, JournalFilter

_TOP = (1 << 63) - 1
_SCAN_ROWS = 50_000  # a page looks at no more: some 50 ms
_AUDITS = """
SELECT id, at, record FROM audit WHERE id < ?1 AND id >= ?2
  AND (?3 IS NULL OR record ->> 'who' = ?3) AND (?4 IS NULL OR record ->> 'action' = ?4)
  AND (?5 IS NULL OR record ->> 'target' = ?5) AND (?6 IS NULL OR at >= ?6) AND (?7 IS NULL OR at < ?7)
ORDER BY id DESC LIMIT ?8
"""
_OPERATIONS = f"""
SELECT {COLUMNS} FROM operation WHERE number < ?1 AND number >= ?2
  AND (?3 IS NULL OR options ->> 'who' = ?3) AND (?4 IS NULL OR action = ?4)
  AND (?5 IS NULL OR filter ->> 'platform' = ?5) AND (?6 IS NULL OR started_at >= ?6)
  AND (?7 IS NULL OR started_at < ?7) AND (?9 IS NULL OR (finished_at IS NULL) = ?9)
ORDER BY number DESC LIMIT ?8
"""  # noqa: S608 - built from constants


class JournalReader:
    """Reads on one connection. Not for several threads at once."""

    def __init__(self, connection: apsw.Connection, seals: Seals) -> None:
        self._connection = connection
        self._seals = seals

    def audits(self, wanted: JournalFilter, cursor: str | None, limit: int) -> AuditPage:
        """Return one page of audit records."""
        asked = (wanted.who, wanted.action, wanted.target, wanted.since, wanted.until)
        rows, after = self._page("SELECT max(id) FROM audit", _AUDITS, asked, (), cursor, limit)
        return AuditPage([shown_record(*row) for row in rows], after)

    def chain(self, after: int, limit: int) -> list[ChainLink]:
        """Return the audit records behind number ``after``, oldest first; what is no JSON any more comes as text."""
        rows = self._connection.execute(
            "SELECT id, hash, record FROM audit WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        )
        return [ChainLink(number, head or "", _whole(text)) for number, head, text in rows]

    def audit_head(self) -> AuditHead:
        """Return the newest audit record as it was written."""
        count, head, at = self._connection.execute("SELECT count, hash, at FROM audit_head").get
        return AuditHead(count=count, hash=head, at=moment(at))

    def operations(self, wanted: JournalFilter, cursor: str | None, limit: int) -> OperationPage:
        """Return one page of operations."""
        asked = (wanted.who, wanted.action, wanted.platform, wanted.since, wanted.until)
        rows, after = self._page(
            "SELECT max(number) FROM operation", _OPERATIONS, asked, (wanted.running,), cursor, limit
        )
        return OperationPage([shown(row, self._seals) for row in rows], after)

    def _page(
        self, newest: str, sql: str, asked: tuple[Any, ...], more: tuple[Any, ...], cursor: str | None, limit: int
    ) -> tuple[list[Any], str | None]:
        """Return the rows below the cursor that match, and the cursor of the next page."""
        with self._connection:
            below = min(int(cursor) if cursor is not None else _TOP, (self._connection.execute(newest).get or 0) + 1)
            floor = max(1, below - _SCAN_ROWS)
            rows = list(self._connection.execute(sql, (below, floor, *asked, limit + 1, *more)))
        if len(rows) > limit:
            return rows[:limit], str(rows[limit - 1][0])
        return rows, str(floor) if floor > 1 else None


def _whole(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
