"""Public ids of callbacks and batches: mostly they follow from the number here.

What was copied from another store keeps the id that was given out there; a table has it. Its numbers all lie before
those of what came later, so only they are looked up.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
import msgspec

from relay.core.ids import decode_id, encode_id, encode_ids, written_id
from relay.store.sqlite.file.transaction import numbers

CALLBACK: Final = 0
BATCH: Final = 1
_ANY: Final = 1 << 62
Execute = Callable[..., Any]

_ONE = "SELECT id FROM alias WHERE kind = ? AND here = ?"
_MANY = """
SELECT json_group_array(json_array(a.value, i.id)) FROM carray(?1) AS a
  CROSS JOIN alias AS i ON i.kind = 0 AND i.here = a.value
"""
_HERE = "SELECT here FROM alias WHERE kind = ? AND id = ?"
_decode = msgspec.json.Decoder(list[tuple[int, str]]).decode


class PublicIds:
    """The ids of one file; ``execute`` is that of any connection to it."""

    def __init__(self, tag: int, last: tuple[int, int] = (0, 0)) -> None:
        """``last``: the highest number with an id from elsewhere, of callbacks and of batches; 0: there is none."""
        self.tag = tag
        self._last = last

    def expect_more(self) -> None:
        """Look every number up from now on: ids from elsewhere keep coming."""
        self._last = (_ANY, _ANY)

    def callback(self, execute: Execute, seq: int) -> str:
        """Return the id of a callback."""
        return self._one(execute, CALLBACK, seq)

    def callbacks(self, execute: Execute, seqs: Sequence[int]) -> list[str]:
        """Return the ids of callbacks, in their order."""
        ids = encode_ids(seqs, self.tag)
        if self._last[CALLBACK] and seqs and min(seqs) <= self._last[CALLBACK]:
            kept = dict(_decode(execute(_MANY, (numbers(seqs),)).get))
            return [kept.get(seq, own) for seq, own in zip(seqs, ids, strict=True)]
        return ids

    def batch(self, execute: Execute, number: int) -> str:
        """Return the id of a batch."""
        return "b" + self._one(execute, BATCH, number)

    def callback_number(self, execute: Execute, text: str) -> int | None:
        """Return the sequence number of an id; None if it is none of this file."""
        return self._number(execute, CALLBACK, text)

    def batch_number(self, execute: Execute, text: str) -> int | None:
        """Return the number of a batch."""
        return self._number(execute, BATCH, text[1:])

    def _one(self, execute: Execute, kind: int, number: int) -> str:
        kept = execute(_ONE, (kind, number)).get if number <= self._last[kind] else None
        return encode_id(number, self.tag) if kept is None else str(kept)

    def _number(self, execute: Execute, kind: int, text: str) -> int | None:
        found = execute(_HERE, (kind, written_id(text))).get if self._last[kind] else None
        return decode_id(text, self.tag) if found is None else int(found)


def ids_of(connection: apsw.Connection) -> PublicIds:
    """Return the ids of a file."""
    tag = connection.execute("SELECT value FROM meta WHERE name = 'tag'").get
    last = [
        connection.execute("SELECT coalesce(max(here), 0) FROM alias WHERE kind = ?", (kind,)).get
        for kind in (CALLBACK, BATCH)
    ]
    return PublicIds(tag, (last[0], last[1]))
