"""What a batch weighs in windows of items, bytes and points, and how much of one may go now. Shared by the stores."""

from collections.abc import Sequence
from typing import NamedTuple

from relay.core.model import ClaimRequest, WaitUntil, Weight
from relay.store.slots import Slots


class ItemWeight(NamedTuple):
    """One callback: its bytes in a body without the envelope's part, and its points."""

    bytes: int
    points: int


class Chosen(NamedTuple):
    """So many of the offered callbacks go, and weigh this."""

    taken: int
    weight: Weight


def weigh(request: ClaimRequest, items: Sequence[ItemWeight]) -> Weight:
    """Return what a request with these callbacks weighs at the most: its body before compression."""
    size = request.frame_bytes + sum(item.bytes + request.item_bytes for item in items)
    return Weight(1, len(items), size, sum(item.points for item in items))


def choose(slots: Slots, request: ClaimRequest, items: Sequence[ItemWeight], now: float) -> Chosen | WaitUntil:
    """Return how many of the callbacks, from the first on, a fresh batch takes; or until when to wait for room.

    All where they fit. Else it waits, at the pace of the windows, and then takes what fits.
    """
    platform, group = request.platform, request.group
    whole = weigh(request, items)
    left = slots.left(platform, group, now)
    if _fits(whole, left):
        return Chosen(len(items), whole)
    if not request.probe:
        at = min(slots.cut_at(platform, group, whole, now), slots.fits_at(platform, group, whole, now))
        if at > now:
            return WaitUntil(at, "limit")
    count = _most(request, items, left)
    if count:
        return Chosen(count, weigh(request, items[:count]))
    first = weigh(request, items[:1])
    at = slots.fits_at(platform, group, first, now)
    return WaitUntil(at, "limit") if at > now else Chosen(1, first)  # heavier than a window that was lowered meanwhile


def weigh_again(slots: Slots, request: ClaimRequest, items: Sequence[ItemWeight], now: float) -> Weight | WaitUntil:
    """Return what a frozen batch weighs; or until when it waits: it goes as it is."""
    weight = weigh(request, items)
    at = slots.fits_at(request.platform, request.group, weight, now)
    return weight if at <= now else WaitUntil(at, "limit")


def _most(request: ClaimRequest, items: Sequence[ItemWeight], left: dict[str, int]) -> int:
    """Return how many of the callbacks, from the first on, fit into what is left."""
    size, points = request.frame_bytes, 0
    for count, item in enumerate(items, 1):
        size += item.bytes + request.item_bytes
        points += item.points
        if not _fits(Weight(1, count, size, points), left):
            return count - 1
    return len(items)


def _fits(weight: Weight, left: dict[str, int]) -> bool:
    return all(getattr(weight, unit) <= free for unit, free in left.items())
