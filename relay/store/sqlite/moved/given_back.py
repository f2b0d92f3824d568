"""Reads callbacks of a history file that an operation needs on the server again."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from relay.store.sqlite.file.foreign.public_ids import PublicIds
from relay.store.sqlite.file.sealed_values import Seals
from relay.store.sqlite.read.ledger import MOVED_KEY
from relay.store.sqlite.transfer.records_out import RecordsOut
from relay.store.transfer.history_file import Given

_NEWER: Final = f"""
SELECT EXISTS (SELECT 1 FROM callback AS o CROSS JOIN callback AS n INDEXED BY {MOVED_KEY} ON n.key = o.key
WHERE o.seq = ? AND n.key IS NOT NULL AND n.platform = o.platform AND n.state = 1 AND n.seq > o.seq)
"""  # noqa: S608 - a constant


def given(
    execute: Callable[..., Any], ids: Sequence[str], own_ids: PublicIds, names: Mapping[str, int], seals: Seals
) -> list[Given]:
    """Return those of ``ids`` that lie in the file; ``names`` are the numbers of its platforms."""
    out = RecordsOut(execute, own_ids, seals)
    seqs = [seq for each in ids if (seq := own_ids.callback_number(execute, each)) is not None]
    found: list[Given] = []
    for name, number in names.items():
        chosen = "c.platform = ?1 AND c.seq IN (SELECT value FROM json_each(?2))"
        for record in out.callbacks(number, chosen, json.dumps(seqs)):
            shown = "+a.platform = ?1 AND a.id IN (SELECT value FROM json_each(?2)) ORDER BY a.id"
            attempts = out.attempts(number, shown, json.dumps(record.attempt_ids))
            overtaken = record.overtaken or bool(execute(_NEWER, (record.at,)).get)
            found.append(Given(name, record, attempts, overtaken, sure=True))
    return found
