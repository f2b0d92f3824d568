"""Numbers of what is copied into a file, and the ids that it keeps from where it comes from.

A number stays what it was where it is free, so that times and order follow from it as ever. Platforms of a server
number their callbacks apart from each other: where two have the same, the later one takes the next that is free.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from relay.core.ids import number_in
from relay.store.sqlite.file.foreign.public_ids import BATCH, CALLBACK

_HERE: Final = "SELECT here FROM alias WHERE kind = ? AND id = ?"
_ADD: Final = "INSERT INTO alias (kind, here, id) VALUES (?, ?, ?)"
_TAKEN: Final = "SELECT EXISTS (SELECT 1 FROM alias WHERE kind = ? AND here = ?)"
_THERE: Final = """
SELECT a.id, a.here FROM json_each(?) AS j CROSS JOIN alias AS a ON a.kind = 0 AND a.id = j.value
"""


class Numbering:
    """Gives numbers; inside the transaction of ``execute``."""

    def __init__(self, execute: Callable[..., Any]) -> None:
        self._execute = execute

    def place(self, callback_id: str, wanted: int, after: int) -> int:
        """Return the number for a new callback: at least ``wanted``, behind ``after``, which nobody has."""
        return self._add(CALLBACK, callback_id, max(wanted, after + 1))

    def kept_place(self, callback_id: str, wanted: int) -> int:
        """Return the number of a callback that may have one already, as what stands for another; else ``wanted``."""
        known: int | None = self._execute(_HERE, (CALLBACK, callback_id)).get
        return self._add(CALLBACK, callback_id, wanted) if known is None else known

    def callback(self, callback_id: str) -> int:
        """Return the number of a callback; of one that is not kept the number that stands for its id."""
        known: int | None = self._execute(_HERE, (CALLBACK, callback_id)).get
        return self._add(CALLBACK, callback_id, number_in(callback_id)) if known is None else known

    def callback_there(self, callback_id: str) -> int | None:
        """Return the number of a callback that was copied, or None."""
        known: int | None = self._execute(_HERE, (CALLBACK, callback_id)).get
        return known

    def holds(self, callback_id: str) -> bool:
        """Say whether a callback lies here."""
        seq = self.callback_there(callback_id)
        return bool(self._execute("SELECT EXISTS (SELECT 1 FROM callback WHERE seq = ?)", (seq,)).get)

    def there(self, ids: Sequence[str]) -> list[int]:
        """Return the numbers of those callbacks that were copied, in their order."""
        known = dict(self._execute(_THERE, (msgspec.json.encode(ids).decode(),)))
        return [known[each] for each in ids if each in known]

    def batch(self, batch_id: str) -> int:
        """Return the number of a batch."""
        text = batch_id[1:]
        known: int | None = self._execute(_HERE, (BATCH, text)).get
        return self._add(BATCH, text, number_in(text)) if known is None else known

    def _add(self, kind: int, text: str, number: int) -> int:
        while self._execute(_TAKEN, (kind, number)).get:
            number += 1
        self._execute(_ADD, (kind, number, text))
        return number
