"""Claims whose answer did not come: they may be recorded, so they are asked for again before anything else.

A claim took its slot before it was sent, and keeps it. The slot goes with the lease: where that was lost meanwhile and
is ours again, the claim waits for a slot like any other, and is then asked for again. What the server has of it may
have been ended by a take-over; then it is given up.
"""

from collections import defaultdict
from typing import Generic, Protocol, TypeVar

from relay.core.model import Purpose, WaitUntil, Weight
from relay.store.slots import Slots


class Claim(Protocol):
    """What is known of a claim that was sent."""

    platform: str
    group: str
    attempt_id: int
    question: bool  # of a request without callbacks
    weight: Weight


_C = TypeVar("_C", bound=Claim)


class LostClaims(Generic[_C]):
    """Those of the platforms of this host."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._kept: defaultdict[tuple[str, bool], list[_C]] = defaultdict(list)

    def keep(self, claim: _C) -> None:
        """Keep a claim whose answer did not come."""
        self._kept[claim.platform, claim.question].append(claim)

    def next(self, platform: str, *, question: bool, now: float) -> _C | WaitUntil | None:
        """Return the claim to ask for again, with its slot; until when it waits for one; or None without any."""
        kept = self._kept.get((platform, question))
        if not kept:
            return None
        claim = kept[0]
        if not self._slots.holds(claim.attempt_id):
            wait = self._slots.ready(platform, claim.group, now)
            fits_at = self._slots.fits_at(platform, claim.group, claim.weight, now)
            if wait is not None or fits_at > now:
                return wait or WaitUntil(fits_at, "limit")
            purpose = Purpose.READ_BACK if question else Purpose.FIRST
            self._slots.take(platform, claim.group, claim.attempt_id, now, purpose, claim.weight)
        return kept.pop(0)
