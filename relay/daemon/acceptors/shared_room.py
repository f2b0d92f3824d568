"""The room for requests as one account of several processes: a page of memory in which each writes what it holds.

The page is a file without a name, whose descriptor every acceptor gets. Each process has a place of its own there and
only that process writes it, so no lock is needed. What a process reads of the others may be a moment old: then the
account is exceeded by one request at most. Where an acceptor has ended, the daemon clears its place.
"""

import mmap
import os


class SharedRoom:
    """The page, as one process sees it: what ``ingest.room`` calls the others beside it."""

    def __init__(self, descriptor: int, place: int, places: int) -> None:
        """Map the page at ``descriptor``, which has ``places``. This process has the one at ``place``, the daemon 0."""
        self.descriptor = descriptor
        self._page = memoryview(mmap.mmap(descriptor, mmap.PAGESIZE)).cast("q")[:places]
        self._place = place

    def tell(self, held_bytes: int) -> None:
        """Write what this process holds."""
        self._page[self._place] = held_bytes

    def others(self) -> int:
        """Return how many bytes the other processes hold."""
        return sum(self._page) - self._page[self._place]

    def clear(self, place: int) -> None:
        """Forget what a process held that has ended."""
        self._page[place] = 0


def new_room(acceptors: int) -> SharedRoom:
    """Make the page for the daemon and so many acceptors."""
    descriptor = os.memfd_create("relay-room")
    os.ftruncate(descriptor, mmap.PAGESIZE)
    return SharedRoom(descriptor, 0, acceptors + 1)
