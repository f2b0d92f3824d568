"""Slots that others take: recorded in the commit that holds them, so that they count over a crash."""

from collections.abc import Sequence
from functools import partial
from typing import cast

from relay.core.ids import decode_id, encode_id
from relay.core.lending import UNSEEN_S, LentSlots, LimitName, SlotWish
from relay.core.model import Purpose, WaitUntil
from relay.store.quota_lines import Sent
from relay.store.slots import Slots
from relay.store.sqlite.file.transaction import Transaction, Writes

_LEND = "INSERT INTO lent (platform, quota, grp, taken_at, counts_from, done) VALUES (?, ?, ?, ?, ?, ?)"
_OPEN = "SELECT grp, counts_from FROM lent WHERE number = ? AND platform = ? AND quota = ? AND done = 0"
_RECENT = "SELECT number, platform, quota, grp, taken_at, counts_from FROM lent WHERE counts_from > ?"
_LETTER = "s"

_Row = tuple[int, str, str, str, float, float]


class SqliteLending:
    """Implements ``relay.store.lending.Lending``; ``write`` runs a function in a commit."""

    def __init__(self, slots: Slots, *, tag: int, write: Writes) -> None:
        self._slots = slots
        self._tag = tag
        self._write = write

    async def lend(self, wish: SlotWish) -> LentSlots | WaitUntil:
        """Hold slots and record them, or say until when to wait."""
        found: LentSlots | WaitUntil = await self._write(lambda transaction: self._lend(transaction, wish))
        return found

    async def give_back(self, of: LimitName, ids: Sequence[str], *, unused: bool) -> list[LimitName]:
        """Let slots count from now, or no more."""
        numbers = [number for text in ids if (number := self._number(text)) is not None]
        found: list[LimitName] = await self._write(
            lambda transaction: self._give_back(transaction, of, numbers, unused)
        )
        return found

    async def note_sent(self, of: LimitName, count: int) -> bool:
        """Count requests that were sent without slots."""
        found: bool = await self._write(lambda transaction: self._note_sent(transaction, of, count))
        return found

    def _number(self, text: str) -> int | None:
        return decode_id(text[1:], self._tag) if text.startswith(_LETTER) else None

    def _lend(self, transaction: Transaction, wish: SlotWish) -> LentSlots | WaitUntil:
        of, now = wish.of, transaction.now
        if not self._slots.knows(of):
            return WaitUntil(now, "unknown")
        wait = self._slots.ready_for(of, wish.slots, now, waits=wish.waits)
        if wait is not None:
            return wait
        send_by = now + wish.send_within_s
        ids = [self._record(transaction, of, send_by + UNSEEN_S, done=False) for _ in range(wish.slots)]
        return LentSlots(ids, send_by)

    def _record(self, transaction: Transaction, of: LimitName, counts_from: float, *, done: bool) -> str:
        now = transaction.now
        transaction.execute(_LEND, (*of, now, counts_from, int(done)))
        self._slots.lend(of, now, counts_from)
        transaction.on_rollback.append(lambda: self._slots.take_back(of, counts_from, now))
        return _LETTER + encode_id(transaction.connection.last_insert_rowid(), self._tag)

    def _give_back(
        self, transaction: Transaction, limit: LimitName, numbers: Sequence[int], unused: bool
    ) -> list[LimitName]:
        now = transaction.now
        given: list[LimitName] = []
        for number in numbers:
            row = transaction.execute(_OPEN, (number, limit.platform, limit.quota)).fetchone()
            if row is None:
                continue
            group, until = cast(tuple[str, float], row)
            of = limit._replace(group=group)
            given.append(of)
            if unused:
                transaction.execute("DELETE FROM lent WHERE number = ?", (number,))
                transaction.on_commit.append(partial(self._slots.take_back, of, until, now))
            else:
                transaction.execute("UPDATE lent SET done = 1, counts_from = ? WHERE number = ?", (now, number))
                transaction.on_commit.append(partial(self._slots.moved, of, until, now))
        return given

    def _note_sent(self, transaction: Transaction, of: LimitName, count: int) -> bool:
        if not self._slots.knows(of):
            return False
        for _ in range(count):
            self._record(transaction, of, transaction.now, done=True)
        return True


def lent_slots(transaction: Transaction, since: float, *, started_at: float | None) -> list[Sent]:
    """Return the slots that others took and that count from after ``since``.

    ``started_at``: the clock could not be continued over a reboot; then they count from the start.
    """
    bound = since if started_at is None else -1.0
    rows = cast(list[_Row], transaction.execute(_RECENT, (bound,)).fetchall())
    return [
        Sent(number, platform, group, taken, counts if started_at is None else started_at, 0.0, Purpose.EXTERNAL, quota)
        for number, platform, quota, group, taken, counts in rows
    ]


def forget_lent(transaction: Transaction, before: float) -> None:
    """Delete slots that count nowhere any more."""
    transaction.execute(
        "DELETE FROM lent WHERE number IN (SELECT number FROM lent WHERE counts_from < ? LIMIT 500)", (before,)
    )
