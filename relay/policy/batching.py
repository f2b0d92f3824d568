"""What goes into a batch: which lane leads, and when it is full."""

from collections.abc import Sequence
from zlib import crc32

from relay.core.model import ClaimRequest, Lane

# Batch number n is led by the lane _LEADERS[n % 10]. Each lane but HIGH leads one batch in ten, whatever the others
# bring (SPEC 6), and so waits for nine batches at most.
_LEADERS = (
    Lane.HIGH,
    Lane.NORMAL,
    Lane.HIGH,
    Lane.RETRY,
    Lane.HIGH,
    Lane.REPLAY,
    Lane.HIGH,
    Lane.LOW,
    Lane.HIGH,
    Lane.HIGH,
)
_ORDERS = tuple((leader, *(lane for lane in Lane if lane is not leader)) for leader in _LEADERS)


def lane_order(turn: int) -> tuple[Lane, ...]:
    """Return the order in which batch number ``turn`` of a platform takes from the lanes."""
    return _ORDERS[turn % len(_ORDERS)]


def turn_of(lane: Lane) -> int:
    """Return a turn that ``lane`` leads."""
    return _LEADERS.index(lane)


def scattered(count: int) -> int:
    """Return a turn for batch number ``count`` of a platform whose groups take turns.

    With a plain count and 10 groups, group 3 would have turn 3 in every round: led by RETRY each time, its other lanes
    would starve. A checksum of the count mixes the turns.
    """
    return crc32(b"%d" % count)


def packing_order(due: Sequence[Lane], *, probe: bool) -> list[Lane]:
    """Return the lanes with something due that a batch takes from; a probe leaves out what was refused before.

    The first request after a stop takes other callbacks where there are any: with the refused ones among them its
    answer would say nothing new.
    """
    fresh: list[Lane] = [lane for lane in due if lane is not Lane.RETRY]
    return fresh if probe and fresh else list(due)


class Packer:
    """Fills one batch up to the items and body bytes (before compression) of a claim request."""

    __slots__ = ("_item_bytes", "_max_bytes", "_max_items", "bytes", "count", "full")

    def __init__(self, request: ClaimRequest) -> None:
        self._max_items = request.max_items
        self._max_bytes = request.max_bytes
        self._item_bytes = request.item_bytes
        self.count = 0
        self.bytes = request.frame_bytes
        self.full = False

    def offer(self, size: int) -> bool:
        """Take an item of ``size`` payload bytes, or say that it does not fit; then the batch is full.

        An item too large for any batch goes alone: limits may have shrunk since it was accepted.
        """
        if self.full:
            return False
        grown = self.bytes + size + self._item_bytes
        if self.count and grown > self._max_bytes:
            self.full = True
            return False
        self.count += 1
        self.bytes = grown
        self.full = self.count >= self._max_items or grown >= self._max_bytes
        return True

    def offer_all(self, sizes: Sequence[int]) -> bool:
        """Take all items of ``sizes`` at once if none of them would be refused, else none."""
        grown = self.bytes + sum(sizes) + len(sizes) * self._item_bytes
        if self.full or grown > self._max_bytes or self.count + len(sizes) > self._max_items:
            return False
        self.count += len(sizes)
        self.bytes = grown
        self.full = self.count >= self._max_items or grown >= self._max_bytes
        return True

    @property
    def missing(self) -> int:
        """How many more items would make the batch full by count; 0 when it is full."""
        return 0 if self.full else self._max_items - self.count
