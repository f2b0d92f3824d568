"""Writes audit records, each chained to the one before it, in the transaction of the deed."""

from collections.abc import Callable
from typing import Any

import apsw
import msgspec

from relay.core.raw import Record
from relay.privacy.chain import ORIGIN, PRUNED, following, former_record, record_text, start_record
from relay.store.sqlite.file.transaction import Transaction
from relay.views.moments import instant_text

_Execute = Callable[..., Any]
_AGED = """
SELECT max(id), max(record ->> 'action' <> ?2) FROM audit WHERE id < (SELECT count FROM audit_head) AND at < ?1
"""


def keep_deed(transaction: Transaction, deed: Record | None) -> None:
    """Write the audit record of what the transaction does; None: nobody asked for it."""
    if deed is not None:
        append(transaction.execute, deed, transaction.now)


def append(execute: _Execute, record: Record, now: float) -> None:
    """Write ``record`` behind the newest one."""
    count, before = execute("SELECT count, hash FROM audit_head").get
    text = record_text(record)
    head = following(before, text)
    execute("INSERT INTO audit (id, at, record, hash) VALUES (?, ?, ?, ?)", (count + 1, now, text, head))
    execute("UPDATE audit_head SET count = ?, hash = ?, at = ?", (count + 1, head, now))


def begin_chain(connection: apsw.Connection, now: float) -> None:
    """Begin the chain of a file that has none; what lies there already is chained, and a record says so."""
    execute = connection.execute
    if execute("SELECT EXISTS (SELECT 1 FROM audit_head)").get:
        return
    former = execute("SELECT count(*) FROM audit").get
    head = ORIGIN
    ids = [number for (number,) in execute("SELECT id FROM audit ORDER BY id")]
    for n, number in enumerate(ids, start=1):  # without gaps: a chain's numbers have none
        text = record_text(msgspec.json.decode(execute("SELECT record FROM audit WHERE id = ?", (number,)).get))
        head = following(head, text)
        execute("UPDATE audit SET id = ?, record = ?, hash = ? WHERE id = ?", (n, text, head, number))
    execute("INSERT INTO audit_head (one, count, hash, at) VALUES (1, ?, ?, NULL)", (former, head))
    if former:
        append(execute, former_record(former, at=instant_text(now)), now)


def prune_trail(execute: _Execute, before: float, now: float) -> None:
    """Delete the records older than ``before``, from the oldest on, and record where the chain starts now.

    What is left of earlier prunings alone is no reason: each would leave one more.
    """
    last, others = execute(_AGED, (before, PRUNED)).get
    if not others:
        return
    newer = execute("SELECT min(id) FROM audit WHERE at >= ?", (before,)).get  # times may step back over a reboot
    last = last if newer is None else min(last, newer - 1)
    hash_before = execute("SELECT hash FROM audit WHERE id = ?", (last,)).get
    if hash_before is None:
        return
    execute("DELETE FROM audit WHERE id <= ?", (last,))
    append(execute, start_record(last + 1, hash_before, at=instant_text(now)), now)
