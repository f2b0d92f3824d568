"""Room in the file: how many pages are used, what may go early, and when a post must be refused."""

from collections.abc import Callable, Sequence

from relay.core.errors import StoreFull
from relay.store.sqlite.connection import PAGE_BYTES
from relay.store.sqlite.transaction import Transaction

_PAGES = "SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)"
# A row's own cost beside its payload: its row, its entries in five indexes, and pages that are not quite full.
_ROW_FACTOR = 1.3
_RESERVE_BYTES = 8 * 1024 * 1024  # for claims, settles and pruning when nothing more is accepted
_RESERVE_SHARE = 0.02
_RESERVE_MOST_SHARE = 0.25  # of a store too small for that reserve
_LOOK_EVERY_BYTES = 1024 * 1024  # the pages are counted again after so many accepted bytes
_EARLY_STEPS = 8  # of pruning within one group; the rest follows in the next


class Space:
    """Admits posts while there is room. On the writer thread."""

    def __init__(self, make_room: Callable[[Transaction], int]) -> None:
        """``make_room`` deletes one step of delivered or superseded rows and returns how many."""
        self.max_bytes: int | None = None  # of used pages; None: no bound
        self._make_room = make_room
        self._used_bytes = 0
        self._unseen_bytes = float("inf")

    @property
    def _usable_bytes(self) -> float:
        assert self.max_bytes is not None
        reserve = max(_RESERVE_BYTES, self.max_bytes * _RESERVE_SHARE)
        return self.max_bytes - min(reserve, self.max_bytes * _RESERVE_MOST_SHARE)

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
        if (
            self._unseen_bytes >= _LOOK_EVERY_BYTES
            or self._used_bytes + self._unseen_bytes + total > self._usable_bytes
        ):
            self.used_bytes(transaction)
        steps = 0
        while self._used_bytes + total > self._usable_bytes and steps < _EARLY_STEPS:
            if not self._make_room(transaction):
                break
            self.used_bytes(transaction)
            steps += 1
        room = self._usable_bytes - self._used_bytes - self._unseen_bytes
        refusals: list[StoreFull | None] = []
        for size in wanted:
            if size > room:
                refusals.append(
                    StoreFull(
                        f"the store uses {self._used_bytes} of {self.max_bytes} bytes, all of it undelivered or dead "
                        "callbacks that must be kept; raise store.max_size, or drop dead letters"
                    )
                )
            else:
                room -= size
                self._unseen_bytes += size
                refusals.append(None)
        return refusals
