"""Room in the file: how many pages are used, what may go early, and when a post must be refused."""

from collections.abc import Callable, Sequence
from typing import Any

from relay.core.errors import StoreFull
from relay.store.sqlite.file.checksums import PAGE_BYTES
from relay.store.sqlite.file.transaction import Transaction
from relay.views.queue import StoreSize

_PAGES = "SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)"
# A row's own cost beside its payload: its row, its entries in five indexes, and pages that are not quite full.
_ROW_FACTOR = 1.3
_RESERVE_BYTES = 8 * 1024 * 1024  # for claims, settles and pruning when nothing more is accepted
_RESERVE_SHARE = 0.02
_RESERVE_MOST_SHARE = 0.25  # of a store too small for that reserve
_LOOK_EVERY_BYTES = 1024 * 1024  # the pages are counted again after so many accepted bytes
# Whether delivered or superseded rows are there, which would go first.
_MAY_GO = """SELECT EXISTS (SELECT 1 FROM callback INDEXED BY callback_ended WHERE state = 1 AND state > 0)
  OR EXISTS (SELECT 1 FROM callback INDEXED BY callback_ended WHERE state = 4 AND state > 0)"""
_EARLY_STEPS = 8  # of pruning within one group; the rest follows in the next


def usable_bytes(max_bytes: int) -> float:
    """Return how much of ``max_bytes`` posts may use: all but the reserve."""
    reserve = max(_RESERVE_BYTES, max_bytes * _RESERVE_SHARE)
    return max_bytes - min(reserve, max_bytes * _RESERVE_MOST_SHARE)


def room(execute: Callable[[str], Any], max_bytes: int | None, *, refused_bytes: int = 0) -> StoreSize:
    """Return how much room live pages use (the WAL's too).

    ``execute`` runs a statement on any connection. Full is what would be refused now: a post of one page, or of
    the ``refused_bytes`` last refused.
    """
    used = execute(_PAGES).get * PAGE_BYTES
    if max_bytes is None:
        return StoreSize(used, max_bytes=0, usable_bytes=0, full=False)
    usable = int(usable_bytes(max_bytes))
    full = used + max(PAGE_BYTES, refused_bytes) > usable and not execute(_MAY_GO).get
    return StoreSize(used, max_bytes=max_bytes, usable_bytes=usable, full=full)


class Space:
    """Admits posts while there is room. On the writer thread."""

    def __init__(self, make_room: Callable[[Transaction], int]) -> None:
        """``make_room`` deletes one step of delivered or superseded rows and returns how many."""
        self.max_bytes: int | None = None  # of used pages; None: no bound
        self.refused_bytes = 0  # by the smallest post refused since one of its size was taken; read on the loop
        self._make_room = make_room
        self._used_bytes = 0
        self._unseen_bytes = float("inf")

    def used_bytes(self, transaction: Transaction) -> int:
        """Count the live pages."""
        self._used_bytes = transaction.execute(_PAGES).get * PAGE_BYTES
        self._unseen_bytes = 0
        return self._used_bytes

    def admit(self, transaction: Transaction, sizes: Sequence[int]) -> list[StoreFull | None]:
        """Say of each post, given by its payload bytes, whether it is refused. Deletes what may go early first."""
        if self.max_bytes is None:
            return [None] * len(sizes)
        wanted = [size * _ROW_FACTOR for size in sizes]
        total = sum(wanted)
        usable = usable_bytes(self.max_bytes)
        if self._unseen_bytes >= _LOOK_EVERY_BYTES or self._used_bytes + self._unseen_bytes + total > usable:
            self.used_bytes(transaction)
        steps = 0
        while self._used_bytes + total > usable and steps < _EARLY_STEPS:
            if not self._make_room(transaction):
                break
            self.used_bytes(transaction)
            steps += 1
        left = usable - self._used_bytes - self._unseen_bytes
        refusals: list[StoreFull | None] = []
        for size in wanted:
            if size > left:
                self.refused_bytes = min(int(size), self.refused_bytes or int(size))
                refusals.append(
                    StoreFull(
                        f"the store uses {int(usable - left)} of {self.max_bytes} bytes, all of it undelivered or dead "
                        "callbacks that must be kept; raise store.max_size, or drop dead letters"
                    )
                )
            else:
                left -= size
                if size >= self.refused_bytes:
                    self.refused_bytes = 0
                self._unseen_bytes += size
                refusals.append(None)
        return refusals
