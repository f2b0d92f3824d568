"""Turns among the groups of a platform: which group's batch goes next, shared by all stores.

Each group that waits gets one batch per round, however much another has queued; a group that is stopped, or whose
slots are taken, is passed over and holds nobody up. Inside its turn a group packs by lanes as a platform without
groups does. Nothing is kept but the group served last.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from relay.core.model import Batch, ClaimRequest, Lane, WaitUntil
from relay.policy.batching import turn_of
from relay.store.slots import Slots

# Groups that are asked for a full batch while partial ones must wait; asking each of a thousand would cost a
# thousand reads per claim, and the others have their turn with the next slot.
_ASKED = 8
_IDLE = WaitUntil(math.inf, "idle")


class Waiting(NamedTuple):
    """A group with something to send, now or later; times may be infinite."""

    group: str
    head_at: float  # when its first callback is due
    resend_at: float  # when its first frozen batch is due


def rotate(
    request: ClaimRequest,
    now: float,
    *,
    groups: Iterable[Waiting],
    slots: Slots,
    claim: Callable[[ClaimRequest], Batch | WaitUntil],
) -> Batch | WaitUntil:
    """Claim for the first of ``groups`` that may send; else say until when to wait, the earliest time over all.

    ``groups`` come in the order of their turns and are drawn only as far as needed. ``claim`` does it for the one group
    of the request it is given; slots were asked for before.
    """
    waits: list[WaitUntil] = []
    asked = 0
    asks_slots = True
    pace_at = 0.0
    for group, head_at, resend_at in groups:
        due_at, opens_at = min(head_at, resend_at), request.closed.get(group, 0.0)
        if due_at > now or opens_at > now:
            waits.append(WaitUntil(opens_at, "throttled") if opens_at > due_at else WaitUntil(due_at, "retry"))
            continue
        if asks_slots:
            shared = slots.ready(request.platform, None, now)
            if shared is not None:
                return shared
            asks_slots, pace_at = False, slots.partial_at(request.platform, None, now)
        refused = slots.ready(request.platform, group, now)
        if refused is not None:
            waits.append(refused)
            continue
        own = _request_of(request, group)
        if asked >= _ASKED and not own.probe and resend_at > now:
            partial_at = max(slots.partial_at(request.platform, group, now), head_at + request.linger_s)
            if partial_at > now:
                waits.append(WaitUntil(partial_at, "pace"))
                if pace_at > now:
                    break  # it holds for all that follow
                continue
        claimed = claim(own)
        if isinstance(claimed, Batch):
            return claimed
        waits.append(claimed)
        asked += 1
    return _earliest(waits, only_full=pace_at > now)


def _request_of(request: ClaimRequest, group: str) -> ClaimRequest:
    """Return the request for one group in its turn; the first after a stop is a probe, or tests what was refused."""
    tests = request.resuming.get(group)
    if tests is None or request.probe:
        return replace(request, group=group)
    if tests:
        return replace(request, group=group, turn=turn_of(Lane.RETRY))
    return replace(request, group=group, probe=True)


def _earliest(waits: list[WaitUntil], *, only_full: bool) -> WaitUntil:
    """Return the first wait to end. More callbacks may end it early: of a group that does not wait, or to fill one."""
    first = min(waits, key=lambda wait: wait.at, default=_IDLE)
    if first is _IDLE:
        return first
    missing = [wait.missing for wait in waits if wait.missing] if only_full else []
    return replace(first, missing=min(missing, default=1))
