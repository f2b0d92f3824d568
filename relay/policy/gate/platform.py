"""May this platform be talked to now? Four things can say no:

1. a pause, by an operator, until an operator ends it or its time is over;
2. a wait after a throttle: for as long as the platform asked, else for a growing time;
3. a backoff after failures;
4. the breaker, which lets one probe through every ``probe_every``.

A gate stops the *platform*, never a callback: what waits behind it keeps its place in the queue. After a stop one
request goes alone (``resuming``), with other callbacks than the refused ones where there are any. When it is not
refused, the others follow.

Where a platform has groups (shops), a throttle stops only the group that drew it, and an operator may pause single
ones (``orders.py``). Failures and breaker are the platform's. ``Gate.of`` gives the gate as the batches of one group
meet it.
"""

import math
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from operator import attrgetter

from relay.core.model import Batch
from relay.core.raw import Kept
from relay.policy.coding import Coding
from relay.policy.gate.breaker import Breaker
from relay.policy.gate.group_stops import GroupStops
from relay.policy.gate.orders import GroupOrders
from relay.policy.gate.stop import Stop, StopCause
from relay.policy.gate.suspicion import Suspicion

_KEPT_OF = attrgetter(
    *("stopped_until", "stop_reason", "throttled", "level", "resuming", "since"),
    *("paused", "pause_reason", "paused_at", "paused_until", "coding.plain", "coding.proven"),
    *("breaker.is_open", "breaker.failures", "breaker.reason", "breaker.probe_at", "breaker.opened_at"),
)


@dataclass(slots=True)
class Gate(Stop):
    """One platform's gate. It is itself the stop that holds for all of the platform's groups."""

    breaker: Breaker
    paused: bool = False
    pause_reason: str = ""
    paused_at: float = 0.0
    paused_until: float = math.inf
    last_accepted_at: float = 0.0
    coding: Coding = field(default_factory=Coding)
    groups: GroupStops = field(init=False)
    orders: GroupOrders = field(default_factory=GroupOrders)  # what operators said of single groups

    def __post_init__(self) -> None:
        """Begin with no group stopped."""
        self.groups = GroupStops(self.base_s, self.cap_s)

    def pause(self, reason: str, at: float, *, until: float = math.inf) -> None:
        """Let nothing more be claimed until ``resume`` or ``until``; ``at``: when an operator asked for it first."""
        self.paused, self.pause_reason, self.paused_at, self.paused_until = True, reason, at, until

    def lapse(self, now: float) -> None:
        """End the pauses whose time is over."""
        self.orders.lapse(now)
        if self.paused and self.paused_until <= now:
            self.resume(now)

    def resume(self, now: float) -> None:
        """End a pause or, where there is none, every stop and the wait for a probe: the operator knows better."""
        if self.paused:
            self.paused, self.pause_reason, self.paused_until = False, "", math.inf
            return
        self.stopped_until = min(self.stopped_until, now)
        self.groups.release(now)
        self.breaker.probe_soon(now)

    def closed(self, now: float, under_way: Collection[str]) -> tuple[dict[str, float], dict[str, bool]]:
        """Return which groups take no turn, as ``GroupStops.closed``: those that are paused neither."""
        closed, resuming = self.groups.closed(now, under_way)
        if self.orders.pauses:
            paused = {group: max(each.until, closed.get(group, 0.0)) for group, each in self.orders.pauses.items()}
            closed = {**closed, **paused}
        return closed, resuming

    def expect_wait(self, patience_s: float) -> None:
        """After a second refusal in a row wait at least about ``patience_s``: the known limit opens no sooner."""
        self.patience_s = patience_s

    def opens_at(self, now: float) -> float:
        """Return when a request may be claimed: ``now`` or earlier means at once, infinity means by an operator."""
        return self.paused_until if self.paused else self.ends_at(now)

    def ends_at(self, now: float) -> float:
        """Return when stop and breaker let a request go, a pause aside."""
        at = max(now, self.stopped_until)
        return max(at, self.breaker.probe_at) if self.breaker.is_open else at

    @property
    def wait_reason(self) -> str:
        """What closes it until ``opens_at``, in a word."""
        if self.paused:
            return "paused"
        return "breaker" if self.breaker.is_open else "throttled"

    @property
    def single_file(self) -> bool:
        """Whether only one request may be under way: a probe, or the first after a stop."""
        return self.resuming or self.breaker.is_open

    def accepted(self, now: float) -> None:
        """An item got through: stops and failures are over."""
        self.end()
        self.last_accepted_at = now
        self.breaker.accepted()

    def answered(self) -> None:
        """The platform answered without accepting or refusing to be talked to: a stop is over, failures are not."""
        self.resuming = False

    def failed(self, cause: StopCause, rng: random.Random, *, back_off: bool) -> None:
        """Count a platform-level failure; with ``back_off`` the platform is also left alone for a growing time."""
        self.breaker.failed(cause.now, cause.reason, rng)
        if back_off:
            # With the breaker open the next probe goes at its time, however long the backoff has grown.
            at_most = self.breaker.probe_at if self.breaker.is_open else math.inf
            self.back_off(cause, rng, at_most=at_most)

    def of(self, batch: Batch, *, scope: str) -> "GroupGate":
        """Return the gate as ``batch`` meets it; ``scope`` (group or platform) is what a throttle stops."""
        return GroupGate(self, batch, whole=scope == "platform" or not batch.group)

    def first_after_stop(self, group: str) -> bool:
        """Return whether a request of ``group`` sent now is the first after a stop, the platform's or its own."""
        return self.resuming or self.groups.resumes(group)

    def dump(self) -> Kept:
        """Return what a restart must know; ``last_accepted_at`` may lag behind, which only delays a dead letter.

        "groups" holds the stops of groups and is missing where there are none.
        """
        groups = self.groups.dump()
        return {**self.dump_own(), "groups": groups} if groups else self.dump_own()

    def dump_own(self) -> Kept:
        """Return the same without the groups, whose changes are kept one by one (``GroupStops.take_changes``)."""
        return {
            **self.dump_stop(),
            **dump_pause(self.paused, self.pause_reason, self.paused_at, self.paused_until),
            "last_accepted_at": self.last_accepted_at,
            "plain": self.coding.plain,
            "compressed": self.coding.proven,
            "breaker": self.breaker.dump(),
            **({"orders": orders} if (orders := self.orders.dump()) else {}),
        }

    def mark(self) -> tuple[object, ...]:
        """Return what ``dump_own`` is made of but ``last_accepted_at``: two that are equal make the same dump.

        Making and comparing the dumps themselves takes three times as long, at every answer.
        """
        orders = self.orders
        return *_KEPT_OF(self), orders.dump() if orders.pauses or orders.limits else None

    def load(self, kept: Kept) -> None:
        """Continue from ``dump``; keys of another version that are missing keep their start values."""
        self.paused = bool(kept.get("paused", False))
        self.pause_reason = str(kept.get("pause_reason", ""))
        self.paused_at = float(kept.get("paused_at", 0.0))
        until = kept.get("paused_until")
        self.paused_until = math.inf if until is None else float(until)
        self.load_stop(kept)
        self.last_accepted_at = float(kept.get("last_accepted_at", 0.0))
        self.coding = Coding(bool(kept.get("plain", False)), bool(kept.get("compressed", False)))
        self.breaker.load(kept.get("breaker", {}))
        self.groups.load(kept.get("groups", {}))
        self.orders = GroupOrders.load(kept.get("orders", {}))


def dump_pause(paused: bool, reason: str, at: float, until: float) -> Kept:
    """Return the part of ``Gate.dump`` that says whether the platform is paused, why, since when and until when."""
    ends = None if until == math.inf else until
    return {"paused": paused, "pause_reason": reason, "paused_at": at, "paused_until": ends}


class GroupGate:
    """A platform's gate as one batch meets it: throttles go to its group's stop, everything else to the platform."""

    __slots__ = ("_batch", "_platform", "_stop", "_whole", "breaker")

    def __init__(self, platform: Gate, batch: Batch, *, whole: bool) -> None:
        self.breaker = platform.breaker
        self._platform = platform
        self._batch = batch
        self._whole = whole
        self._stop = platform.groups.get(batch.group)

    @property
    def suspicion(self) -> Suspicion:
        """What is known against the items behind the same stop."""
        return self._platform.suspicion if self._whole else self._stop.suspicion

    @property
    def last_accepted_at(self) -> float:
        """When the platform last accepted anything."""
        return self._platform.last_accepted_at

    @property
    def stopped_until(self) -> float:
        """When the stops of platform and group are over."""
        return max(self._platform.stopped_until, self._stop.stopped_until)

    def opens_at(self, now: float) -> float:
        """Return when the batch's items may go again; a pause leaves them due."""
        return max(self._platform.ends_at(now), self._stop.stopped_until)

    @property
    def coding(self) -> Coding:
        """What is known of compressed bodies at the platform."""
        return self._platform.coding

    def accepted(self, now: float) -> None:
        """An item got through: stops and failures are over. It also counts for the suspicion of group and platform."""
        self._platform.accepted(now)
        if self._stop.level or self._stop.resuming:  # a hold is neither, and ends at its time
            self._stop.end()
            self._platform.groups.ended(self._batch.group)
        if not self._whole:
            self._platform.suspicion.accepted(item.seq for item in self._batch.items)

    def answered(self) -> None:
        """The platform answered without accepting or refusing to be talked to: a stop is over, failures are not."""
        self._platform.answered()
        self._stop.resuming = False
        self._platform.groups.ended(self._batch.group)

    def throttle(self, cause: StopCause, rng: random.Random) -> None:
        """Stop the group; or the platform, when the answer was about it or too many of its groups are stopped."""
        group, groups = self._batch.group, self._platform.groups
        stop: Stop = self._stop
        if self._whole or groups.full(group, cause.now):
            stop = self._platform
        else:
            groups.keep(group, stop)
        stop.patience_s = self._platform.patience_s
        stop.throttle(cause, rng)

    def hold(self, cause: StopCause, rng: random.Random) -> None:
        """Wait because an accepted answer said that nothing is left: the group, or the platform if it was about it."""
        if not cause.wait_s:
            return
        if self._whole:
            self._platform.hold(cause, rng)
        elif self._platform.groups.hold(self._batch.group, self._stop):
            self._stop.hold(cause, rng)

    def rest(self, now: float, *, wait_s: float, reason: str) -> None:
        """Leave the platform alone for a moment, for a reason of our own."""
        self._platform.rest(now, wait_s=wait_s, reason=reason)

    def failed(self, cause: StopCause, rng: random.Random, *, back_off: bool) -> None:
        """Count a failure of the platform."""
        self._platform.failed(cause, rng, back_off=back_off)
